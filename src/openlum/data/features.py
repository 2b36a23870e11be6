"""Fields as the models see them: vocabularies and scales learnt from tables, and tables encoded with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from openlum.data.engine import ROW, Engine
from openlum.schema import Feature, FieldSpec

LARGEST = 1e30
"""Standardised numbers beyond this are cut: they would not fit into float32."""


@dataclass(frozen=True)
class Encoder:
    """How one column of a table becomes ids or numbers."""

    role: str
    """The column, KIND.FIELD."""
    spec: FieldSpec
    """The field that comes out."""
    vocabulary: ir.Table | None = None
    """categorical, multi: value, id, count."""


def vocabulary(engine: Engine, name: str, occurrences: ir.Table, min_count: int = 0) -> ir.Table:
    """Ids from 1 for values, the most frequent first, equals in the order of the text.

    Args:
        engine: where tables are computed.
        name: what to call the vocabulary.
        occurrences: columns value and count; values may repeat, their counts are added up.
        min_count: values with less in all get no id.

    Returns:
        A table with the columns value, id and count.
    """
    known = occurrences.filter(occurrences["value"].notnull())
    total = known.group_by("value").agg(count=known["count"].sum().cast("int64"))
    total = total.filter(total["count"] >= min_count)
    place = ibis.row_number().over(order_by=[total["count"].desc(), total["value"]])
    return engine.keep(f"vocabulary {name}", total.select("value", "count", id=(place + 1).cast("int32")))


def learn(
    engine: Engine, kind: str, features: Mapping[str, Feature], training: ir.Table, others: Sequence[ir.Table] = ()
) -> list[Encoder]:
    """Learn how to encode the columns KIND.FIELD.

    Args:
        engine: where tables are computed.
        kind: `condition`, `item`, `user` or `context`.
        features: the fields by name.
        training: the rows that values are counted in and scales taken from.
        others: the rows that will be encoded, for the length of their lists.
    """
    return [_learn(engine, f"{kind}.{name}", name, features[name], training, others) for name in features]


def _learn(
    engine: Engine, role: str, name: str, feature: Feature, training: ir.Table, others: Sequence[ir.Table]
) -> Encoder:
    spec = FieldSpec(name=name, type=feature.type, feedback=getattr(feature, "feedback", False))
    if feature.type == "numeric":
        return Encoder(role, spec.model_copy(update=_scale(engine, training[role])))
    if feature.type == "vector":
        return Encoder(role, spec.model_copy(update={"width": feature.width}))
    width, values = 1, training.select(value=training[role])
    if feature.type == "multi":
        holders = [table for table in (training, *others) if role in table.columns]
        width = max(1, *(engine.value(table[role].length().max()) or 0 for table in holders))
        values = values.unnest("value")
    seen = vocabulary(engine, role, values.mutate(count=1), feature.min_count)
    size = engine.value(seen.count()) + 1
    return Encoder(role, spec.model_copy(update={"size": size, "width": width}), vocabulary=seen)


def _scale(engine: Engine, column: Any) -> dict[str, float]:
    mean, std = engine.value(column.mean()) or 0.0, engine.value(column.std(how="pop")) or 0.0
    # Sums in parallel differ in the last digits from run to run.
    return {"mean": float(f"{mean:.9g}"), "std": float(f"{std:.9g}") or 1.0}


def encode(table: ir.Table, encoders: Sequence[Encoder]) -> ir.Table:
    """Encode the columns of `encoders`; the others stay.

    Missing and unknown values become 0 or an empty list; missing numbers stay null.

    A list loses its unknown values and keeps its order. The table needs the column `row_number`.
    """
    for encoder in encoders:
        if encoder.role in table.columns:
            table = _encode(table, encoder)
    return table


def _encode(table: ir.Table, encoder: Encoder) -> ir.Table:
    role, column = encoder.role, table[encoder.role]
    if encoder.spec.type == "numeric":
        standard = (column - encoder.spec.mean) / encoder.spec.std
        return table.mutate(**{role: standard.clip(-LARGEST, LARGEST).cast("float32")})
    if encoder.vocabulary is None:
        zeros = ibis.literal([0.0] * encoder.spec.width, type="array<float32>")
        return table.mutate(**{role: ibis.coalesce(column, zeros)})
    if encoder.spec.type == "multi":
        return _encode_lists(table, role, encoder.vocabulary)
    return with_ids(table, role, encoder.vocabulary)


def with_ids(table: ir.Table, role: str, known: ir.Table) -> ir.Table:
    """Replace the values of one column by their ids, int32; 0 for unknown ones."""
    lookup = known.select(_value=known["value"], _id=known["id"])
    joined = table.left_join(lookup, table[role] == lookup["_value"])
    return joined.mutate(**{role: joined["_id"].fill_null(0).cast("int32")}).drop("_value", "_id")


def _encode_lists(table: ir.Table, role: str, known: ir.Table) -> ir.Table:
    values = table.select(ROW, value=table[role]).unnest("value", offset="place")
    found = values.join(known.select("value", "id"), "value")
    # Joins keep no order: the place in the list comes first in each struct, and structs sort by their first field.
    pairs = ibis.struct({"place": found["place"], "id": found["id"]})
    lists = found.group_by(ROW).agg(pairs=pairs.collect())
    ids = lists.select(_row=lists[ROW], _ids=lists["pairs"].sort().map(lambda pair: pair["id"]))
    joined = table.left_join(ids, table[ROW] == ids["_row"])
    empty = ibis.literal([], type="array<int32>")
    return joined.mutate(**{role: ibis.coalesce(joined["_ids"], empty)}).drop("_row", "_ids")


def write_vocabulary(engine: Engine, known: ir.Table, path: Path) -> None:
    """Write a vocabulary for `Vocabulary.load`."""
    engine.write(known.select("value", "id", "count").order_by("id"), path)
