"""Data-quality notes with counts: unusual properties of a log for which no row is rejected."""

from collections.abc import Sequence
from typing import Any

from openlum.prepare.engines.engine import Engine
from openlum.prepare.entities import Entities
from openlum.prepare.profiling import ImpressionCounts
from openlum.prepare.sequences import can_be_held_out
from openlum.prepare.stored_log import Log
from openlum.schema import Schema

YEAR_1990 = 631_152_000_000_000
"""1990-01-01 in microseconds since 1970."""


def data_quality_notes(
    engine: Engine, schema: Schema, log: Log, impression_counts: ImpressionCounts, entity_sets: Sequence[Entities]
) -> dict[str, int]:
    """Return each data-quality note with its count; a note that does not apply has the count 0.

    Args:
        engine: the engine that computes tables.
        schema: the schema of the log.
        log: the accepted rows.
        impression_counts: the number of impressions in each period.
        entity_sets: the items and the users.
    """

    def count(table: Any) -> int:
        number: int = engine.fetch_value(table.count())
        return number

    events, impressions = log.events, log.impressions
    users = engine.materialize("events of users", events.group_by("user").agg(n=events.count()))
    items = engine.materialize("events of items", events.group_by("item").agg(n=events.count()))
    notes = {
        "users with one event (kept)": count(users.filter(users["n"] == 1)),
        "events before 1990 (kept; check 'time_unit')": count(events.filter(events["time"] < YEAR_1990)),
    }
    if schema.impressions:
        notes["impressions of users without events (kept)"] = count(impressions.anti_join(users, "user"))
        notes["impressions of items without events (kept)"] = count(impressions.anti_join(items, "item"))
        notes["impressions without a label (not used for training or evaluation; `lum query` answers them)"] = (
            impression_counts.unlabelled
        )
    if rule := schema.impressions_from_events:
        positives = sum(impression_counts.rows.values()) // ((rule.negatives or 0) + 1)
        note = "events at the same time as another event of the same user and item (one impression for both)"
        notes[note if rule.negatives else "events without a label (not turned into impressions)"] = (
            count(events) - positives
        )
    for entities in entity_sets:
        if entities.table is not None:
            with_events = items if entities.role == "item" else users
            ids = entities.ids.semi_join(with_events, entities.ids["id"] == with_events[entities.role])
            without_row = count(ids.anti_join(entities.table, ids["value"] == entities.table["id"]))
            notes[f"{entities.role}s without a row in the {entities.role} table (features unknown)"] = without_row
    if schema.impressions or schema.impressions_from_events:
        for name in ("valid", "test"):
            notes[f"no impressions in the {name} period"] = int(not impression_counts.rows[name])
    if schema.holdout:
        candidates = events.filter(can_be_held_out(events, schema.holdout, schema.events.condition))
        notes["no event has a value of 'holdout' (no event can be held out for retrieval)"] = int(not count(candidates))
    return notes
