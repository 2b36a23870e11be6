"""One type for a column of several files, where their values have one without loss."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

EXACT = 2**53
"""Floats tell integers apart up to here."""


def plain_type(of: pa.DataType) -> pa.DataType:
    """The type without what does not matter to us: large, dictionary-encoded or view layouts, and the name of a time zone."""
    if pa.types.is_dictionary(of):
        return plain_type(of.value_type)
    if pa.types.is_large_string(of) or pa.types.is_string_view(of):
        return pa.string()
    if pa.types.is_large_binary(of) or pa.types.is_binary_view(of):
        return pa.binary()
    if pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        return pa.list_(plain_type(of.value_type))
    if pa.types.is_timestamp(of) and of.tz is not None:
        return pa.timestamp(of.unit, "UTC")
    return of


def common_types(types: Sequence[pa.DataType]) -> list[pa.DataType]:
    """The types that may hold the values of all these, the best first; where there is none, nothing.

    A value must fit without loss, see `fits`. Where one of the types is null, the others decide.
    """
    different = list(dict.fromkeys(of for of in types if not pa.types.is_null(of)))
    if len(different) < 2:
        return different or [pa.null()]
    if all(pa.types.is_list(of) for of in different):
        return [pa.list_(of) for of in common_types([of.value_type for of in different])]
    if all(pa.types.is_timestamp(of) for of in different):
        return [pa.timestamp("us", different[0].tz)] if len({of.tz for of in different}) == 1 else []
    if all(pa.types.is_integer(of) or pa.types.is_floating(of) for of in different):
        # As text a float32 is not the float64 of the same value: 0.1 becomes 0.10000000149.
        single = any(pa.types.is_float32(of) or pa.types.is_float16(of) for of in different)
        return [pa.int64()] if single or not any(map(pa.types.is_floating, different)) else [pa.int64(), pa.float64()]
    return []


def fits(file: str, column: str, of: pa.DataType) -> bool:
    """Whether every value of a Parquet file's column is the same in another type."""
    given = plain_type(pq.read_schema(file).field(column).type)
    if pa.types.is_integer(given) and pa.types.is_integer(of) and given != pa.uint64():
        return True  # `common_types` goes from narrow to wide
    return all(_is_same(values, of) for values in _values(file, column))


def is_empty(file: str, column: str) -> bool:
    """Whether a Parquet file's column has no value at all."""
    return all(values.null_count == len(values) for values in _values(file, column))


def _values(file: str, column: str) -> Iterator[pa.Array]:
    with pq.ParquetFile(file) as opened:
        for batch in opened.iter_batches(columns=[column]):
            yield batch.column(column)


def _is_same(values: pa.Array, of: pa.DataType) -> bool:
    kind = plain_type(values.type)
    if pa.types.is_list(of):
        return pa.types.is_null(kind.value_type) or _is_same(pc.list_flatten(values), of.value_type)
    if pa.types.is_floating(kind) and pa.types.is_integer(of) and (pc.max(pc.abs(values)).as_py() or 0) >= EXACT:
        return False
    try:
        values.cast(of)
    except pa.ArrowInvalid:
        return False
    return True
