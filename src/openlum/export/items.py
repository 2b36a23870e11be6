"""The item vectors of a model as one Parquet file, for vector indexes and databases.

The file has one row per item that the model knows:

- `item`: the id in the log;
- `title`: the id, if the item has no title;
- `vector`: fixed_size_list<float16 | float32 | int8>[E], of unit length;
- `scale`: float32, with `int8` only. A vector is `scale` times its integers.

Shapes: n items, V items of the model with item 0 (unknown), E width of a vector.
"""

import os
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from openlum.arguments.values import as_path
from openlum.artefact.lock import check_writable, locked
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.export import VectorType
from openlum.model.large_user_model import CATALOGUE_CHUNK, LargeUserModel
from openlum.query.columns import vector_type, vectors

MODEL_KEY = b"openlum.model"
"""Key of the file's metadata with the fingerprint of the model. Only a file with this key is replaced."""


def export_items(
    model: str | Path | LargeUserModel,
    out: str | Path = "item-vectors.parquet",
    dataset: str | Path | Dataset | None = None,
    dtype: VectorType = "float16",
) -> dict[str, Any]:
    """Write the item vectors of a model, as `lum export items` does. Their inner product with an answer is the cosine.

    Args:
        model: a model, its directory, or OWNER/NAME on the Hugging Face Hub.
        out: the Parquet file to write: `item`, `title`, `vector`, and with `int8` the `scale` of each vector.
        dataset: take items and titles from this dataset, which may be longer than that of the training. Items that the model does
            not know are left out.
        dtype: data type of the vectors. `int8` halves the size of `float16`.

    Returns:
        The figures `items`, `unknown_items`, `width`, `bytes_per_item` (of the vector) and `model` (its fingerprint).

    Raises:
        InputError: the dtype is unknown, the dataset does not fit the model, or `out` holds another file.
    """
    out = as_path("out", out)
    if dtype not in get_args(VectorType):
        raise InputError(f"dtype: '{dtype}' is unknown; choose from {', '.join(get_args(VectorType))}")
    _check_replaceable(out)
    check_writable(out)
    if not isinstance(model, LargeUserModel):
        model = LargeUserModel.from_pretrained(model)
    ids, titles, unknown = _items(model, dataset)
    width, fingerprint = model.config.settings.embedding_width, model.config.fingerprint
    with locked(out):
        draft = out.with_name(f".{out.name}.draft")
        try:
            _write(model, ids, titles, dtype, draft)
            os.replace(draft, out)
        finally:
            draft.unlink(missing_ok=True)
    size = width * np.dtype(dtype).itemsize + (4 if dtype == "int8" else 0)
    return {
        "items": len(ids),
        "unknown_items": unknown,
        "width": width,
        "bytes_per_item": size,
        "model": fingerprint,
    }


def _items(model: LargeUserModel, dataset: str | Path | Dataset | None) -> tuple[np.ndarray, list[str], int]:
    """Return the ids, (n,) int64, and the titles of the items to write, and the number of items that the model does not know."""
    if dataset is None:
        return np.arange(1, model.config.items), model.processor.titles[1:], 0
    dataset = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
    model.check_compatible(dataset)  # so that ids of the dataset are those of the model
    titles = dataset.item_titles()
    known = min(len(titles), model.config.items)
    return np.arange(1, known), titles[1:known], len(titles) - known


@torch.inference_mode()
def _write(model: LargeUserModel, ids: np.ndarray, titles: list[str], dtype: VectorType, file: Path) -> None:
    """Write the vectors of items with ids (n,), chunk by chunk."""
    model.eval()
    columns = [("item", pa.string()), ("title", pa.string())]
    columns.append(("vector", vector_type(dtype, model.config.settings.embedding_width)))
    columns += [("scale", pa.float32())] if dtype == "int8" else []
    schema = pa.schema(columns, {MODEL_KEY: model.config.fingerprint.encode()})
    with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=False) as writer:
        for first in range(0, len(ids), CATALOGUE_CHUNK):
            chunk = slice(first, first + CATALOGUE_CHUNK)
            values = model.items(torch.from_numpy(ids[chunk]).to(model.device)).float().cpu().numpy()  # (n, E)
            arrays = [
                pa.array(model.processor.items.decode(ids[chunk])),
                pa.array(titles[chunk]),
                vectors(values, dtype),
            ]
            arrays += [pa.array(np.abs(values).max(1) / 127)] if dtype == "int8" else []
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _check_replaceable(out: Path) -> None:
    """Raise an error if `out` exists and is not the result of an earlier call."""
    if not out.exists():
        return
    try:
        metadata = pq.read_schema(out).metadata or {}
    except (OSError, pa.ArrowException):
        metadata = {}
    if MODEL_KEY not in metadata:
        raise InputError(f"{out}: exists and was not written by lum export items; name another file")
