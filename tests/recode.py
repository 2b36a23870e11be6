"""A prepared data set with further values, or under other ids: what `lum prepare --append` or a new preparation would give."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openlum.artefact.directory import MANIFEST
from openlum.data.dataset import SPLITS, Dataset
from openlum.data.vocabulary import Vocabulary

Put = Mapping[str, Mapping[str, Mapping[int, int]]]
"""`sequences` or a split to column to index (of the event among all, of the row in its split) to a new id."""


def recode(
    dataset: Dataset, out: Path, words: Mapping[str, Sequence[str]], put: Put | None = None, **info: Any
) -> Dataset:
    """Write `dataset` anew.

    Args:
        dataset: to rewrite; it stays as it is.
        out: the new directory.
        words: vocabulary (`items`, `condition.FIELD`, `item.FIELD`) to its values in the order of the new ids, the old ones among
            them.
        put: ids to set afterwards.
        info: keys of `dataset.json` to replace.
    """
    shutil.copytree(dataset.path, out, ignore=shutil.ignore_patterns(MANIFEST))  # its checksums will not hold
    ids = {}
    for name, values in words.items():
        new = Vocabulary(values)
        ids[name] = np.concatenate([[0], new.encode(dataset.vocabulary(name).values)])
        new.save(out / "vocab" / f"{name}.parquet")
    content = json.loads((out / "dataset.json").read_text()) | {"fingerprint": out.name} | info
    for kind in ("condition", "item"):
        for spec in content[kind]:
            if f"{kind}.{spec['name']}" in words:
                spec["size"] = len(words[f"{kind}.{spec['name']}"]) + 1
    if "items" in words:
        content["counts"]["items"] = len(words["items"])
    (out / "dataset.json").write_text(json.dumps(content))
    for name, order in (("sequences", "user"), *((split, "row") for split in SPLITS)):
        directory = out / (name if name == "sequences" else f"impressions/{name}")
        table = _remap(pq.read_table(directory).sort_by(order), ids, (put or {}).get(name, {}))
        shutil.rmtree(directory)
        directory.mkdir()
        pq.write_table(table, directory / "part-0.parquet")
    items = _remap(pq.read_table(out / "items.parquet"), ids, {})
    rows = [items]
    for index, value in enumerate(words.get("items", []), start=1):
        if index not in items["item"].to_pylist():
            row = items.slice(1, 1).to_pylist()[0] | {"item": index, "key": value, "title": value}
            rows.append(pa.Table.from_pylist([row], schema=items.schema))
    pq.write_table(pa.concat_tables(rows).sort_by("item"), out / "items.parquet")
    return Dataset(out)


def _remap(table: pa.Table, ids: Mapping[str, np.ndarray], put: Mapping[str, Mapping[int, int]]) -> pa.Table:
    for index, name in enumerate(table.column_names):
        vocabulary = "items" if name == "item" else name
        if vocabulary in ids or name in put:
            column = _encode(table[name].combine_chunks(), ids.get(vocabulary), (put or {}).get(name, {}))
            table = table.set_column(index, name, column)
    return table


def _encode(column: Any, ids: np.ndarray | None, put: Mapping[int, int]) -> pa.Array:
    if pa.types.is_list(column.type):
        offsets = column.offsets.to_numpy() - column.offsets[0].as_py()
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), _encode(column.flatten(), ids, put))
    values = column.to_numpy(zero_copy_only=False)
    values = values.copy() if ids is None else ids[values]
    for index, value in put.items():
        values[index] = value
    return pa.array(values, pa.int32())
