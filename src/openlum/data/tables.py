"""The tables of a log: read, checked, and what is odd about them counted."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis.expr.types as ir

from openlum.data.engine import ROW, Engine
from openlum.data.impressions import impressions_of_events, read_impressions
from openlum.data.sequences import eligible
from openlum.data.validate import Intake
from openlum.data.values import TICKS, Column, feature_columns
from openlum.errors import InputError
from openlum.schema import ItemTable, Schema, UserTable

FEWEST_EVENTS = 3
YEAR_1990 = 631_152_000_000_000
"""In microseconds since 1970."""
"""Training, validation and test need one each."""


@dataclass(frozen=True)
class Tables:
    """The usable rows of a log: raw ids, time in microseconds, features not yet encoded."""

    events: ir.Table
    """user, item, time, condition.FIELD, `eligible` (may be held out for retrieval), `row_number`."""
    impressions: ir.Table
    """user, item, time, label, perhaps row, condition.FIELD without feedback, context.FIELD, `row_number`."""
    items: ir.Table | None
    """id, perhaps title, item.FIELD, `row_number`."""
    users: ir.Table | None
    """id, user.FIELD, `row_number`."""


def read_tables(engine: Engine, intake: Intake, schema: Schema, root: Path) -> Tables:
    """Read every table that the schema names, in files relative to `root`."""
    log = schema.events
    columns = [
        Column("user", log.user),
        Column("item", log.item),
        Column("time", log.time, "time", TICKS[log.time_unit]),
        *feature_columns("condition", log.condition),
    ]
    events = intake.read("events", log.path, columns, unique=[column.role for column in columns])
    _check_enough(intake, root / log.path)
    events = events.mutate(eligible=eligible(events, schema.holdout, log.condition))
    if schema.impressions:
        impressions = read_impressions(intake, engine, schema, root)
    else:
        impressions = impressions_of_events(engine, events, schema, root / log.path)
    return Tables(
        events,
        impressions,
        _read_entities(intake, "items_table", "item", schema.items) if schema.items else None,
        _read_entities(intake, "users_table", "user", schema.users) if schema.users else None,
    )


def handled(engine: Engine, tables: Tables, by_rule: bool) -> dict[str, int]:
    """What is odd in the tables but refuses no row, in words, with how often it occurs.

    Args:
        engine: where tables are computed.
        tables: the usable rows.
        by_rule: impressions were made of events.
    """

    def count(table: Any) -> int:
        number: int = engine.value(table.count())
        return number

    events, impressions = tables.events, tables.impressions
    before = events["time"].lag().over(group_by="user", order_by=ROW)
    unordered = events.mutate(before=before).filter(lambda event: event["time"] < event["before"])
    per_user = events.group_by("user").agg(events=events.count())
    items, users = events.select(id="item").distinct(), events.select(id="user").distinct()
    found = {
        "events after a later event of their user in the file (sorted)": count(unordered),
        "users with one event (kept)": count(per_user.filter(per_user["events"] == 1)),
        "impressions of users without events (kept)": count(impressions.anti_join(per_user, "user")),
        "impressions of items without events (kept)": count(impressions.anti_join(items.rename(item="id"), "item")),
        "events before 1990 (kept; check 'time_unit')": count(events.filter(events["time"] < YEAR_1990)),
    }
    if tables.items is not None:
        found["items without a row in the item table (features unknown)"] = count(items.anti_join(tables.items, "id"))
    if tables.users is not None:
        found["users without a row in the user table (features unknown)"] = count(users.anti_join(tables.users, "id"))
    if by_rule:
        found["events without a label (no impression)"] = count(events) - count(impressions)
    return {note: number for note, number in found.items() if number}


def _read_entities(intake: Intake, name: str, kind: str, table: ItemTable | UserTable) -> ir.Table:
    columns = [Column("id", table.id), *feature_columns(kind, table.features)]
    if isinstance(table, ItemTable) and table.title:
        columns.append(Column("title", table.title))
    return intake.read(name, table.path, columns, unique=["id"])


def _check_enough(intake: Intake, path: Path) -> None:
    usable = intake.counts["events"]
    if usable < FEWEST_EVENTS:
        refused = ", ".join(f"{number:,} {reason}" for reason, number in intake.reasons.items()) or "none"
        raise InputError(
            f"{path}: {usable} usable events of {intake.counts['events_in']:,} (refused: {refused}); "
            f"at least {FEWEST_EVENTS} are needed; if the times look wrong, check 'time_unit' in the schema"
        )
