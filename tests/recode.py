"""Copies of a prepared data set with more values or other ids, as `lum prepare --append` or a new preparation writes them."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openlum.artefact.manifest import MANIFEST
from openlum.data.dataset import SPLITS, Dataset
from openlum.data.vocabulary import Vocabulary

NewIds = Mapping[str, Mapping[str, Mapping[int, int]]]
"""`sequences` or a split to column to index to the new id. The index counts all events, or the rows of the split."""


def recode(
    dataset: Dataset, out: Path, vocabularies: Mapping[str, Sequence[str]], new_ids: NewIds | None = None, **info: Any
) -> Dataset:
    """Write a changed copy of a dataset and return it.

    Args:
        dataset: the dataset to copy.
        out: the new directory.
        vocabularies: name of a vocabulary (`items`, `condition.FIELD`, `item.FIELD`) to its values in the order of the new ids.
            The values include all former ones.
        new_ids: ids to set afterwards.
        info: keys of `dataset.json` to replace.
    """
    shutil.copytree(dataset.path, out, ignore=shutil.ignore_patterns(MANIFEST))  # its checksums will be wrong
    ids = {}
    for name, values in vocabularies.items():
        new = Vocabulary(values)
        ids[name] = np.concatenate([[0], new.encode(dataset.vocabulary(name).values)])
        new.save(out / "vocab" / f"{name}.parquet")
    content = json.loads((out / "dataset.json").read_text()) | {"fingerprint": out.name} | info
    for kind in ("condition", "item"):
        for spec in content[kind]:
            if f"{kind}.{spec['name']}" in vocabularies:
                spec["size"] = len(vocabularies[f"{kind}.{spec['name']}"]) + 1
    if "items" in vocabularies:
        content["counts"]["items"] = len(vocabularies["items"])
    (out / "dataset.json").write_text(json.dumps(content))
    for name, order in (("sequences", "user"), *((split, "row") for split in SPLITS)):
        directory = out / (name if name == "sequences" else f"impressions/{name}")
        table = _remap(pq.read_table(directory).sort_by(order), ids, (new_ids or {}).get(name, {}))
        shutil.rmtree(directory)
        directory.mkdir()
        pq.write_table(table, directory / "part-0.parquet")
    items = _remap(pq.read_table(out / "items.parquet"), ids, {})
    rows = [items]
    for index, value in enumerate(vocabularies.get("items", []), start=1):
        if index not in items["item"].to_pylist():
            row = items.slice(1, 1).to_pylist()[0] | {"item": index, "key": value, "title": value}
            rows.append(pa.Table.from_pylist([row], schema=items.schema))
    pq.write_table(pa.concat_tables(rows).sort_by("item"), out / "items.parquet")
    return Dataset(out)


def _remap(table: pa.Table, ids: Mapping[str, np.ndarray], new_ids: Mapping[str, Mapping[int, int]]) -> pa.Table:
    for index, name in enumerate(table.column_names):
        vocabulary = "items" if name == "item" else name
        if vocabulary in ids or name in new_ids:
            column = _encode(table[name].combine_chunks(), ids.get(vocabulary), new_ids.get(name, {}))
            table = table.set_column(index, name, column)
    return table


def _encode(column: Any, ids: np.ndarray | None, new_ids: Mapping[int, int]) -> pa.Array:
    if pa.types.is_list(column.type):
        offsets = column.offsets.to_numpy() - column.offsets[0].as_py()
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), _encode(column.flatten(), ids, new_ids))
    values = column.to_numpy(zero_copy_only=False)
    values = values.copy() if ids is None else ids[values]
    for index, value in new_ids.items():
        values[index] = value
    return pa.array(values, pa.int32())
