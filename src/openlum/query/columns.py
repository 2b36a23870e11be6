"""Columns of vectors, and the table of item embeddings, which both forms of `knowledge/` have.

Shapes: n rows, M vectors of a row, E width of a vector, V items.
"""

import numpy as np
import pyarrow as pa
from torch import Tensor

from openlum.data.shard import ShardedDataset


def vector_type(dtype: str, size: int) -> pa.DataType:
    """Return the type of a column with `size` numbers in a row."""
    return pa.list_(pa.from_numpy_dtype(np.dtype(dtype)), size)


def vectors(values: np.ndarray, dtype: str) -> pa.FixedSizeListArray:
    """Return vectors of unit length, (n, E) or (n, M, E), as a column of the type `float16`, `float32` or `int8`. The M vectors
    of a row lie end to end.

    With `int8`, the largest entry of each vector becomes 127 or -127. The scale is not stored, because the vector is known to
    have length 1.
    """
    if dtype == "int8":
        values = np.rint(values * (127 / np.abs(values).max(-1, keepdims=True).clip(min=1e-9)))
    flat = pa.array(np.ascontiguousarray(values, dtype).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))


def item_table(dataset: ShardedDataset, items: Tensor, dtype: str) -> pa.Table:
    """Return the embeddings of the items: columns `id` (in the dataset, from 0), `item` (in the log) and `embedding`.

    Args:
        dataset: with the items.
        items: (V, E) their embeddings.
        dtype: `float16` or `int8`.
    """
    ids = np.arange(len(items), dtype=np.int32)
    return pa.table({"id": ids, "item": dataset.raw_ids("items"), "embedding": vectors(items.numpy(), dtype)})
