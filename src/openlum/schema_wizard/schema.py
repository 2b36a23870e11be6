"""`lum schema`: a schema proposed from a sample of a log, with comments on what was seen, to be mended by its owner."""

import math
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openlum.schema_wizard.draft import Draft, LookedAt
from openlum.schema_wizard.facts import day, look
from openlum.schema_wizard.fields import Field, propose_fields
from openlum.schema_wizard.lines import render, scalar
from openlum.schema_wizard.roles import (
    UNKNOWN,
    Role,
    by_name,
    id_role,
    key_role,
    label_role,
    row_role,
    seconds,
    time_role,
    title_role,
    unit,
    whole_days,
)
from openlum.schema_wizard.rules import holdout_lines, rule_lines
from openlum.schema_wizard.sample import take_sample

SAMPLE = 100_000
"""Rows looked at in each table."""


@dataclass(frozen=True)
class Proposal:
    """A proposed schema."""

    text: str
    """YAML."""
    missing: list[str]
    """Keys whose column could not be guessed: `???` stands there."""


def propose(
    log: str,
    items: str | None = None,
    users: str | None = None,
    impressions: str | None = None,
    root: Path | None = None,
    rows: int = SAMPLE,
) -> Proposal:
    """Propose a schema for a log.

    Args:
        log: the event log, Parquet or CSV: a file, a directory of them, or a pattern.
        items: the item table, if there is one.
        users: the user table, if there is one.
        impressions: the impression log, if there is one.
        root: the directory of the schema file, which its paths are relative to; without it they are absolute.
        rows: how many rows of each table are looked at.

    Raises:
        InputError: a file is missing, unreadable or empty.
    """
    tables = {"events": log, "items": items, "users": users, "impressions": impressions}
    looked = {name: _look(path, rows) for name, path in tables.items() if path is not None}
    events, draft = looked["events"], Draft(root)
    draft.add(0, f"name: {scalar(_name(log))}", "name of the data set")
    user = key_role(events.facts, "user", _shared(events, looked.get("users")))
    item = key_role(events.without(user.column), "item", _shared(events, looked.get("items")))
    time = time_role(events.without(user.column, item.column))
    roles = {"user": user, "item": item, "time": time}
    fields = _event_fields(events, roles, looked.get("impressions"))
    _events(draft, events, roles, fields)
    for kind in ("items", "users"):
        if kind in looked:
            _entities(draft, kind, looked[kind], events, (item if kind == "items" else user).column)
    if "impressions" in looked:
        _impressions(draft, looked["impressions"], roles, fields, events)
    else:
        draft.lines += rule_lines(fields)
    _rest(draft, events, roles, fields)
    head = [
        "Proposed by `lum schema` from a sample; counts are of the sample. Every guess is yours to mend.",
        "To use a line that is commented out, take its first '# ' away.",
        *([f"Fill in {UNKNOWN}: {', '.join(draft.missing)}."] if draft.missing else []),
    ]
    return Proposal(render(head, draft.lines), draft.missing)


def _look(path: str, rows: int) -> LookedAt:
    sample = take_sample(path, rows)
    return LookedAt(sample, [look(name, sample.table[name]) for name in sample.table.column_names])


def _shared(events: LookedAt, table: LookedAt | None) -> list[str]:
    """Columns of the log that are in a table too, with a row for each value."""
    known = by_name(table.facts) if table else None
    return [one.name for one in events.facts if known and (there := known(one.name)) and there.unique]


def _event_fields(events: LookedAt, roles: dict[str, Role], impressions: LookedAt | None) -> list[Field]:
    """Condition fields. What is known beforehand must be known of impressions too."""
    fields = propose_fields(events.without(*(role.column for role in roles.values())), "events")
    if impressions is None:
        return fields
    there = {one.name for one in impressions.facts}
    return [
        one
        if one.off or one.feedback or one.facts.name in there
        else Field(one.name, one.facts, one.settings, one.notes, "not in the impressions: only feedback may lack there")
        for one in fields
    ]


def _events(draft: Draft, events: LookedAt, roles: dict[str, Role], fields: list[Field]) -> None:
    draft.add(0, "")
    draft.add(0, "events:", f"the behaviour log: {events.told()}")
    draft.path(events.sample.path)
    for key in ("user", "item"):
        draft.role("events", key, roles[key], events.facts)
    time = by_name(events.facts)(roles["time"].column)
    if time is None:
        draft.role("events", "time", roles["time"], events.facts)
        draft.add(1, "time_unit: s", "of numbers since 1970: s, ms or us")
    else:
        last = seconds(time).max()
        late = "; in the future, which is refused" if last > datetime.now(UTC).timestamp() else ""
        draft.role(
            "events", "time", roles["time"], events.facts, f"{day(seconds(time).min())} to {day(last)} (UTC){late}"
        )
        if time.kind != "moment":
            draft.add(1, f"time_unit: {unit(time)}", "a guess from how large the numbers are: s, ms or us since 1970")
    draft.fields("condition", fields)


def _entities(
    draft: Draft, kind: Literal["items", "users"], table: LookedAt, events: LookedAt, in_log: str | None
) -> None:
    which: Literal["item", "user"] = "item" if kind == "items" else "user"
    draft.add(0, "")
    draft.add(0, f"{kind}:", f"the {which} table: {table.told()}")
    draft.path(table.sample.path)
    role = id_role(table.facts, which, in_log)
    facts = by_name(table.facts)(role.column)
    note = facts.described() + ("" if facts.unique else "; some are there twice, which is refused") if facts else ""
    draft.role(kind, "id", role, table.facts, note)
    title = title_role(table.without(role.column)) if kind == "items" else None
    if title:
        draft.role(kind, "title", Role(title), table.facts)
    if kind == "items" and role.column and in_log:
        lost = _lost(events.sample.table[in_log], table.sample.table[role.column])
        if not table.sample.whole:
            draft.add(1, "complete: true", "not checked: if items of the log may lack here, false keeps their events")
        elif lost:
            draft.add(
                1, "complete: false", f"{lost:.1%} of the events looked at are of items not here; true refuses them"
            )
        else:
            draft.add(1, "complete: true", "the items of all events looked at are here")
    draft.fields("features", propose_fields(table.without(role.column, title), kind))


def _lost(in_log: pa.ChunkedArray, ids: pa.ChunkedArray) -> float:
    """Part of the log's values that is not among the ids."""
    there = pc.is_in(_as_text(in_log), _as_text(ids).unique())
    return float(1 - pc.mean(there).as_py())


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.replace_substring_regex(column.drop_null().cast(pa.string()), r"\.0$", "")


def _impressions(
    draft: Draft, shown: LookedAt, roles: dict[str, Role], condition: list[Field], events: LookedAt
) -> None:
    draft.add(0, "")
    draft.add(0, "impressions:", f"what the ranker learns from: {shown.told()}")
    draft.path(shown.sample.path)
    known = by_name(shown.facts)
    user, item = (
        Role(roles[key].column) if known(roles[key].column) else key_role(shown.facts, key) for key in ("user", "item")
    )
    rest = shown.without(user.column, item.column)
    time = Role(roles["time"].column) if known(roles["time"].column) else time_role(rest)
    rest = [one for one in rest if one.name != time.column]
    row = row_role(rest)
    label = label_role([one for one in rest if one.name != row])
    for key, role in (("user", user), ("item", item)):
        draft.role("impressions", key, role, shown.facts)
    here, there = known(time.column), by_name(events.facts)(roles["time"].column)
    differs = here and there and "moment" not in (here.kind, there.kind) and unit(here) != unit(there)
    draft.role(
        "impressions", "time", time, shown.facts, "its unit is not the one of the events; it must be" if differs else ""
    )
    draft.role("impressions", "label", label, shown.facts)
    if row:
        draft.role("impressions", "row", Role(row), shown.facts, "a whole number of its own in every row")
    used = {one.facts.name for one in condition if not one.off or one.feedback}
    context = [one for one in rest if one.name not in {row, label.column} | used]
    draft.fields("context", propose_fields(context, "impressions"))


def _rest(draft: Draft, events: LookedAt, roles: dict[str, Role], fields: list[Field]) -> None:
    facts = by_name(events.facts)(roles["time"].column)
    daily = facts is not None and whole_days(facts)
    names: list[Any] = ["weekday", "gap"] if daily else ["hour", "weekday", "gap"]
    draft.add(0, "")
    why = "times are whole days" if daily else "hour (UTC), weekday and the gap since the last event"
    draft.add(0, f"time_fields: [{', '.join(names)}]", f"time as further condition fields: {why}")
    draft.add(0, f"gap_unit: {'d' if daily else 's'}", "the gap counts whole seconds, hours or days: s, h or d")
    draft.lines += holdout_lines(fields)
    draft.add(0, "")
    draft.add(0, "splits:", "by time, as fractions of the events in order of time")
    draft.add(1, "valid: 0.8", "validation begins here")
    draft.add(1, "test: 0.9", "the test begins here")
    draft.add(0, "")
    first = day(float(np.min(seconds(facts)))) if facts is not None else "1990-01-01"
    refused, why = _refused(events, roles, fields)
    most = "1%" if refused < 0.01 else f"{min(math.ceil(150 * refused), 100)}%"
    told = "`lum prepare` stops where more of a table's rows are refused"
    draft.add(0, f"max_rejected: {most}", told if refused < 0.01 else f"raised from 1%: of the events looked at, {why}")
    draft.add(0, f"earliest: {first}", "the earliest seen; rows before this date are refused", off=True)
    draft.add(0, "latest: 2100-01-01", "rows after this date are refused; by default those after now", off=True)
    draft.add(0, "max_user_events: 100000", "users with more are refused: robots, shared accounts", off=True)


def _refused(events: LookedAt, roles: dict[str, Role], fields: list[Field]) -> tuple[float, str]:
    """About what part of the events `lum prepare` will refuse, and why, in words."""
    known = by_name(events.facts)
    keys = [facts for role in roles.values() if (facts := known(role.column))]
    used = [one.facts for one in fields if not one.off]
    parts = {f"lack {facts.name}": facts.missing for facts in keys}
    parts |= {f"have a wrong {facts.name}": facts.refused_part for facts in used if len(facts.numbers)}
    if len(keys) == len(roles):
        columns = [facts.name for facts in keys + used if facts.kind != "list"]
        numbers = [str(place) for place in range(len(columns))]  # Arrow takes a name such as ".0" for a path
        distinct = events.sample.table.select(columns).rename_columns(numbers).group_by(numbers).aggregate([])
        parts["repeat another"] = 1 - len(distinct) / len(events.sample.table)
    return sum(parts.values()), ", ".join(f"{part:.1%} {why}" for why, part in parts.items() if part > 0.001)


def _name(path: str) -> str:
    """A name for the data set: of the log's file, or of its directory where the file's says nothing."""
    whole = Path(os.path.abspath(path))
    plain = {"events", "event", "log", "logs", "data", "interactions", "ratings", "train", "part-0", "behaviors"}
    for part in (whole, *whole.parents[:3]):
        stem = re.sub(r"(\.parquet|\.csv|\.csv\.gz)$", "", part.name)
        if stem and stem.lower() not in plain and not any(mark in stem for mark in "*?["):
            return stem
    return "data"
