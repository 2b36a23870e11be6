"""`lum schema`: a schema proposed from a sample of a log, with comments on what the sample shows, for the user to correct."""

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openlum.prepare.inputs.files import UNKNOWN
from openlum.schema import ImpressionTable
from openlum.schema_wizard.circumstances import find_circumstances
from openlum.schema_wizard.column_profile import iso_date
from openlum.schema_wizard.commented_yaml import format_scalar, render_yaml
from openlum.schema_wizard.draft import SchemaDraft
from openlum.schema_wizard.expected_rejections import expected_rejections, proposed_max_rejected
from openlum.schema_wizard.feedback_rules import holdout_lines, impression_rule_lines
from openlum.schema_wizard.fields import ProposedField, propose_fields
from openlum.schema_wizard.name_hints import Table
from openlum.schema_wizard.requests import request_column
from openlum.schema_wizard.roles import (
    Role,
    are_whole_days,
    find_profile,
    id_role,
    label_role,
    row_column,
    seconds_since_1970,
    time_role,
    time_unit,
    title_column,
    user_or_item_role,
)
from openlum.schema_wizard.table_profile import TableProfile, profile_table

HAS_REQUESTS = "request" in ImpressionTable.model_fields
SAMPLE_ROWS = 100_000
"""Rows of each table that are sampled by default."""


@dataclass(frozen=True)
class Proposal:
    """A proposed schema."""

    text: str
    """The schema as commented YAML."""
    missing: list[str]
    """Keys whose column could not be guessed, such as `events.user`; the text has `???` in their place."""


def propose(
    log: str,
    items: str | None = None,
    users: str | None = None,
    impressions: str | None = None,
    root: Path | None = None,
    rows: int = SAMPLE_ROWS,
) -> Proposal:
    """Return a proposed schema for a log.

    Args:
        log: the event log, Parquet or CSV: a file, a directory of files, or a pattern.
        items: the item table, if there is one.
        users: the user table, if there is one.
        impressions: the impression log, if there is one.
        root: the directory of the schema file, which its paths are relative to; None writes absolute paths.
        rows: how many rows of each table are sampled.

    Raises:
        InputError: a file is missing, unreadable or empty.
    """
    paths: dict[Table, str | None] = {"events": log, "items": items, "users": users, "impressions": impressions}
    tables = {name: profile_table(path, rows, name) for name, path in paths.items() if path is not None}
    events, draft = tables["events"], SchemaDraft(root)
    draft.add_line(0, f"name: {format_scalar(_data_set_name(log))}", "name of the data set")
    user = user_or_item_role(events.columns, "user", _columns_shared_with(events, tables.get("users")))
    item = user_or_item_role(
        events.columns_except(user.column), "item", _columns_shared_with(events, tables.get("items"))
    )
    time = time_role(events.columns_except(user.column, item.column))
    roles = {"user": user, "item": item, "time": time}
    fields = _condition_fields(events, roles, tables.get("impressions"))
    _add_events(draft, events, roles, fields)
    for name in ("items", "users"):
        if name in tables:
            _add_entities(draft, name, tables[name], events, (item if name == "items" else user).column)
    if "impressions" in tables:
        _add_impressions(draft, tables["impressions"], roles, fields, events)
    else:
        draft.lines += impression_rule_lines(fields)
    _add_settings(draft, events, roles, fields)
    head = [
        "Proposed by `lum schema` from a sample of the tables; all counts are of the sample. Check every guess.",
        "To use a line that is commented out, delete its first '# '.",
        *([f"Replace {UNKNOWN} by the name of a column: {', '.join(draft.missing)}."] if draft.missing else []),
    ]
    return Proposal(render_yaml(head, draft.lines), draft.missing)


def _columns_shared_with(events: TableProfile, table: TableProfile | None) -> list[str]:
    """Return the columns of the log that a table has too, with a different value in each of the table's rows."""
    if table is None:
        return []
    names = [profile.name for profile in events.columns]
    return [name for name in names if (profile := find_profile(table.columns, name)) and profile.is_unique]


def _condition_fields(
    events: TableProfile, roles: dict[str, Role], impressions: TableProfile | None
) -> list[ProposedField]:
    """Return the condition fields. Those that are no feedback must be columns of the impression log too."""
    is_own_log = impressions is not None and os.path.abspath(impressions.sample.path) == os.path.abspath(
        events.sample.path
    )
    circumstances = find_circumstances(events, roles, None if is_own_log else impressions)
    fields = propose_fields(events.columns_except(*(role.column for role in roles.values())), "events", circumstances)
    if impressions is None:
        return fields
    impression_columns = {profile.name for profile in impressions.columns}
    reason_commented_out = "not a column of the impressions, which need every condition field but feedback"
    return [
        proposed
        if proposed.reason_commented_out or proposed.feedback or proposed.profile.name in impression_columns
        else ProposedField(proposed.name, proposed.profile, proposed.settings, proposed.comments, reason_commented_out)
        for proposed in fields
    ]


def _add_events(draft: SchemaDraft, events: TableProfile, roles: dict[str, Role], fields: list[ProposedField]) -> None:
    draft.add_line(0, "")
    draft.add_line(0, "events:", f"the behaviour log; {events.description()}")
    draft.add_path(events.sample, "events")
    for key in ("user", "item"):
        draft.add_role("events", key, roles[key], events.columns)
    time = find_profile(events.columns, roles["time"].column)
    if time is None:
        draft.add_role("events", "time", roles["time"], events.columns)
        draft.add_line(1, "time_unit: s", "unit of numeric times since 1970: s, ms, us or ns")
    else:
        seconds = seconds_since_1970(time)
        first, last = seconds.min(), seconds.max()
        is_future = last > datetime.now(UTC).timestamp()
        warning = "; rows with a time in the future are rejected" if is_future else ""
        draft.add_role(
            "events", "time", roles["time"], events.columns, f"{iso_date(first)} to {iso_date(last)} (UTC){warning}"
        )
        if time.kind != "timestamp":
            unit = time_unit(time)
            comment = "dates written as numbers" if unit == "yyyymmdd" else "s, ms, us or ns since 1970"
            draft.add_line(1, f"time_unit: {unit}", f"guess from the size of the numbers: {comment}")
        draft.add_date_order("events", time)
    draft.add_fields("condition", fields)


def _add_entities(
    draft: SchemaDraft,
    name: Literal["items", "users"],
    table: TableProfile,
    events: TableProfile,
    log_column: str | None,
) -> None:
    """Add the item table or the user table; `log_column` is the column of the item or user in the event log."""
    entity: Literal["item", "user"] = "item" if name == "items" else "user"
    draft.add_line(0, "")
    draft.add_line(0, f"{name}:", f"the {entity} table; {table.description()}")
    draft.add_path(table.sample, name)
    role = id_role(table.columns, entity, log_column)
    profile = find_profile(table.columns, role.column)
    comment = ""
    if profile:
        comment = profile.description() + ("" if profile.is_unique else "; rows that repeat an id are rejected")
    draft.add_role(name, "id", role, table.columns, comment)
    title = title_column(table.columns_except(role.column)) if name == "items" else None
    if title:
        draft.add_role(name, "title", Role(title), table.columns)
    if name == "items" and role.column and log_column:
        absent = _fraction_absent(events.sample.table[log_column], table.sample.table[role.column])
        if not table.sample.is_complete:
            draft.add_line(
                1, "complete: true", "not checked; false keeps the events of items that are not in this table"
            )
        elif absent:
            comment = f"{absent:.1%} of the sampled events have an item that is not in this table; true rejects them"
            draft.add_line(1, "complete: false", comment)
        else:
            draft.add_line(1, "complete: true", "this table has the items of all sampled events")
    draft.add_fields("features", propose_fields(table.columns_except(role.column, title), name))


def _fraction_absent(log_column: pa.ChunkedArray, ids: pa.ChunkedArray) -> float:
    """Return the fraction of the log's values that are not among the ids."""
    is_present = pc.is_in(_to_text(log_column), _to_text(ids).unique())
    return float(1 - pc.mean(is_present).as_py())


def _to_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.replace_substring_regex(column.drop_null().cast(pa.string()), r"\.0$", "")


def _add_impressions(
    draft: SchemaDraft,
    impressions: TableProfile,
    roles: dict[str, Role],
    condition: list[ProposedField],
    events: TableProfile,
) -> None:
    """Add the impression log. Columns of the event log keep their roles."""
    draft.add_line(0, "")
    draft.add_line(0, "impressions:", f"the ranker is trained on these; {impressions.description()}")
    draft.add_path(impressions.sample, "impressions")

    def has_column(role: Role) -> bool:
        return find_profile(impressions.columns, role.column) is not None

    user, item = (
        Role(roles[key].column) if has_column(roles[key]) else user_or_item_role(impressions.columns, key)
        for key in ("user", "item")
    )
    remaining = impressions.columns_except(user.column, item.column)
    time = Role(roles["time"].column) if has_column(roles["time"]) else time_role(remaining)
    remaining = [profile for profile in remaining if profile.name != time.column]
    row = row_column(remaining)
    label = label_role([profile for profile in remaining if profile.name != row])
    for key, role in (("user", user), ("item", item)):
        draft.add_role("impressions", key, role, impressions.columns)
    time_profile = find_profile(impressions.columns, time.column)
    event_time = find_profile(events.columns, roles["time"].column)
    units_differ = (
        time_profile
        and event_time
        and "timestamp" not in (time_profile.kind, event_time.kind)
        and time_unit(time_profile) != time_unit(event_time)
    )
    comment = "its unit differs from that of the events' time; write both in one unit" if units_differ else ""
    draft.add_role("impressions", "time", time, impressions.columns, comment)
    draft.add_role("impressions", "label", label, impressions.columns)
    if row:
        draft.add_role("impressions", "row", Role(row), impressions.columns, "a unique integer in every row")
    request = request_column(impressions, {"user": user, "item": item, "time": time, "label": label, "row": Role(row)})
    if request and HAS_REQUESTS:
        draft.add_role(
            "impressions", "request", Role(request), impressions.columns, "rows of one value were shown together"
        )
    used = {proposed.profile.name for proposed in condition if not proposed.reason_commented_out or proposed.feedback}
    context = [profile for profile in remaining if profile.name not in {row, request, label.column} | used]
    circumstances = find_circumstances(impressions, {"user": user, "item": item, "time": time, "label": label})
    draft.add_fields("context", propose_fields(context, "impressions", circumstances))


def _add_settings(
    draft: SchemaDraft, events: TableProfile, roles: dict[str, Role], fields: list[ProposedField]
) -> None:
    """Add the keys that follow the tables: time fields, holdout, splits and limits."""
    time = find_profile(events.columns, roles["time"].column)
    is_daily = time is not None and are_whole_days(time)
    time_fields: list[Any] = ["weekday", "gap"] if is_daily else ["hour", "weekday", "gap"]
    draft.add_line(0, "")
    reason = "no hour, since all times are whole days" if is_daily else "hour (UTC), weekday, gap since the last event"
    draft.add_line(0, f"time_fields: [{', '.join(time_fields)}]", f"time as further condition fields: {reason}")
    draft.add_line(0, f"gap_unit: {'d' if is_daily else 's'}", "the gap counts whole seconds, hours or days: s, h or d")
    draft.lines += holdout_lines(fields)
    draft.add_line(0, "")
    draft.add_line(0, "splits:", "by time, as fractions of the time-ordered events")
    draft.add_line(1, "valid: 0.8", "start of the validation period")
    draft.add_line(1, "test: 0.9", "start of the test period")
    draft.add_line(0, "")
    earliest = iso_date(float(np.min(seconds_since_1970(time)))) if time is not None else "1990-01-01"
    rejections = expected_rejections(events, roles, fields)
    max_rejected = proposed_max_rejected(rejections)
    comment = "`lum prepare` stops if it rejects more than this part of a table's rows"
    for rejection in rejections:
        draft.add_line(0, "", f"{rejection.words}.")
    if max_rejected != "1%":
        comment = "raised from 1% because of these rows; lower it again if you correct them"
    draft.add_line(0, f"max_rejected: {max_rejected}", comment)
    draft.add_line(
        0, f"earliest: {earliest}", "first date of the sample; rows before this date are rejected", commented_out=True
    )
    draft.add_line(
        0, "latest: 2100-01-01", "rows after this date are rejected; by default, rows after now", commented_out=True
    )
    draft.add_line(
        0,
        "max_user_events: 100000",
        "users with more events are rejected, such as robots and shared accounts",
        commented_out=True,
    )


def _data_set_name(path: str) -> str:
    """Return a name for the data set: of the log's file, or of its directory if the file has a generic name."""
    whole_path = Path(os.path.abspath(path))
    generic = {"events", "event", "log", "logs", "data", "interactions", "ratings", "train", "part-0", "behaviors"}
    for part in (whole_path, *whole_path.parents[:3]):
        stem = re.sub(r"(\.parquet|(\.csv|\.tsv)(\.gz)?)$", "", part.name)
        if stem and stem.lower() not in generic and not any(mark in stem for mark in "*?["):
            return stem
    return "data"
