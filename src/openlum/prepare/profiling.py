"""Statistics of a data set. The engine aggregates the large tables; Python computes the rest from the aggregates."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import ibis
import ibis.expr.types as ir

from openlum.data.dataset import SPLITS, Split
from openlum.data.profile import FieldProfile, Profile, SplitProfile
from openlum.prepare.conversion import DAY, SECOND
from openlum.prepare.engines.engine import Engine
from openlum.prepare.features import Encoder, Encoders, hashed_id_expression
from openlum.prepare.splits import SplitBoundaries
from openlum.prepare.stored_log import Log

MAX_LISTED_VALUES = 12
"""How many of the most frequent values of a field are listed."""
QUANTILES = {"min": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "max": 1.0}


@dataclass
class ImpressionCounts:
    """Numbers of impressions in each period."""

    rows: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    positives: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    """Impressions with the label 1."""
    last: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    """Second of the last impression."""
    unlabelled: int = 0
    """Impressions without a label; they belong to no period."""

    def add(self, engine: Engine, name: Split, rows: ir.Table) -> None:
        """Add the rows of one part."""
        positives, last = rows["label"].sum(), rows["time"].max()
        counts = engine.fetch_rows(rows.aggregate(n=rows.count(), positives=positives, last=last))[0]
        self.rows[name] += counts["n"]
        self.positives[name] += int(counts["positives"] or 0)
        self.last[name] = max(self.last[name], counts["last"] or 0)


def profile_log(
    engine: Engine,
    log: Log,
    boundaries: SplitBoundaries,
    encoders: Encoders,
    impression_counts: ImpressionCounts,
    tables: Sequence[ir.Table | None],
) -> Profile:
    """Return the profile of a dataset, computed from its log and from its item and user tables (`tables`)."""
    events = log.events
    lengths = _sizes(engine, events, "user")
    total = sum(size * holders for size, holders in lengths)
    hashed = [encoder for encoders_of_kind in encoders.values() for encoder in encoders_of_kind if encoder.spec.hashed]
    return Profile(
        length_quantiles=_quantiles(lengths),
        lengths=_bins(lengths),
        popularity=_popularity_by_rank(_sizes(engine, events, "item")),
        days=_days(engine, events),
        conditions={encoder.spec.name: _field(engine, events, encoder, total) for encoder in encoders["condition"]},
        splits=_splits(engine, events, boundaries, impression_counts),
        collisions={
            encoder.role: _collisions(engine, table, encoder)
            for encoder in hashed
            for table in (events, log.impressions, *tables)
            if table is not None and encoder.role in table.columns
        },
    )


def _sizes(engine: Engine, events: ir.Table, key: str) -> list[tuple[int, int]]:
    """Return (number of events, number of users or items with that many events), ascending; `key` is `user` or `item`."""
    counts = events.group_by(key).agg(n=events.count())
    rows = engine.fetch_rows(counts.group_by("n").agg(holders=counts.count()).order_by("n"))
    return [(row["n"], row["holders"]) for row in rows]


def _quantiles(sizes: Sequence[tuple[int, int]]) -> dict[str, int]:
    total, quantiles = sum(holders for _, holders in sizes), {}
    for name, part in QUANTILES.items():
        rank, cumulative = min(int(part * total), total - 1), 0
        for size, holders in sizes:
            cumulative += holders
            if cumulative > rank:
                quantiles[name] = size
                break
    return quantiles


def _bins(sizes: Iterable[tuple[int, int]]) -> dict[int, int]:
    bins: dict[int, int] = {}
    for size, holders in sizes:
        smallest = 1 << (size.bit_length() - 1)
        bins[smallest] = bins.get(smallest, 0) + holders
    return bins


def _popularity_by_rank(sizes: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Return the number of events of the items of rank 1, 2, 4, ... and of the last item."""
    popularity, rank, total = {}, 1, sum(holders for _, holders in sizes)
    cumulative = 0
    for size, holders in reversed(sizes):
        cumulative += holders
        while rank <= cumulative:
            popularity[rank] = size
            rank *= 2
    return popularity | {total: sizes[0][0]}


def _days(engine: Engine, events: ir.Table) -> dict[str, int]:
    rows = engine.fetch_rows(events.group_by(day=events["time"] // DAY).agg(n=events.count()).order_by("day"))
    return {_iso(int(row["day"]) * DAY // SECOND)[:10]: row["n"] for row in rows}


def _field(engine: Engine, events: ir.Table, encoder: Encoder, total: int) -> FieldProfile:
    column, spec = events[encoder.role], encoder.spec
    if spec.type in ("numeric", "vector") or spec.edges is not None:
        return FieldProfile(known=engine.fetch_value(column.count()) / total)
    values = events.select(value=column)
    if spec.type == "multi":
        values = values.unnest("value")
    values = values.filter(values["value"].notnull())
    counts = engine.materialize(f"values of {encoder.role}", values.group_by("value").agg(n=values.count()))
    in_vocabulary = counts if encoder.vocabulary is None else counts.semi_join(encoder.vocabulary, "value")
    # A list is known if it has any value.
    known = engine.fetch_value((column.length() > 0).sum() if spec.type == "multi" else in_vocabulary["n"].sum()) or 0
    # The window is computed before the limit.
    ranked = counts.mutate(distinct=counts.count().over(ibis.window()))
    top = engine.fetch_rows(ranked.order_by([ranked["n"].desc(), "value"]).limit(MAX_LISTED_VALUES))
    return FieldProfile(
        known=known / total,
        values={row["value"]: row["n"] for row in top},
        distinct=top[0]["distinct"] if top else 0,
    )


def _splits(
    engine: Engine, events: ir.Table, boundaries: SplitBoundaries, impression_counts: ImpressionCounts
) -> dict[str, SplitProfile]:
    second = events["time"] // SECOND
    figures: dict[str, Any] = {}
    for name, period in boundaries.conditions(second).items():
        figures[f"{name} n"] = period.sum()
        figures |= {f"{name} first": second.min(where=period), f"{name} last": second.max(where=period)}
    row = engine.fetch_rows(events.aggregate(**figures))[0]
    begin = {"train": row["train first"], "valid": boundaries.valid_time, "test": boundaries.test_time}
    return {
        name: SplitProfile(
            begin=_iso(int(begin[name])),
            end=_iso(int(max(row[f"{name} last"] or begin[name], impression_counts.last[name]))),
            events=row[f"{name} n"],
            impressions=impression_counts.rows[name],
            positives=impression_counts.positives[name],
        )
        for name in SPLITS
    }


def _collisions(engine: Engine, table: ir.Table, encoder: Encoder) -> float:
    """Return the share of a field's distinct values that have the same id as another value."""
    values: Any = table.select(value=table[encoder.role])
    if encoder.spec.type == "multi":
        values = values.unnest("value")
    values = values.filter(values["value"].notnull()).distinct()
    ids = values.mutate(id=hashed_id_expression(values["value"], encoder.spec.size - 1))
    counts = ids.group_by("id").agg(n=ids.count())
    shared = counts["n"].sum(where=counts["n"] > 1)
    totals = engine.fetch_rows(counts.aggregate(all=counts["n"].sum(), shared=shared))[0]
    return (totals["shared"] or 0) / totals["all"] if totals["all"] else 0.0


def _iso(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()
