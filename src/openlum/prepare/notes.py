"""What is odd in a log but refuses no row, in words, with how often it occurs."""

from collections.abc import Sequence
from typing import Any

from openlum.prepare.engines.engine import Engine
from openlum.prepare.entities import Entities
from openlum.prepare.log import Log
from openlum.prepare.profiling import Shares
from openlum.prepare.sequences import eligible
from openlum.schema import Schema

YEAR_1990 = 631_152_000_000_000
"""In microseconds since 1970."""


def notes(engine: Engine, schema: Schema, log: Log, shares: Shares, both: Sequence[Entities]) -> dict[str, int]:
    """Count what is odd; 0 for what does not occur.

    Args:
        engine: where tables are computed.
        schema: of the log.
        log: the usable rows.
        shares: rows of the impressions in each period.
        both: the items and the users.
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
        found["impressions without a label (in no split; questions are asked of them)"] = shares.unlabelled
    if schema.impressions_from_events:
        found["events without a label (no impression)"] = count(events) - sum(shares.rows.values())
    for one in both:
        if one.rows is not None:
            seen = items if one.role == "item" else users
            named = one.known.semi_join(seen, one.known["id"] == seen[one.role])
            without = count(named.anti_join(one.rows, named["value"] == one.rows["id"]))
            found[f"{one.role}s without a row in the {one.role} table (features unknown)"] = without
    if schema.impressions or schema.impressions_from_events:
        for name in ("valid", "test"):
            found[f"no impressions in the {name} period"] = int(not shares.rows[name])
    if schema.holdout:
        held = events.filter(eligible(events, schema.holdout, schema.events.condition))
        found["no event has a value of 'holdout' (retrieval has nothing to hold out)"] = int(not count(held))
    return found
