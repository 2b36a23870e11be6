"""Exported item vectors: the vectors of the model with raw ids, in the data type that was asked for."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import openlum as ol
from openlum.cli import app
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.export import items as items_module
from openlum.export.items import MODEL_KEY, export_items
from openlum.model import LargeUserModel, ModelSettings
from openlum.pretrain.initialization import build_model
from tests.recode import recode

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "item-index.md"


@pytest.fixture(scope="module")
def model(small_dataset: Dataset) -> LargeUserModel:
    shape = ModelSettings(width=16, layers=1, heads=2, embedding_width=8, field_width=8, max_events=10)
    return build_model(small_dataset, shape, seed=0).eval()


def read_vectors(file: Path) -> tuple[pa.Table, np.ndarray]:
    """Return the table and its vectors, (n, E), as the page says to read them."""
    table = pq.read_table(file)
    values = np.stack(table["vector"].to_numpy()).astype(np.float32)
    return table, values * table["scale"].to_numpy()[:, None] if "scale" in table.column_names else values


@pytest.mark.parametrize(
    ("dtype", "error", "size"), [("float32", 0.0, 32), ("float16", 5e-4, 16), ("int8", 1 / 127 / 2 + 1e-6, 12)]
)
def test_the_file_has_the_vectors_and_ids_of_the_model(
    model: LargeUserModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Any, error: float, size: int
) -> None:
    monkeypatch.setattr(items_module, "CATALOGUE_CHUNK", 7)
    figures = export_items(model, tmp_path / "new" / "items.parquet", dtype=dtype)
    table, found = read_vectors(tmp_path / "new" / "items.parquet")
    assert table["item"].to_pylist() == model.processor.items.values
    assert table["title"].to_pylist() == model.processor.titles[1:]
    assert table.schema.field("vector").type == pa.list_(pa.from_numpy_dtype(np.dtype(dtype)), 8)
    np.testing.assert_allclose(found, model.embed_items().detach().numpy(), atol=error, rtol=0)
    assert figures == {
        "items": len(table),
        "unknown_items": 0,
        "width": 8,
        "bytes_per_item": size,
        "model": model.config.fingerprint,
    }
    assert table.schema.metadata[MODEL_KEY].decode() == model.config.fingerprint
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["items.parquet"]


def test_items_of_a_dataset_have_its_titles_and_unknown_items_are_left_out(
    model: LargeUserModel, small_dataset: Dataset, tmp_path: Path
) -> None:
    values = [*small_dataset.vocabulary("items").values, "new", "newer"]
    grown = recode(small_dataset, tmp_path / "grown", {"items": values}, {})
    figures = export_items(model, tmp_path / "items.parquet", grown.path)
    table, found = read_vectors(tmp_path / "items.parquet")
    assert (figures["items"], figures["unknown_items"]) == (len(values) - 2, 2)
    assert table["item"].to_pylist() == values[:-2]
    assert table["title"].to_pylist() == grown.item_titles()[1:-2]
    np.testing.assert_allclose(found, model.embed_items().detach().numpy(), atol=5e-4)


def test_an_export_is_replaced_and_another_file_is_not(model: LargeUserModel, tmp_path: Path) -> None:
    out = tmp_path / "items.parquet"
    for dtype in ("float16", "float32"):
        export_items(model, out, dtype=dtype)  # type: ignore[arg-type]
    assert pa.types.is_float32(pq.read_schema(out).field("vector").type.value_type)
    pq.write_table(pa.table({"mine": [1]}), out)
    with pytest.raises(InputError, match="exists and was not written by lum export items"):
        export_items(model, out)
    assert pq.read_table(out)["mine"].to_pylist() == [1]


def test_a_failure_leaves_the_former_file(
    model: LargeUserModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "items.parquet"
    export_items(model, out)
    former = out.read_bytes()
    monkeypatch.setattr(items_module, "vectors", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_items(model, out, dtype="int8")
    assert out.read_bytes() == former
    assert list(tmp_path.iterdir()) == [out]


def test_the_command_and_the_python_function_write_the_same(model: LargeUserModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    command = ["export", "items", str(tmp_path / "model"), "-o", str(tmp_path / "a.parquet"), "--dtype", "int8"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "bytes per item" in done.output
    ol.export_items(tmp_path / "model", tmp_path / "b.parquet", dtype="int8")
    assert pq.read_table(tmp_path / "a.parquet").equals(pq.read_table(tmp_path / "b.parquet"))
    with pytest.raises(InputError, match="dtype: 'int4' is unknown; choose from float16, int8, float32"):
        ol.export_items(tmp_path / "model", tmp_path / "c.parquet", dtype="int4")  # type: ignore[arg-type]


def test_faiss_finds_what_the_model_ranks_first(
    model: LargeUserModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of the page for NumPy and FAISS are run."""
    pytest.importorskip("faiss")
    monkeypatch.chdir(tmp_path)
    export_items(model, "item-vectors.parquet")
    answer = model.ask([{"item": "i1", "rating": 5}], [{"rating": 5}])[0]
    blocks = re.findall(r"^```py(?:thon)?\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {"answer": answer.numpy()}
    for library in ("import numpy", "import faiss"):
        exec(next(block for block in blocks if block.startswith(library)), names)
    best = torch.topk(model.embed_items() @ answer, 3).indices.tolist()
    assert names["best_items"] == [model.processor.items.values[index] for index in best]
    assert names["best"].tolist() == best
