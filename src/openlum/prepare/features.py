"""Fields as the models see them: vocabularies, scales and buckets learnt from tables, and tables encoded with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from openlum.prepare.engines.engine import Engine
from openlum.schema import Feature, FieldSpec

LARGEST = 1e30
"""Standardised numbers beyond this are cut: they would not fit into float32."""
DAYS = "days since 1970"
"""The unit of times."""


@dataclass(frozen=True)
class Encoder:
    """How one column of a table becomes ids or numbers."""

    role: str
    """The column, KIND.FIELD."""
    spec: FieldSpec
    """The field that comes out."""
    vocabulary: ir.Table | None = None
    """categorical, multi: value, id, count; None where the field is hashed or in buckets."""


Encoders = dict[str, list[Encoder]]
"""`condition`, `context`, `item` or `user` to the encoders of its fields."""


def vocabulary(
    engine: Engine, name: str, occurrences: ir.Table, min_count: int = 0, former: ir.Table | None = None
) -> ir.Table:
    """Ids from 1 for values, the most frequent first, equals in the order of the text.

    Args:
        engine: where tables are computed.
        name: what to call the vocabulary.
        occurrences: columns value and count; values may repeat, their counts are added up.
        min_count: values with less in all get no id.
        former: columns value and id of an earlier preparation: these values keep their ids, new ones come after them.

    Returns:
        A table with the columns value, id and count.
    """
    known = occurrences.filter(occurrences["value"].notnull())
    total = known.group_by("value").agg(count=known["count"].sum().cast("int64"))
    frequent = total.filter(total["count"] >= min_count)
    new = frequent if former is None else frequent.anti_join(former, "value")
    last = 0 if former is None else engine.value(former["id"].max()) or 0
    place = ibis.row_number().over(order_by=[new["count"].desc(), new["value"]])
    found = new.select("value", id=(place + last + 1).cast("int32"), count="count")
    if former is not None:
        counted = former.select("value", "id").left_join(total, "value")
        old = counted.select("value", "id", count=counted["count"].fill_null(0))
        found = ibis.union(old, found)
    return engine.keep(f"vocabulary {name}", found)


def learn(
    engine: Engine, kind: str, features: Mapping[str, Feature], training: ir.Table | None, former: Mapping[str, Encoder]
) -> list[Encoder]:
    """Learn how to encode the columns KIND.FIELD.

    Args:
        engine: where tables are computed.
        kind: `condition`, `item`, `user` or `context`.
        features: the fields by name.
        training: the rows that values are counted in and scales taken from; None where there are no features.
        former: role to encoder of an earlier preparation: scales and buckets stay, vocabularies grow.
    """
    roles = {f"{kind}.{name}": name for name in features}
    return [_learn(engine, role, name, features[name], training, former.get(role)) for role, name in roles.items()]


def _learn(engine: Engine, role: str, name: str, feature: Feature, training: Any, former: Encoder | None) -> Encoder:
    spec = FieldSpec(name=name, type="categorical", feedback=getattr(feature, "feedback", False))
    if former is not None and not former.spec.in_vocabulary:
        return former
    if feature.type in ("numeric", "time"):
        spec = spec.model_copy(update={"unit": DAYS if feature.type == "time" else ""})
        if feature.buckets:
            edges = _edges(engine, training[role], feature.buckets)
            return Encoder(role, spec.model_copy(update={"edges": edges, "size": len(edges) + 2}))
        return Encoder(role, spec.model_copy(update={"type": "numeric", **_scale(engine, training[role])}))
    if feature.type == "vector":
        return Encoder(role, spec.model_copy(update={"type": "vector", "width": feature.width}))
    spec = spec.model_copy(update={"type": feature.type})
    values = training.select(value=training[role])
    if feature.type == "multi":
        spec, values = spec.model_copy(update={"width": feature.max_values}), values.unnest("value")
    if feature.hash_rows:
        return Encoder(role, spec.model_copy(update={"hashed": True, "size": feature.hash_rows + 1}))
    earlier = former.vocabulary if former else None
    seen = vocabulary(engine, role, values.mutate(count=ibis.literal(1, "int64")), feature.min_count, earlier)
    size = (engine.value(seen["id"].max()) or 0) + 1
    return Encoder(role, spec.model_copy(update={"size": size}), vocabulary=seen)


def _scale(engine: Engine, column: Any) -> dict[str, float]:
    mean, std = engine.value(column.mean()) or 0.0, engine.value(column.std(how="pop")) or 0.0
    # Sums in parallel differ in the last digits from run to run.
    return {"mean": float(f"{mean:.9g}"), "std": float(f"{std:.9g}") or 1.0}


def _edges(engine: Engine, column: Any, buckets: int) -> list[float]:
    """The greatest value of each bucket but the last: as many training rows in each as equal values allow."""
    values = column.as_table().rename(value=column.get_name())
    values = values.filter(values["value"].notnull())
    counted = values.group_by("value").agg(n=values.count())
    below = counted.mutate(below=counted["n"].sum().over(order_by="value", rows=(None, 0)))
    total = engine.value(counted["n"].sum()) or 0
    places = [-(-total * part // buckets) for part in range(1, buckets)]
    picked = below.aggregate(
        **{f"e{place}": below["value"].min(where=below["below"] >= place) for place in set(places)}
    )
    row = engine.rows(picked)[0]
    greatest = engine.value(counted["value"].max())
    return sorted({value for value in row.values() if value is not None and value < greatest})


def encode(table: ir.Table, encoders: list[Encoder], key: str) -> ir.Table:
    """Encode the columns of `encoders`; the others stay.

    Missing and unknown values become 0 or an empty list; missing numbers stay null, missing vectors become zeros. A list loses
    its unknown values and keeps its order.

    Args:
        table: the raw values.
        encoders: those for whose column the table has none are passed over.
        key: a column of `table` that no two rows share.
    """
    for encoder in encoders:
        if encoder.role in table.columns:
            table = _encode(table, encoder, key)
    return table


def _encode(table: ir.Table, encoder: Encoder, key: str) -> ir.Table:
    role, column, spec = encoder.role, table[encoder.role], encoder.spec
    if spec.edges is not None:
        bucket = sum(((column > edge).cast("int32") for edge in spec.edges), ibis.literal(1, "int32"))
        return table.mutate(**{role: ibis.ifelse(column.isnull(), 0, bucket).cast("int32")})
    if spec.type == "numeric":
        standard = (column - spec.mean) / spec.std
        return table.mutate(**{role: standard.clip(-LARGEST, LARGEST).cast("float32")})
    if spec.type == "vector":
        zeros = ibis.literal([0.0] * spec.width, type="array<float32>")
        return table.mutate(**{role: ibis.coalesce(column, zeros)})
    if spec.hashed:
        return table.mutate(**{role: _hashed(column, spec)})
    assert encoder.vocabulary is not None
    if spec.type == "multi":
        return _encode_lists(table, role, encoder.vocabulary, key)
    return with_ids(table, role, encoder.vocabulary)


def _hashed(column: Any, spec: FieldSpec) -> Any:
    """`vocabulary.hashed_id` as an expression."""
    if spec.type == "multi":
        hashed = column.map(lambda value: hash_expression(value, spec.size - 1))
        return ibis.coalesce(hashed, ibis.literal([], type="array<int32>"))
    return hash_expression(column, spec.size - 1).fill_null(0)


def hash_expression(text: Any, rows: int) -> Any:
    """`vocabulary.hashed_id` of a text column, int32; null where the text is."""
    digits, digest = ibis.literal("0123456789abcdef"), text.hexdigest("md5")
    number = sum(digits.find(digest.substr(at, 1)) * 16 ** (6 - at) for at in range(7))  # fits into int32
    return (number % rows + 1).cast("int32")


def with_ids(table: ir.Table, role: str, known: ir.Table) -> ir.Table:
    """Replace the values of one column by their ids, int32; 0 for unknown ones."""
    lookup = known.select(_value=known["value"], _id=known["id"])
    joined = table.left_join(lookup, table[role] == lookup["_value"])
    return joined.mutate(**{role: joined["_id"].fill_null(0).cast("int32")}).drop("_value", "_id")


def _encode_lists(table: ir.Table, role: str, known: ir.Table, key: str) -> ir.Table:
    values = table.select(key, value=table[role]).unnest("value", offset="place")
    found = values.join(known.select("value", "id"), "value")
    # Joins keep no order: the place in the list comes first in each struct, and structs sort by their first field.
    pairs = ibis.struct({"place": found["place"], "id": found["id"]})
    lists = found.group_by(key).agg(pairs=pairs.collect())
    ids = lists.select(_row=lists[key], _ids=lists["pairs"].sort().map(lambda pair: pair["id"]))
    joined = table.left_join(ids, table[key] == ids["_row"])
    empty = ibis.literal([], type="array<int32>")
    return joined.mutate(**{role: ibis.coalesce(joined["_ids"], empty)}).drop("_row", "_ids")


def write_vocabulary(engine: Engine, known: ir.Table, path: Path) -> None:
    """Write a vocabulary for `Vocabulary.load`."""
    engine.write(known.select("value", "id", "count").order_by("id"), path)
