"""What is odd in a log but refuses no row, in words, with how often it occurs."""

from typing import Any

import ibis.expr.types as ir

from openlum.data.engine import Engine
from openlum.data.log import Log
from openlum.data.profiling import Shares
from openlum.data.sequences import eligible
from openlum.schema import Schema

YEAR_1990 = 631_152_000_000_000
"""In microseconds since 1970."""


def notes(
    engine: Engine, schema: Schema, log: Log, shares: Shares, item_rows: ir.Table | None, user_rows: ir.Table | None
) -> dict[str, int]:
    """Count what is odd.

    Args:
        engine: where tables are computed.
        schema: of the log.
        log: the usable rows.
        shares: rows of the impressions in each period.
        item_rows: from `read_entities`.
        user_rows: from `read_entities`.
    """

    def count(table: Any) -> int:
        number: int = engine.value(table.count())
        return number

    events, shown = log.events, log.impressions
    users = engine.keep("events of users", events.group_by("user").agg(n=events.count()))
    items = engine.keep("events of items", events.group_by("item").agg(n=events.count()))
    found = {
        "users with one event (kept)": count(users.filter(users["n"] == 1)),
        "events before 1990 (kept; check 'time_unit')": count(events.filter(events["time"] < YEAR_1990)),
    }
    if schema.impressions:
        found["impressions of users without events (kept)"] = count(shown.anti_join(users, "user"))
        found["impressions of items without events (kept)"] = count(shown.anti_join(items, "item"))
    if schema.impressions_from_events:
        found["events without a label (no impression)"] = count(events) - sum(shares.rows.values())
    for kind, seen, rows in (("item", items, item_rows), ("user", users, user_rows)):
        if rows is not None:
            known = engine.read(f"{kind} keys", log.directory.parent / "vocab" / f"{kind}s.parquet")
            named = known.semi_join(seen, known["id"] == seen[kind])
            without = count(named.anti_join(rows, named["value"] == rows["id"]))
            found[f"{kind}s without a row in the {kind} table (features unknown)"] = without
    if schema.impressions or schema.impressions_from_events:
        for name in ("valid", "test"):
            found[f"no impressions in the {name} period"] = int(not shares.rows[name])
    if schema.holdout:
        held = events.filter(eligible(events, schema.holdout, schema.events.condition))
        found["no event has a value of 'holdout' (retrieval has nothing to hold out)"] = int(not count(held))
    return {note: number for note, number in found.items() if number}
