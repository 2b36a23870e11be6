"""Knowledge as a table: what `lum query` wrote, in Arrow, pandas and Polars."""

import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openlum.data.dataset import Dataset
from openlum.data.knowledge import Knowledge, knowledge_files
from openlum.errors import InputError
from openlum.rank.knowledge import load_knowledge


@pytest.fixture(scope="module")
def knowledge(tiny_run: Path) -> Knowledge:
    return Knowledge(tiny_run / "runs/tiny/knowledge")


def impressions_of(tiny_run: Path) -> pa.Table:
    return pq.read_table(tiny_run / "runs/tiny/log/impressions.parquet")


def test_the_table_has_what_rankers_read(knowledge: Knowledge, tiny_run: Path) -> None:
    arrays = load_knowledge(knowledge.path, Dataset(tiny_run / "runs/tiny/dataset"))
    table = knowledge.to_arrow()
    assert len(table) == len(knowledge)
    assert table.column_names == knowledge.columns
    assert table["row"].to_numpy().tolist() == arrays.row.tolist()
    scores = np.stack([table[name].to_numpy() for name in knowledge.score_columns], 1)
    np.testing.assert_array_equal(scores, arrays.scores[arrays.index])
    answers = [np.stack(table[name].to_numpy(zero_copy_only=False)) for name in knowledge.answer_columns]
    np.testing.assert_array_equal(np.stack(answers, 1), arrays.answers[arrays.index])
    assert len(knowledge.items()) == len(arrays.items)


def test_pandas_and_polars_have_the_values_of_arrow(knowledge: Knowledge) -> None:
    table, columns = knowledge.to_arrow(), ["row", *knowledge.answer_columns, *knowledge.score_columns]
    pandas = knowledge.to_pandas()
    np.testing.assert_array_equal(pandas["row"], table["row"].to_numpy())
    answer = knowledge.answer_columns[0]
    np.testing.assert_array_equal(np.stack(pandas[answer]), np.stack(table[answer].to_numpy(zero_copy_only=False)))
    assert set(columns) <= set(pandas.columns)
    pytest.importorskip("polars")
    polars = knowledge.to_polars()
    np.testing.assert_array_equal(polars["row"].to_numpy(), table["row"].to_numpy())
    np.testing.assert_array_equal(polars[answer].to_numpy(), np.stack(table[answer].to_numpy(zero_copy_only=False)))


def test_polars_without_half_precision_gets_single_precision(
    knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    polars = pytest.importorskip("polars")
    expected = knowledge.to_polars()
    monkeypatch.delattr(polars, "Float16")
    single = knowledge.to_polars()
    for name in knowledge.answer_columns:
        assert single[name].to_numpy().dtype == np.float32
        np.testing.assert_array_equal(single[name].to_numpy(), expected[name].to_numpy())


def test_chosen_columns_are_read(knowledge: Knowledge) -> None:
    chosen = knowledge.to_arrow(["similarity.click"])
    assert chosen.column_names == ["row", "similarity.click"]
    assert chosen["similarity.click"].equals(knowledge.to_arrow()["similarity.click"])
    with pytest.raises(InputError, match=r"has no column 'similarity\.clik'; choose from row, "):
        knowledge.to_arrow(["similarity.clik"])


def libraries() -> list[Any]:
    """Return functions from an Arrow table to the frame of each installed library."""
    frames: list[Any] = [lambda table: table, lambda table: table.to_pandas()]
    try:
        import polars
    except ImportError:
        return frames
    return [*frames, polars.from_arrow, lambda table: polars.from_arrow(table).lazy()]  # type: ignore[union-attr]


@pytest.mark.parametrize("convert", libraries())
def test_impressions_are_joined_in_their_order(knowledge: Knowledge, tiny_run: Path, convert: Any) -> None:
    impressions = impressions_of(tiny_run)
    rng = np.random.default_rng(0)
    drawn = impressions.take(pa.array(rng.integers(0, len(impressions), 500)))
    frame = convert(drawn)
    joined = knowledge.join(frame, columns=["similarity.click", "answer.click"])
    assert type(joined) is type(frame.collect() if hasattr(frame, "collect") else frame)
    arrow = joined if isinstance(joined, pa.Table) else joined.to_arrow() if hasattr(joined, "to_arrow") else None
    arrow = pa.Table.from_pandas(joined) if arrow is None else arrow
    assert arrow["row"].to_numpy().tolist() == drawn["row"].to_numpy().tolist()
    by_row = dict(zip(*(knowledge.to_arrow()[name].to_numpy() for name in ("row", "similarity.click")), strict=True))
    assert arrow["similarity.click"].to_numpy().tolist() == [by_row[row] for row in drawn["row"].to_numpy()]
    assert "answer.click" in arrow.column_names
    assert "similarity.skip" not in arrow.column_names


def test_impressions_without_row_ids_are_numbered(knowledge: Knowledge) -> None:
    rows = knowledge.to_arrow(["similarity.click"])
    frame = pd.DataFrame({"item": ["x"] * len(rows)})
    if (rows["row"].to_numpy() == np.arange(len(rows))).all():
        joined = knowledge.join(frame, on=None)
        assert joined["similarity.click"].tolist() == rows["similarity.click"].to_pylist()
    with pytest.raises(InputError, match=r"no column 'row' with row ids; .* pass on=None"):
        knowledge.join(frame)
    with pytest.raises(InputError, match="has no answers for 1 of 2 impressions, the first is row 987654321"):
        knowledge.join(pd.DataFrame({"id": [int(rows["row"][0].as_py()), 987654321]}), on="id")


def test_any_tool_reads_the_parts(knowledge: Knowledge) -> None:
    files = [str(file) for file in knowledge_files(knowledge.path)]
    assert duckdb.sql(f"select count(*), count(distinct row) from read_parquet({files})").fetchone() == (
        len(knowledge),
        len(knowledge),
    )
    assert len(pd.concat([pd.read_parquet(file) for file in files])) == len(knowledge)


def test_a_damaged_part_is_named(knowledge: Knowledge, tmp_path: Path) -> None:
    copied = tmp_path / "knowledge"
    shutil.copytree(knowledge.path, copied)
    opened = Knowledge(copied)
    part = knowledge_files(copied)[0]
    part.write_bytes(part.read_bytes()[:-50])
    with pytest.raises(InputError, match=part.name):
        opened.to_arrow()


def test_knowledge_shows_its_figures(knowledge: Knowledge) -> None:
    assert f"{len(knowledge):,}" in knowledge._repr_html_()
    assert repr(knowledge) == f"Knowledge('{knowledge.path}')"
