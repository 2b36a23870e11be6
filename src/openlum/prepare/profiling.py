"""The figures of a data set, computed by the engine. Whatever is large is counted there; what remains is counted here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import ibis.expr.types as ir

from openlum.data.dataset import SPLITS, Split
from openlum.data.profile import FieldProfile, Profile, SplitProfile
from openlum.prepare.engines.engine import Engine
from openlum.prepare.features import Encoder, Encoders, hash_expression
from openlum.prepare.log import Log
from openlum.prepare.splits import Boundaries
from openlum.prepare.values import DAY, SECOND

MOST_VALUES = 12
"""How many values of a field are named."""
QUANTILES = {"min": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "max": 1.0}


@dataclass
class Shares:
    """Impressions of each period."""

    rows: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    positives: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    """Those labelled 1."""
    last: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    """Second of the last one."""
    unlabelled: int = 0
    """Impressions without a label, which are in no period."""

    def add(self, engine: Engine, name: Split, rows: ir.Table) -> None:
        """Count the rows of one part."""
        label, last = rows["label"].sum(), rows["time"].max()
        found = engine.rows(rows.aggregate(n=rows.count(), positives=label, last=last))[0]
        self.rows[name] += found["n"]
        self.positives[name] += int(found["positives"] or 0)
        self.last[name] = max(self.last[name], found["last"] or 0)


def describe(
    engine: Engine, log: Log, split: Boundaries, encoders: Encoders, shares: Shares, tables: Sequence[ir.Table | None]
) -> Profile:
    """The profile of a dataset, from its log and its item and user `tables`."""
    events = log.events
    lengths = _sizes(engine, events, "user")
    hashed = [encoder for those in encoders.values() for encoder in those if encoder.spec.hashed]
    return Profile(
        length_quantiles=_quantiles(lengths),
        lengths=_bins(lengths),
        popularity=_ranks(_sizes(engine, events, "item")),
        days=_days(engine, events),
        conditions={encoder.spec.name: _field(engine, events, encoder) for encoder in encoders["condition"]},
        splits=_splits(engine, events, split, shares),
        collisions={
            encoder.role: _collisions(engine, table, encoder)
            for encoder in hashed
            for table in (events, log.impressions, *tables)
            if table is not None and encoder.role in table.columns
        },
    )


def _sizes(engine: Engine, events: ir.Table, key: str) -> list[tuple[int, int]]:
    """(number of events, how many users or items have it), ascending."""
    each = events.group_by(key).agg(n=events.count())
    rows = engine.rows(each.group_by("n").agg(holders=each.count()).order_by("n"))
    return [(row["n"], row["holders"]) for row in rows]


def _quantiles(sizes: Sequence[tuple[int, int]]) -> dict[str, int]:
    total, found = sum(holders for _, holders in sizes), {}
    for name, part in QUANTILES.items():
        place, seen = min(int(part * total), total - 1), 0
        for size, holders in sizes:
            seen += holders
            if seen > place:
                found[name] = size
                break
    return found


def _bins(sizes: Iterable[tuple[int, int]]) -> dict[int, int]:
    bins: dict[int, int] = {}
    for size, holders in sizes:
        smallest = 1 << (size.bit_length() - 1)
        bins[smallest] = bins.get(smallest, 0) + holders
    return bins


def _ranks(sizes: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Events of the items of rank 1, 2, 4, ... and the last."""
    found, rank, total = {}, 1, sum(holders for _, holders in sizes)
    seen = 0
    for size, holders in reversed(sizes):
        seen += holders
        while rank <= seen:
            found[rank] = size
            rank *= 2
    return found | {total: sizes[0][0]}


def _days(engine: Engine, events: ir.Table) -> dict[str, int]:
    rows = engine.rows(events.group_by(day=events["time"] // DAY).agg(n=events.count()).order_by("day"))
    return {_iso(int(row["day"]) * DAY // SECOND)[:10]: row["n"] for row in rows}


def _field(engine: Engine, events: ir.Table, encoder: Encoder) -> FieldProfile:
    column, spec = events[encoder.role], encoder.spec
    total = engine.value(events.count())
    if spec.type in ("numeric", "vector") or spec.edges is not None:
        return FieldProfile(known=engine.value(column.count()) / total)
    values = events.select(value=column)
    if spec.type == "multi":
        values = values.unnest("value")
    values = values.filter(values["value"].notnull())
    counted = engine.keep(f"values of {encoder.role}", values.group_by("value").agg(n=values.count()))
    known = counted if encoder.vocabulary is None else counted.semi_join(encoder.vocabulary, "value")
    # Of lists it is counted how many have any value.
    some = engine.value((column.length() > 0).sum() if spec.type == "multi" else known["n"].sum()) or 0
    top = engine.rows(counted.order_by([counted["n"].desc(), "value"]).limit(MOST_VALUES))
    return FieldProfile(
        known=some / total,
        values={row["value"]: row["n"] for row in top},
        distinct=engine.value(counted.count()),
    )


def _splits(engine: Engine, events: ir.Table, split: Boundaries, shares: Shares) -> dict[str, SplitProfile]:
    seconds = events.mutate(time=events["time"] // SECOND)
    found: dict[str, SplitProfile] = {}
    for name, part in split.split(seconds).items():
        row = engine.rows(part.aggregate(n=part.count(), first=part["time"].min(), last=part["time"].max()))[0]
        begin = {"train": row["first"], "valid": split.valid, "test": split.test}[name]
        found[name] = SplitProfile(
            begin=_iso(int(begin)),
            end=_iso(int(max(row["last"] or begin, shares.last[name]))),
            events=row["n"],
            impressions=shares.rows[name],
            positives=shares.positives[name],
        )
    return found


def _collisions(engine: Engine, table: ir.Table, encoder: Encoder) -> float:
    """The part of a field's different values that share an id with another."""
    values: Any = table.select(value=table[encoder.role])
    if encoder.spec.type == "multi":
        values = values.unnest("value")
    values = values.filter(values["value"].notnull()).distinct()
    ids = values.mutate(id=hash_expression(values["value"], encoder.spec.size - 1))
    rows = ids.group_by("id").agg(n=ids.count())
    shared = rows["n"].sum(where=rows["n"] > 1)
    found = engine.rows(rows.aggregate(all=rows["n"].sum(), shared=shared))[0]
    return (found["shared"] or 0) / found["all"] if found["all"] else 0.0


def _iso(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()
