"""One type for a column of several files, if all values fit that type without loss."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

EXACT = 2**53
"""Floats represent every integer below this number."""


def plain_type(column_type: pa.DataType) -> pa.DataType:
    """Return a type without irrelevant details: large, dictionary-encoded or view layouts, and the name of a time zone."""
    if pa.types.is_dictionary(column_type):
        return plain_type(column_type.value_type)
    if pa.types.is_large_string(column_type) or pa.types.is_string_view(column_type):
        return pa.string()
    if pa.types.is_large_binary(column_type) or pa.types.is_binary_view(column_type):
        return pa.binary()
    if pa.types.is_list(column_type) or pa.types.is_large_list(column_type) or pa.types.is_fixed_size_list(column_type):
        return pa.list_(plain_type(column_type.value_type))
    if pa.types.is_timestamp(column_type) and column_type.tz is not None:
        return pa.timestamp(column_type.unit, "UTC")
    return column_type


def common_types(types: Sequence[pa.DataType]) -> list[pa.DataType]:
    """Return the types that may hold the values of all given types, the best first; empty if there is none.

    The caller must check with `fits` that the values fit without loss. Null types do not count.
    """
    different = list(dict.fromkeys(column_type for column_type in types if not pa.types.is_null(column_type)))
    if len(different) < 2:
        return different or [pa.null()]
    if all(pa.types.is_list(column_type) for column_type in different):
        return [
            pa.list_(column_type) for column_type in common_types([column_type.value_type for column_type in different])
        ]
    if all(pa.types.is_timestamp(column_type) for column_type in different):
        return [pa.timestamp("us", different[0].tz)] if len({column_type.tz for column_type in different}) == 1 else []
    if all(pa.types.is_integer(column_type) or pa.types.is_floating(column_type) for column_type in different):
        # The canonical text of a float32 changes when it becomes a float64: 0.1 becomes 0.10000000149.
        single = any(pa.types.is_float32(column_type) or pa.types.is_float16(column_type) for column_type in different)
        return [pa.int64()] if single or not any(map(pa.types.is_floating, different)) else [pa.int64(), pa.float64()]
    return []


def fits(file: str, column: str, target: pa.DataType) -> bool:
    """Return whether every value of a Parquet file's column is the same in another type."""
    file_type = plain_type(pq.read_schema(file).field(column).type)
    if pa.types.is_integer(file_type) and pa.types.is_integer(target) and file_type != pa.uint64():
        return True  # `common_types` only widens integers
    return all(_same_in_type(values, target) for values in _values(file, column))


def is_empty(file: str, column: str) -> bool:
    """Return whether a Parquet file's column has no value at all."""
    return all(values.null_count == len(values) for values in _values(file, column))


def _values(file: str, column: str) -> Iterator[pa.Array]:
    with pq.ParquetFile(file) as opened:
        for batch in opened.iter_batches(columns=[column]):
            yield batch.column(column)


def _same_in_type(values: pa.Array, target: pa.DataType) -> bool:
    source = plain_type(values.type)
    if pa.types.is_list(target):
        return pa.types.is_null(source.value_type) or _same_in_type(pc.list_flatten(values), target.value_type)
    if pa.types.is_floating(source) and pa.types.is_integer(target) and (pc.max(pc.abs(values)).as_py() or 0) >= EXACT:
        return False
    try:
        values.cast(target)
    except pa.ArrowInvalid:
        return False
    return True
