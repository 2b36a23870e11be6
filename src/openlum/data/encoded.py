"""Encoded columns of a dataset as NumPy arrays, with checks that no id and no width is out of range.

Shapes: n rows or events, U users, M values of a multi field, W width of a vector.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openlum.artefact.parts import TypeCheck, damaged, is_integer, is_list_of, is_number
from openlum.field_spec import FieldSpec

MADE_BY = "lum prepare"


def column_type(spec: FieldSpec) -> TypeCheck:
    """Return the check for the types that a column of a field may have."""
    inner = is_integer if spec.type in ("categorical", "multi") else is_number
    return is_list_of(inner) if spec.type in ("multi", "vector") else inner


def to_numpy(column: Any, spec: FieldSpec, path: Path) -> np.ndarray:
    """Return an Arrow column of encoded values as NumPy: (n,), (n, M) padded with 0, or (n, W). Ids are int32.

    Raises:
        InputError: an id or a width is out of the field's range; the message names `path`.
    """
    if spec.type == "categorical":
        ids = column.to_numpy(zero_copy_only=False)
        check_ids(ids, spec.size - 1, path, spec.name)
        return ids.astype(np.int32)
    if spec.type == "numeric":
        return column.to_numpy(zero_copy_only=False).astype(np.float32)
    flat = column.flatten().to_numpy(zero_copy_only=False)
    lengths = np.asarray(pc.list_value_length(column).fill_null(0))
    if len(lengths) and lengths.max() > spec.width:
        raise damaged(
            path, f"column '{spec.name}' has {lengths.max()} values in one row, more than {spec.width}", MADE_BY
        )
    if spec.type == "multi":
        check_ids(flat, spec.size - 1, path, spec.name)
    out = np.zeros((len(column), spec.width), np.int32 if spec.type == "multi" else np.float32)
    out[np.arange(spec.width) < lengths[:, None]] = flat
    return out


def any_values(spec: FieldSpec, n: int) -> np.ndarray:
    """Return the encoded *any* of n rows: (n,), (n, M) or (n, W)."""
    shape = (n, spec.width) if spec.type in ("multi", "vector") else (n,)
    return np.zeros(shape, np.int32) if spec.size else np.full(shape, np.nan, np.float32)


def check_ids(ids: np.ndarray, largest: int, path: Path, column: str) -> None:
    """Raise an `InputError` if an id, of (n,), is negative or larger than `largest`; it names the column and the id."""
    if len(ids) and (ids.min() < 0 or ids.max() > largest):
        wrong = ids[(ids < 0) | (ids > largest)][0]
        raise damaged(path, f"column '{column}' has the id {wrong}, but the largest id is {largest}", MADE_BY)


def event_offsets(table: pa.Table, lists: list[str], path: Path) -> np.ndarray:
    """Return where each user's events begin, (U + 1,).

    Raises:
        InputError: the list columns have different numbers of events.
    """
    lengths = {name: np.asarray(pc.list_value_length(table[name].combine_chunks()).fill_null(0)) for name in lists}
    for name in lists[1:]:
        if (lengths[name] != lengths[lists[0]]).any():
            raise damaged(path, f"columns '{lists[0]}' and '{name}' have different numbers of events", MADE_BY)
    return np.concatenate([[0], np.cumsum(lengths[lists[0]], dtype=np.int64)])
