"""Learn vocabularies, scales and buckets from tables, and encode tables with them for the models."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from openlum.field_spec import FieldSpec
from openlum.prepare.engines.engine import Engine
from openlum.schema import Feature

MAX_STANDARDISED = 1e30
"""Standardised numbers are clipped to this size, so that they fit into float32."""
DAYS = "days since 1970"
"""The unit of time features."""


@dataclass(frozen=True)
class Encoder:
    """The rule that turns one column of a table into ids or numbers."""

    role: str
    """The column, KIND.FIELD."""
    spec: FieldSpec
    """The encoded field."""
    vocabulary: ir.Table | None = None
    """categorical, multi: the columns value, id and count; None where the field is hashed or in buckets."""


Encoders = dict[str, list[Encoder]]
"""For `condition`, `context`, `item` and `user`: the encoders of its fields."""


def build_vocabulary(
    engine: Engine, name: str, occurrences: ir.Table, min_count: int = 0, earlier: ir.Table | None = None
) -> ir.Table:
    """Return ids from 1 for values, by descending count; values of the same count are ordered by their text.

    Args:
        engine: the engine that computes tables.
        name: the name of the vocabulary.
        occurrences: columns value and count; values may repeat, and their counts are added.
        min_count: values with a smaller total count get no id.
        earlier: columns value and id of an earlier preparation. These values keep their ids; new values get the next ids.

    Returns:
        A table with the columns value, id and count.
    """
    present = occurrences.filter(occurrences["value"].notnull())
    total = present.group_by("value").agg(count=present["count"].sum().cast("int64"))
    frequent = total.filter(total["count"] >= min_count)
    new = frequent if earlier is None else frequent.anti_join(earlier, "value")
    last = 0 if earlier is None else engine.fetch_value(earlier["id"].max()) or 0
    rank = ibis.row_number().over(order_by=[new["count"].desc(), new["value"]])
    vocabulary = new.select("value", id=(rank + last + 1).cast("int32"), count="count")
    if earlier is not None:
        counted = earlier.select("value", "id").left_join(total, "value")
        old = counted.select("value", "id", count=counted["count"].fill_null(0))
        vocabulary = ibis.union(old, vocabulary)
    return engine.materialize(f"vocabulary {name}", vocabulary)


def learn_encoders(
    engine: Engine,
    kind: str,
    features: Mapping[str, Feature],
    training: ir.Table | None,
    earlier: Mapping[str, Encoder],
) -> list[Encoder]:
    """Learn the encoders of the columns KIND.FIELD.

    Args:
        engine: the engine that computes tables.
        kind: `condition`, `item`, `user` or `context`.
        features: the fields by name.
        training: the rows from which values are counted and scales computed; None if there are no features.
        earlier: the encoder of each role from an earlier preparation. Scales and buckets stay, and vocabularies grow.
    """
    roles = {f"{kind}.{name}": name for name in features}
    return [
        _learn_encoder(engine, role, name, features[name], training, earlier.get(role)) for role, name in roles.items()
    ]


def _learn_encoder(
    engine: Engine, role: str, name: str, feature: Feature, training: Any, earlier: Encoder | None
) -> Encoder:
    spec = FieldSpec(name=name, type="categorical", feedback=getattr(feature, "feedback", False))
    if earlier is not None and not earlier.spec.in_vocabulary:
        return earlier
    if feature.type in ("numeric", "time"):
        spec = spec.model_copy(update={"unit": DAYS if feature.type == "time" else ""})
        if feature.buckets:
            edges = _bucket_edges(engine, training[role], feature.buckets)
            return Encoder(role, spec.model_copy(update={"edges": edges, "size": len(edges) + 2}))
        return Encoder(role, spec.model_copy(update={"type": "numeric", **_mean_and_std(engine, training[role])}))
    if feature.type == "vector":
        return Encoder(role, spec.model_copy(update={"type": "vector", "width": feature.width}))
    spec = spec.model_copy(update={"type": feature.type})
    values = training.select(value=training[role])
    if feature.type == "multi":
        spec, values = spec.model_copy(update={"width": feature.max_values}), values.unnest("value")
    if feature.hash_rows:
        return Encoder(role, spec.model_copy(update={"hashed": True, "size": feature.hash_rows + 1}))
    earlier_vocabulary = earlier.vocabulary if earlier else None
    occurrences = values.mutate(count=ibis.literal(1, "int64"))
    vocabulary = build_vocabulary(engine, role, occurrences, feature.min_count, earlier_vocabulary)
    size = (engine.fetch_value(vocabulary["id"].max()) or 0) + 1
    return Encoder(role, spec.model_copy(update={"size": size}), vocabulary=vocabulary)


def _mean_and_std(engine: Engine, column: Any) -> dict[str, float]:
    mean, std = engine.fetch_value(column.mean()) or 0.0, engine.fetch_value(column.std(how="pop")) or 0.0
    # Parallel sums differ in their last digits from run to run, so the result is rounded.
    return {"mean": float(f"{mean:.9g}"), "std": float(f"{std:.9g}") or 1.0}


def _bucket_edges(engine: Engine, column: Any, buckets: int) -> list[float]:
    """Return the upper edge of each bucket except the last. Buckets are quantiles; ties may make them unequal."""
    values = column.as_table().rename(value=column.get_name())
    values = values.filter(values["value"].notnull())
    counts = values.group_by("value").agg(n=values.count())
    cumulative = counts.mutate(cumulative=counts["n"].sum().over(order_by="value", rows=(None, 0)))
    total = engine.fetch_value(counts["n"].sum()) or 0
    ranks = {-(-total * part // buckets) for part in range(1, buckets)}
    at_ranks = {f"e{rank}": cumulative["value"].min(where=cumulative["cumulative"] >= rank) for rank in ranks}
    row = engine.fetch_rows(cumulative.aggregate(**at_ranks))[0]
    largest = engine.fetch_value(counts["value"].max())
    return sorted({value for value in row.values() if value is not None and value < largest})


def encode_columns(table: ir.Table, encoders: list[Encoder], key: str) -> ir.Table:
    """Encode the columns of `encoders`; other columns stay.

    Missing and unknown categories become 0 or an empty list; missing numbers stay null; missing vectors become zeros. Unknown
    values are removed from lists, whose order stays.

    Args:
        table: the raw values.
        encoders: encoders whose column is not in the table are skipped.
        key: a column of `table` with a unique value in each row.
    """
    for encoder in encoders:
        if encoder.role in table.columns:
            table = _encode_column(table, encoder, key)
    return table


def _encode_column(table: ir.Table, encoder: Encoder, key: str) -> ir.Table:
    role, column, spec = encoder.role, table[encoder.role], encoder.spec
    if spec.edges is not None:
        bucket = sum(((column > edge).cast("int32") for edge in spec.edges), ibis.literal(1, "int32"))
        return table.mutate(**{role: ibis.ifelse(column.isnull(), 0, bucket).cast("int32")})
    if spec.type == "numeric":
        standard = (column - spec.mean) / spec.std
        return table.mutate(**{role: standard.clip(-MAX_STANDARDISED, MAX_STANDARDISED).cast("float32")})
    if spec.type == "vector":
        zeros = ibis.literal([0.0] * spec.width, type="array<float32>")
        return table.mutate(**{role: ibis.coalesce(column, zeros)})
    if spec.hashed:
        return table.mutate(**{role: _hashed_ids(column, spec)})
    assert encoder.vocabulary is not None
    if spec.type == "multi":
        return _encode_lists(table, role, encoder.vocabulary, key)
    return _encode_categories(table, role, encoder.vocabulary)


def _hashed_ids(column: Any, spec: FieldSpec) -> Any:
    """Return the ids of a hashed field as an expression: int32, or a list of int32; 0 or an empty list where missing."""
    if spec.type == "multi":
        hashed = column.map(lambda value: hashed_id_expression(value, spec.size - 1))
        return ibis.coalesce(hashed, ibis.literal([], type="array<int32>"))
    return hashed_id_expression(column, spec.size - 1).fill_null(0)


def hashed_id_expression(text: Any, rows: int) -> Any:
    """Return `vocabulary.hashed_id` of a text column as an expression, int32; null where the text is null."""
    digits, digest = ibis.literal("0123456789abcdef"), text.hexdigest("md5")
    number = sum(digits.find(digest.substr(at, 1)) * 16 ** (6 - at) for at in range(7))  # fits into int32
    return (number % rows + 1).cast("int32")


def _encode_categories(table: ir.Table, role: str, vocabulary: ir.Table) -> ir.Table:
    """Replace the values of one column by their ids, int32; unknown values become 0."""
    lookup = vocabulary.select(_value=vocabulary["value"], _id=vocabulary["id"])
    joined = table.left_join(lookup, table[role] == lookup["_value"])
    return joined.mutate(**{role: joined["_id"].fill_null(0).cast("int32")}).drop("_value", "_id")


def _encode_lists(table: ir.Table, role: str, vocabulary: ir.Table, key: str) -> ir.Table:
    values = table.select(key, value=table[role]).unnest("value", offset="list_index")
    in_vocabulary = values.join(vocabulary.select("value", "id"), "value")
    # Joins keep no order, so the list index is the first field of each struct: structs are sorted by their first field.
    pairs = ibis.struct({"list_index": in_vocabulary["list_index"], "id": in_vocabulary["id"]})
    lists = in_vocabulary.group_by(key).agg(pairs=pairs.collect())
    ids = lists.select(_row=lists[key], _ids=lists["pairs"].sort().map(lambda pair: pair["id"]))
    joined = table.left_join(ids, table[key] == ids["_row"])
    empty = ibis.literal([], type="array<int32>")
    return joined.mutate(**{role: ibis.coalesce(joined["_ids"], empty)}).drop("_row", "_ids")


def write_vocabulary(engine: Engine, vocabulary: ir.Table, path: Path) -> None:
    """Write a vocabulary for `Vocabulary.load`."""
    engine.write(vocabulary.select("value", "id", "count").order_by("id"), path)
