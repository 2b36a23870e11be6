"""Queries shard by shard: the answers are those of the whole, also after an interruption, and any tool can read them."""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from openlum.artefact.directory import files_of
from openlum.artefact.json_file import read_json
from openlum.artefact.verify import verify
from openlum.data.dataset import SPLITS, Dataset
from openlum.errors import InputError
from openlum.model import LargeUserModel
from openlum.query import writer
from openlum.query.bulk import query
from openlum.query.settings import QuerySettings
from openlum.query.shard import query_shard
from openlum.query.writer import PartStore

from .test_bulk import QUESTIONS, model

__all__ = ["model"]
"""A fixture."""

SETTINGS = QuerySettings(questions=QUESTIONS, rows_per_part=13, batch_events=40)


class KilledError(Exception):
    """The process is killed."""


def run(dataset: Dataset, model: LargeUserModel, directory: Path, settings: QuerySettings = SETTINGS) -> pa.Table:
    """Query a dataset and return the rows by id."""
    if not (directory / "model").exists():
        model.save_pretrained(directory / "model")
    query(dataset.path, directory / "model", directory / "knowledge", settings)
    return pq.read_table(directory / "knowledge" / "impressions").sort_by("row")


def assert_same_answers(first: pa.Table, second: pa.Table) -> None:
    """Compare tables whose batches may be others, so that sums are rounded in another way."""
    assert first.schema.equals(second.schema)
    for name in first.column_names:
        if name in ("row", "user", "item"):
            assert first[name].equals(second[name]), name
        else:
            values = [column.combine_chunks() for column in (first[name], second[name])]
            arrays = [(v.flatten() if pa.types.is_fixed_size_list(v.type) else v).to_numpy() for v in values]
            np.testing.assert_allclose(*(a.astype(np.float64) for a in arrays), atol=1e-3, err_msg=name)


def test_answers_by_shard_equal_those_of_the_whole(
    small_dataset: Dataset, sharded_dataset: Dataset, model: LargeUserModel, tmp_path: Path
) -> None:
    whole = run(small_dataset, model, tmp_path / "whole", SETTINGS.model_copy(update={"rows_per_part": 10**6}))
    by_shard = run(sharded_dataset, model, tmp_path / "by shard")
    assert_same_answers(whole, by_shard)
    tables = [query_shard(model, shard, QUESTIONS) for shard in sharded_dataset.shards()]
    assert_same_answers(whole, pa.concat_tables(tables).sort_by("row"))
    assert len(files_of(tmp_path / "whole" / "knowledge" / "impressions")) == 1
    parts = sorted(files_of(tmp_path / "by shard" / "knowledge" / "impressions"))
    assert len(parts) > 10
    assert max(pq.read_metadata(tmp_path / "by shard/knowledge/impressions" / part).num_rows for part in parts) == 13


def test_raw_ids_are_those_of_the_impressions(sharded_dataset: Dataset, model: LargeUserModel) -> None:
    users, items = sharded_dataset.vocabulary("users"), sharded_dataset.vocabulary("items")
    for shard in sharded_dataset.shards():
        table = query_shard(model, shard, {"any": {}}).to_pylist()
        raw_ids = {row["row"]: (row["user"], row["item"]) for row in table}
        rows = [shard.impressions(split) for split in SPLITS]
        expected = {
            int(row): (users.decode([user])[0], items.decode([item])[0])
            for part in rows
            for row, user, item in zip(part.row, part.user, part.item, strict=True)
        }
        assert raw_ids == expected


@pytest.mark.parametrize("parts", [1, 4, 9])
def test_a_killed_query_continues_after_its_finished_parts(
    sharded_dataset: Dataset, model: LargeUserModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    """The knowledge has the same bytes as that of an uninterrupted run, and no finished part is answered again."""
    expected = run(sharded_dataset, model, tmp_path / "uninterrupted")
    written: list[str] = []
    write = PartStore.write

    def write_or_die(store: PartStore, name: str, table: pa.Table) -> None:
        if len(written) == parts:
            writer.write_part(table.slice(0, 1), store.directory / name)  # a part that was not recorded
            raise KilledError
        write(store, name, table)
        written.append(name)

    with monkeypatch.context() as patch:
        patch.setattr(PartStore, "write", write_or_die)
        with pytest.raises(KilledError):
            run(sharded_dataset, model, tmp_path / "killed")
    assert not (tmp_path / "killed" / "knowledge").exists()
    first, written = written, []
    monkeypatch.setattr(
        PartStore, "write", lambda store, name, table: (written.append(name), write(store, name, table))
    )
    assert run(sharded_dataset, model, tmp_path / "killed").equals(expected)
    assert not set(first) & set(written)
    assert sorted(first + written) == sorted(files_of(tmp_path / "killed" / "knowledge" / "impressions"))
    for part in files_of(tmp_path / "killed" / "knowledge" / "impressions"):
        content = [
            (tmp_path / name / "knowledge/impressions" / part).read_bytes() for name in ("killed", "uninterrupted")
        ]
        assert content[0] == content[1]
    assert verify(tmp_path / "killed" / "knowledge")
    assert not (tmp_path / "killed" / "knowledge.work").exists()


@pytest.mark.parametrize("damage", ["part", "progress", "settings"])
def test_damaged_or_other_parts_are_written_again(
    sharded_dataset: Dataset, model: LargeUserModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    expected = run(sharded_dataset, model, tmp_path / "uninterrupted")
    with monkeypatch.context() as patch:
        patch.setattr(PartStore, "link_into", lambda *_: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            run(sharded_dataset, model, tmp_path / "killed")
    (work,) = (tmp_path / "killed" / "knowledge.work").iterdir()
    part = sorted(work.glob("part-*.parquet"))[3]
    if damage == "part":
        part.write_bytes(part.read_bytes()[:-1] + b"x")
    elif damage == "progress":
        for record in work.glob("part-*.json"):
            record.write_text('{"parts": {"part-0": 3}}')
    written: list[str] = []
    write = PartStore.write
    monkeypatch.setattr(
        PartStore, "write", lambda store, name, table: (written.append(name), write(store, name, table))
    )
    settings = SETTINGS.model_copy(update={"dtype": "int8"}) if damage == "settings" else SETTINGS
    table = run(sharded_dataset, model, tmp_path / "killed", settings)
    assert written == [part.name] if damage == "part" else len(written) > 10
    assert damage == "settings" or table.equals(expected)


def test_impressions_that_are_missing_are_noticed(
    sharded_dataset: Dataset, model: LargeUserModel, tmp_path: Path
) -> None:
    import shutil

    copied = tmp_path / "dataset"
    shutil.copytree(sharded_dataset.path, copied, ignore=shutil.ignore_patterns("manifest.json"))
    (copied / "impressions" / "train" / "part-2.parquet").unlink()
    with pytest.raises(InputError, match=r"dataset/impressions: has \d+ rows, but dataset.json has \d+; run 'lum prep"):
        run(Dataset(copied), model, tmp_path)
    assert not (tmp_path / "knowledge").exists()


@pytest.fixture(scope="module")
def knowledge(sharded_dataset: Dataset, model: LargeUserModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tools")
    run(sharded_dataset, model, directory)
    return directory / "knowledge"


def rows_of(knowledge: Path) -> list[dict[str, Any]]:
    columns = ["row", "user", "item", "similarity.like", "answer.like"]
    rows: list[dict[str, Any]] = pq.read_table(knowledge / "impressions", columns=columns).sort_by("row").to_pylist()
    return rows


def assert_rows(rows: list[dict[str, Any]], knowledge: Path) -> None:
    expected = rows_of(knowledge)
    assert len(rows) == len(expected) == read_json(knowledge / "knowledge.json", "lum query")["rows"]
    for row, other in zip(sorted(rows, key=lambda row: row["row"]), expected, strict=True):
        assert [row[name] for name in ("row", "user", "item")] == [other[name] for name in ("row", "user", "item")]
        assert row["similarity.like"] == pytest.approx(other["similarity.like"])
        assert list(row["answer.like"]) == pytest.approx(other["answer.like"], abs=1e-3)


def test_pandas_reads_knowledge_in_one_line(knowledge: Path) -> None:
    frame = pd.read_parquet(knowledge / "impressions")
    assert_rows(frame.to_dict("records"), knowledge)
    items = pd.read_parquet(knowledge / "items")
    assert items["id"].tolist() == list(range(len(items)))
    assert items["item"].isna().tolist() == [True] + [False] * (len(items) - 1)


def test_duckdb_reads_knowledge_in_one_line(knowledge: Path) -> None:
    result = duckdb.sql(f"from '{knowledge}/impressions/*.parquet'")
    assert_rows([dict(zip(result.columns, row, strict=True)) for row in result.fetchall()], knowledge)
    joined = duckdb.sql(f"from '{knowledge}/impressions/*.parquet' join '{knowledge}/items/*.parquet' using (item)")
    assert len(joined) == len(rows_of(knowledge))


def test_arrow_reads_knowledge_in_one_line(knowledge: Path) -> None:
    assert_rows(pads.dataset(knowledge / "impressions").to_table().to_pylist(), knowledge)


def test_polars_reads_knowledge_in_one_line(knowledge: Path) -> None:
    polars = pytest.importorskip("polars")
    assert_rows(polars.read_parquet(f"{knowledge}/impressions/*.parquet").to_dicts(), knowledge)
