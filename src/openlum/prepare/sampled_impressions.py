"""Impressions of a log without an impression log: every event with sampled negatives, `impressions_from_events: {negatives: N}`.

Shapes: n events, N negatives of an event.
"""

from dataclasses import dataclass
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openlum.capacity import check_machine_memory
from openlum.errors import InputError
from openlum.prepare.engines.engine import Engine
from openlum.prepare.negatives import sample_negatives
from openlum.prepare.row_checks import POSITION, SchemaError
from openlum.schema import ImpressionRule

BYTES_OF_EVENT, BYTES_OF_NEGATIVE = 120, 32
"""Memory that sampling needs for each event and for each negative."""
LEFT_UNEXPLAINED = 0.1
"""A condition field belongs to the item if the item leaves at most this share of the errors in guessing the field's value."""


@dataclass(frozen=True)
class SampledImpressions:
    """The candidates of every event, and the condition fields that are properties of the item.

    Attributes:
        engine: the engine that computes tables.
        directory: from `write_candidates`.
        item_fields: condition.FIELD to the item's value: a table with the columns `_item` and condition.FIELD. A negative would
            be recognised by another item's value, so all rows have the value of their own item. Fields that are not named
            belong to the moment: a negative has the value of its event.
    """

    engine: Engine
    directory: Path
    item_fields: dict[str, ir.Table]

    @classmethod
    def draw(
        cls, engine: Engine, events: ir.Table, rule: ImpressionRule, fields: list[str], parts: int, directory: Path
    ) -> "SampledImpressions":
        """Sample the negatives of all events, and find the condition fields that belong to the item.

        Args:
            engine: the engine that computes tables.
            events: all events of the log.
            rule: with `negatives`.
            fields: condition.FIELD that are known before the item.
            parts: number of parts of the log.
            directory: a directory for intermediate files.
        """
        write_candidates(engine, events, rule, parts, directory)
        tables = {field: _values_of_items(engine, events, field) for field in fields}
        return cls(engine, directory, {field: table for field, table in tables.items() if table is not None})

    def rows(self, events: ir.Table, part: str | None = None) -> ir.Table:
        """Return the impressions of some events.

        Args:
            events: events with the columns of the log and further columns, which their rows get too.
            part: the part of the log that has these events; None for all parts.

        Returns:
            The columns of `events`, with the item and the condition of each row, a `POSITION` of each row, label, and request.
        """
        path = self.directory / part if part else self.directory
        candidates = self.engine.read(f"candidates of {part or 'all events'}", path)
        rows = candidates.join(events.drop("item").rename(request=POSITION), candidates["event"] == events[POSITION])
        for field, values in self.item_fields.items():
            rows = rows.drop(field).left_join(values, rows["item"] == values["_item"]).drop("_item")
        return rows.drop("event")


def write_candidates(engine: Engine, events: ir.Table, rule: ImpressionRule, parts: int, directory: Path) -> None:
    """Sample the negatives of all events, and write one row per candidate to `directory/part=K/`.

    Events that share user, item and time have their candidates once. The columns are event (`POSITION` of the event), `POSITION`
    of the candidate (event * (N + 1) for the positive; its negatives follow), item, and label.

    Raises:
        SchemaError: a user has so many items that too few are left.
        InputError: the memory of this machine is too small.
    """
    number = rule.negatives
    assert number is not None
    count = engine.fetch_value(events.count())
    check_machine_memory(
        count * (BYTES_OF_EVENT + number * BYTES_OF_NEGATIVE),
        f"sampling {number} negatives for each of {count:,} events",
        "lower 'impressions_from_events.negatives', or sample them elsewhere and name the file as 'impressions'",
    )
    table = engine.fetch(events.select(POSITION, "user", "item", "time"))
    columns = {name: table[name].to_numpy() for name in table.column_names}
    order = np.lexsort((columns[POSITION], columns["time"], columns["item"], columns["user"]))
    keys = np.stack([columns[name][order] for name in ("user", "item", "time")])  # (3, n)
    is_first = np.append(True, (keys[:, 1:] != keys[:, :-1]).any(0))
    chosen = np.sort(order[is_first])
    position, user, item, time = (columns[name][chosen] for name in (POSITION, "user", "item", "time"))
    try:
        negatives = sample_negatives(user, item, time, number, rule.seed, rule.how)  # (n, N)
    except InputError as error:
        raise SchemaError(f"key 'impressions_from_events.negatives': {error}") from None
    candidates = np.concatenate([item[:, None], negatives], axis=1).astype(np.int32)  # (n, N + 1)
    for part in range(parts):
        rows = user % parts == part  # (n,)
        event = np.repeat(position[rows], number + 1).astype(np.int64)
        slot = np.tile(np.arange(number + 1), int(rows.sum()))
        content = {
            "event": event,
            POSITION: event * (number + 1) + slot,
            "item": candidates[rows].ravel(),
            "label": (slot == 0).astype(np.float64),
        }
        path = directory / f"part={part}"
        path.mkdir(parents=True)
        pq.write_table(pa.table(content), path / "candidates.parquet")


def _values_of_items(engine: Engine, events: ir.Table, field: str) -> ir.Table | None:
    """Return the most frequent value of a condition field for each item, if the field is a property of the item.

    It is, if guessing the item's most frequent value is wrong at most `LEFT_UNEXPLAINED` times as often as guessing the most
    frequent value of the log (Goodman and Kruskal's lambda, 1954). Items with one event say nothing about this.
    """
    counts = events.group_by(_item="item", value=field).agg(n=events.count())
    counts = engine.materialize(f"values of items in {field}", counts)
    items = counts.group_by("_item").agg(total=counts["n"].sum(), top=counts["n"].max())
    items = items.filter(items["total"] > 1)
    values = counts.semi_join(items, "_item")
    values = values.group_by("value").agg(n=values["n"].sum())
    with_item = engine.fetch_rows(items.aggregate(errors=(items["total"] - items["top"]).sum()))[0]["errors"]
    without = engine.fetch_rows(values.aggregate(errors=values["n"].sum() - values["n"].max()))[0]["errors"]
    if not without or int(with_item) > LEFT_UNEXPLAINED * int(without):
        return None
    rank = ibis.row_number().over(group_by="_item", order_by=[counts["n"].desc(), counts["value"]])
    ranked = counts.mutate(rank=rank)
    first = ranked.filter(ranked["rank"] == 0).select("_item", **{field: ranked["value"]})
    return engine.materialize(f"values of items in {field}, most frequent", first)
