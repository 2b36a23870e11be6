"""Encoded columns of a dataset as arrays, none of whose values is beyond what it stands for.

Shapes: n rows or events, U users, M values of a multi field, W width of a vector.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openlum.artefact.parts import Fits, damaged, list_of, number, whole
from openlum.schema import FieldSpec

MADE_BY = "lum prepare"


def encoded(spec: FieldSpec) -> Fits:
    """The types that a column of a field may have."""
    inner = whole if spec.type in ("categorical", "multi") else number
    return list_of(inner) if spec.type in ("multi", "vector") else inner


def values_of(column: Any, spec: FieldSpec, path: Path) -> np.ndarray:
    """An Arrow column of encoded values as numpy: (n,), (n, M) padded with 0, or (n, W).

    Raises:
        InputError: an id or a width is not the field's; `path` is named.
    """
    if spec.type == "categorical":
        ids = column.to_numpy(zero_copy_only=False).astype(np.int64)
        check_ids(ids, spec.size - 1, path, spec.name)
        return ids
    if spec.type == "numeric":
        return column.to_numpy(zero_copy_only=False).astype(np.float32)
    flat = column.flatten().to_numpy(zero_copy_only=False)
    lengths = np.asarray(pc.list_value_length(column).fill_null(0))
    if len(lengths) and lengths.max() > spec.width:
        raise damaged(
            path, f"column '{spec.name}' has {lengths.max()} values in a row, more than {spec.width}", MADE_BY
        )
    if spec.type == "multi":
        check_ids(flat, spec.size - 1, path, spec.name)
    out = np.zeros((len(column), spec.width), np.int64 if spec.type == "multi" else np.float32)
    out[np.arange(spec.width) < lengths[:, None]] = flat
    return out


def check_ids(ids: np.ndarray, most: int, path: Path, column: str) -> None:
    """Refuse ids, (n,), beyond those that there are.

    Raises:
        InputError: with the column and one of them.
    """
    if len(ids) and (ids.min() < 0 or ids.max() > most):
        wrong = ids[(ids < 0) | (ids > most)][0]
        raise damaged(path, f"column '{column}' has the id {wrong}, but the last one is {most}", MADE_BY)


def event_offsets(table: pa.Table, lists: list[str], path: Path) -> np.ndarray:
    """Where each user's events begin, (U + 1,), which all columns of lists must agree on.

    Raises:
        InputError: they do not.
    """
    lengths = {name: np.asarray(pc.list_value_length(table[name].combine_chunks()).fill_null(0)) for name in lists}
    for name in lists[1:]:
        if (lengths[name] != lengths[lists[0]]).any():
            raise damaged(path, f"columns '{lists[0]}' and '{name}' have not the same number of events", MADE_BY)
    return np.concatenate([[0], np.cumsum(lengths[lists[0]], dtype=np.int64)])
