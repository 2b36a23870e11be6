"""Knowledge per user: what it says is true as of its time, and no later event changes it."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import openlum as ol
from openlum.artefact.directory import files_of
from openlum.artefact.json_file import read_json
from openlum.artefact.verify import verify
from openlum.cli import app
from openlum.data.dataset import SPLITS, Dataset
from openlum.data.knowledge import Knowledge
from openlum.data.sequences import concatenate
from openlum.errors import InputError
from openlum.model import LargeUserModel
from openlum.query.bulk import query
from openlum.query.matching import user_vectors_at
from openlum.query.settings import QuerySettings
from openlum.query.shard import query_shard
from openlum.query.users import UserQuery
from openlum.query.writer import PartStore
from openlum.rank.knowledge import StoredKnowledge
from tests.prepare.logs import START
from tests.query.conftest import DAY

SETTINGS = QuerySettings(
    questions={"any": {}, "like": {"rating": 5}, "here": {"rating": 5, "*": "$row"}}, rows_per_part=2, batch_events=40
)
MIDDLE = START + 6 * DAY


@pytest.fixture(scope="module")
def knowledge(dataset: Dataset, model_dir: Path) -> Knowledge:
    query(dataset.path, model_dir, model_dir.parent / "knowledge", SETTINGS, "all", MIDDLE)
    return Knowledge(model_dir.parent / "knowledge")


def rows_of(
    model: LargeUserModel, dataset: Dataset, users: list[str] | None, as_of: Any, settings: QuerySettings = SETTINGS
) -> dict[str, dict[str, Any]]:
    """Return the rows of users by raw id. Vectors are arrays, and times are seconds."""
    asked = UserQuery(model, dataset, settings, users, as_of)
    tables = [table for shard in dataset.shards() for table in asked.tables(shard, asked.rows(shard))]
    rows = pa.concat_tables(tables).to_pylist()
    for row in rows:
        row["last_event"] = row["last_event"] and int(row["last_event"].timestamp())
        row |= {name: np.array(value, np.float32) for name, value in row.items() if isinstance(value, list)}
    return {row["user"]: row for row in rows}


def assert_close(row: dict[str, Any], other: dict[str, Any]) -> None:
    """Compare rows of batches that may differ, so that sums are rounded in another way."""
    for name, value in row.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(value, other[name], atol=2e-3, err_msg=name)
        elif name != "as_of":
            assert value == other[name], name


@pytest.mark.parametrize("tier", ["fresh", "nightly"])
def test_kept_vectors_predict_what_bulk_queries_predict(dataset: Dataset, model: LargeUserModel, tier: str) -> None:
    tables = [query_shard(model, shard, {"any": {}}) for shard in dataset.shards()]
    bulk = {row["row"]: row for row in pa.concat_tables(tables).to_pylist()}
    rows = concatenate([dataset.impressions(split) for split in SPLITS])
    scenarios = dataset.vocabulary("condition.scenario").decode(rows.condition["scenario"])
    compared = 0
    for index in range(0, len(rows), 17):
        expected, time = bulk[int(rows.row[index])], int(rows.time[index])
        as_of = time if tier == "fresh" else time // DAY * DAY
        if as_of <= dataset.sequences.time.min():
            continue
        kept = rows_of(model, dataset, [expected["user"]], as_of)[expected["user"]]
        context = {"time": time, "scenario": scenarios[index]}
        (prediction,) = model.match(kept["vectors"], [expected["item"]], context, kept["last_event"])
        for value, probability in prediction["rating"].items():
            assert probability == pytest.approx(1 / (1 + np.exp(-expected[f"{tier}.rating={value}"])), abs=1e-3)
        compared += kept["events"] > 0
    assert compared > 5


def test_single_precision_vectors_predict_exactly_what_bulk_queries_predict(
    dataset: Dataset, model: LargeUserModel
) -> None:
    rows, sequences = dataset.impressions("test").take(slice(0, 8)), dataset.sequences
    tables = [query_shard(model, shard, {"any": {}}) for shard in dataset.shards()]
    bulk = {row["row"]: row for row in pa.concat_tables(tables).to_pylist()}
    scenarios = dataset.vocabulary("condition.scenario").decode(rows.condition["scenario"])
    for batch, vectors in user_vectors_at(model, sequences, rows.user, rows.prefix, 64):
        for index, own in zip(batch, vectors, strict=True):
            expected, prefix = bulk[int(rows.row[index])], int(rows.prefix[index])
            begin = sequences.offsets[sequences.user_index(rows.user[[index]])[0]]
            last = int(sequences.time[begin + prefix - 1]) if prefix else None
            context = {"time": int(rows.time[index]), "scenario": scenarios[index]}
            (prediction,) = model.match(own, [expected["item"]], context, last)
            odds = [expected[f"fresh.rating={value}"] for value in prediction["rating"]]
            assert list(prediction["rating"].values()) == pytest.approx(1 / (1 + np.exp(-np.array(odds))), abs=1e-6)


def test_events_at_or_after_the_time_change_nothing(dataset: Dataset, model: LargeUserModel) -> None:
    """The first later event happens exactly at the time of the knowledge."""
    sequences = dataset.sequences
    as_of = int(np.sort(sequences.time)[len(sequences.time) // 2])
    later = sequences.time >= as_of
    changed = Dataset(dataset.path)
    changed.__dict__["sequences"] = replace(
        sequences,
        item=np.where(later, 1, sequences.item),
        time=np.where(later, sequences.time + 12345, sequences.time),
        condition=sequences.condition | {"rating": np.where(later, 1, sequences.condition["rating"])},
    )
    changed.sequences_of = lambda names: changed.sequences  # type: ignore[method-assign]
    whole = UserQuery(model, changed, SETTINGS, None, as_of)
    shard = changed.shards()[0]
    tables = pa.concat_tables(whole.tables(shard, whole.rows(shard))).to_pylist()
    expected = rows_of(model, dataset, None, as_of)
    assert {row["user"] for row in tables} == set(expected)
    assert sum(row["events"] for row in tables) == (~later).sum() > 50
    for row in tables:
        vectors = {name: np.array(value) for name, value in row.items() if isinstance(value, list)}
        last = row["last_event"] and int(row["last_event"].timestamp())
        assert_close(row | vectors | {"last_event": last}, expected[row["user"]])


def test_an_earlier_event_changes_the_vectors(dataset: Dataset, model: LargeUserModel) -> None:
    before, after = (rows_of(model, dataset, ["u0"], MIDDLE + day * DAY)["u0"] for day in (0, 3))
    assert after["events"] > before["events"]
    assert np.abs(after["vectors"] - before["vectors"]).max() > 0.01


def test_many_users_have_the_rows_of_single_users(dataset: Dataset, model: LargeUserModel) -> None:
    together = rows_of(model, dataset, None, MIDDLE)
    assert list(together) == list(dict.fromkeys(together))
    assert set(together) == set(dataset.vocabulary("users").values)
    for user, row in together.items():
        assert_close(row, rows_of(model, dataset, [user], MIDDLE)[user])


def test_rows_count_the_events_before_the_time(dataset: Dataset, model: LargeUserModel) -> None:
    log = dataset.histories()
    for user, row in rows_of(model, dataset, None, MIDDLE).items():
        times = [event["time"] for event in log.get(user, []) if event["time"] < MIDDLE]
        assert row["events"] == len(times)
        assert row["last_event"] == (times[-1] if times else None)
        assert row["as_of"] == datetime.fromtimestamp(MIDDLE, UTC)


def test_answers_are_those_to_the_same_history_in_raw_values(dataset: Dataset, model: LargeUserModel) -> None:
    rows = rows_of(model, dataset, None, "now")
    log = dataset.histories([*rows])
    answers = model.ask(log, [{}, {"rating": 5}])
    for user, row in rows.items():
        assert row["events"] == len(log[user])
        assert [name for name in row if name.startswith("answer")] == ["answer.any", "answer.like"]
        np.testing.assert_allclose(np.stack([row["answer.any"], row["answer.like"]]), answers[user], atol=1e-3)


def test_users_without_events_before_the_time_have_the_vectors_of_an_empty_history(
    dataset: Dataset, model: LargeUserModel
) -> None:
    early = int(np.sort(dataset.sequences.time)[1])  # one event lies before it
    rows = rows_of(model, dataset, None, early)
    without = [row for row in rows.values() if row["events"] == 0]
    assert len(without) == len(rows) - 1
    assert all(row["last_event"] is None for row in without)
    for row in without:
        assert_close(row | {"user": ""}, rows["idle"] | {"user": ""})
    prediction = model.match(rows["idle"]["vectors"], ["i1", "i2"], {"time": early}, None)
    assert [row["item"] for row in prediction] == ["i1", "i2"]


def test_predictions_for_many_items_are_those_for_single_items(dataset: Dataset, model: LargeUserModel) -> None:
    row, items = rows_of(model, dataset, ["u1"], "now")["u1"], ["i1", "i2", "i7"]
    context = {"time": MIDDLE + 30 * DAY, "scenario": "home"}
    together = model.match(row["vectors"], items, context, row["last_event"])
    for item, prediction in zip(items, together, strict=True):
        (alone,) = model.match(row["vectors"].reshape(-1, 8), [item], context, row["last_event"])
        assert alone["rating"] == pytest.approx(prediction["rating"], abs=1e-6)
        assert sum(alone["rating"].values()) == pytest.approx(1, abs=1e-5)
    assert together != model.match(row["vectors"], items, {"scenario": "search"})


@pytest.mark.parametrize(
    ("vectors", "context", "message"),
    [
        (np.zeros(7), None, r"vectors: expected \d+ vectors of width 8"),
        ("u1", None, "vectors: expected"),
        (np.full((14, 8), np.nan), None, "vectors: expected"),
        (None, {"rating": 5}, "'rating' is feedback"),
        (None, {"scenari": "home"}, "context: condition field 'scenari': the model has no such field"),
        (None, {"scenario": "moon"}, "context: .*was not in the training data"),
    ],
)
def test_mistakes_of_match_are_explained(model: LargeUserModel, vectors: Any, context: Any, message: str) -> None:
    vectors = torch.ones(len(model.network.user_vector_names), 8) if vectors is None else vectors
    with pytest.raises(InputError, match=message):
        model.match(vectors, ["i1"], context)


def test_int8_vectors_predict_nearly_the_same(dataset: Dataset, model: LargeUserModel, tmp_path: Path) -> None:
    fine = rows_of(model, dataset, None, MIDDLE)
    coarse = rows_of(model, dataset, None, MIDDLE, SETTINGS.model_copy(update={"dtype": "int8"}))
    for user, row in coarse.items():
        assert np.abs(row["vectors"].reshape(-1, 8)).max(1).tolist() == [127] * (len(row["vectors"]) // 8)
        predictions = [model.match(own["vectors"], ["i3"], {"scenario": "cart"}) for own in (row, fine[user])]
        assert predictions[0][0]["rating"] == pytest.approx(predictions[1][0]["rating"], abs=0.01)


def test_the_artefact_describes_itself(knowledge: Knowledge, model: LargeUserModel, dataset: Dataset) -> None:
    content = read_json(knowledge.path / "knowledge.json", "lum query")
    assert (content["form"], content["width"], content["vectors"]) == ("user", 8, len(content["vector_names"]))
    assert content["vector_names"] == model.network.user_vector_names
    assert content["as_of"] == "the events strictly before 2020-09-19T12:26:40Z"
    assert content["rows"] == len(knowledge) == 9
    assert verify(knowledge.path) > 5
    assert len(files_of(knowledge.path / "users")) > 3
    kind = pq.read_schema(knowledge.path / "users" / "part-00000-00000.parquet").field("vectors").type
    assert (kind.value_type, kind.list_size) == (pa.float16(), 8 * content["vectors"])
    assert len(knowledge.items()) == len(dataset.vocabulary("items"))
    assert "users" in knowledge._repr_html_()
    with pytest.raises(InputError, match="holds knowledge per user; join it by"):
        knowledge.join(pa.table({"row": [0]}))
    with pytest.raises(InputError, match="a ranker needs it per impression"):
        StoredKnowledge(knowledge.path, dataset)


def assert_rows(rows: list[dict[str, Any]], knowledge: Knowledge) -> None:
    expected = knowledge.to_arrow().to_pylist()
    assert [row["user"] for row in expected] == sorted(row["user"] for row in rows)
    for row, other in zip(sorted(rows, key=lambda row: row["user"]), expected, strict=True):
        assert row["events"] == other["events"]
        for name in ("vectors", "answer.like"):
            assert list(row[name]) == pytest.approx(other[name], abs=1e-3)
        assert pd.Timestamp(row["as_of"]) == pd.Timestamp(MIDDLE, unit="s", tz="UTC")
        last = pd.Timestamp(row["last_event"])
        assert last is pd.NaT if other["last_event"] is None else last == other["last_event"]


def test_pandas_reads_users_in_one_line(knowledge: Knowledge) -> None:
    assert_rows(pd.read_parquet(knowledge.path / "users").to_dict("records"), knowledge)
    assert_rows(knowledge.to_pandas().to_dict("records"), knowledge)


def test_polars_reads_users_in_one_line(knowledge: Knowledge) -> None:
    polars = pytest.importorskip("polars")
    assert_rows(polars.read_parquet(f"{knowledge.path}/users/*.parquet").to_dicts(), knowledge)
    assert_rows(knowledge.to_polars().to_dicts(), knowledge)


def test_duckdb_reads_users_in_one_line(knowledge: Knowledge) -> None:
    result = duckdb.sql(f"from '{knowledge.path}/users/*.parquet'").arrow()
    assert_rows(pa.table(result).to_pylist(), knowledge)


def test_chosen_columns_of_users_are_read(knowledge: Knowledge) -> None:
    assert knowledge.to_arrow(["events"]).column_names == ["user", "events"]
    assert knowledge.score_names == knowledge.score_columns == []


class KilledError(Exception):
    """The process is killed."""


def test_a_killed_run_continues_after_its_finished_parts(
    dataset: Dataset, model_dir: Path, knowledge: Knowledge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = PartStore.write, []

    def write_or_die(store: PartStore, name: str, table: pa.Table) -> None:
        if len(written) == 2:
            raise KilledError
        write(store, name, table)
        written.append(name)

    with monkeypatch.context() as patch:
        patch.setattr(PartStore, "write", write_or_die)
        with pytest.raises(KilledError):
            query(dataset.path, model_dir, tmp_path / "out", SETTINGS, "all", MIDDLE)
    first, again = written, []
    monkeypatch.setattr(PartStore, "write", lambda store, name, table: (again.append(name), write(store, name, table)))
    query(dataset.path, model_dir, tmp_path / "out", SETTINGS, "all", MIDDLE)
    assert sorted(first + again) == sorted(files_of(tmp_path / "out" / "users"))
    for part in files_of(tmp_path / "out" / "users"):
        assert (tmp_path / "out/users" / part).read_bytes() == (knowledge.path / "users" / part).read_bytes()
    assert not (tmp_path / "out.work").exists()


def test_another_time_and_other_users_start_a_new_run(
    dataset: Dataset, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = set()
    for users, as_of in (("all", MIDDLE), ("all", MIDDLE + 1), (["u1"], MIDDLE), (["u2"], MIDDLE), (None, None)):
        with monkeypatch.context() as patch:
            patch.setattr(PartStore, "link_into", lambda *_: (_ for _ in ()).throw(KilledError))
            with pytest.raises(KilledError):
                query(dataset.path, model_dir, tmp_path / "out", SETTINGS, users, as_of)
        (work,) = (tmp_path / "out.work").iterdir()
        keys.add(work.name)
    assert len(keys) == 5


def test_no_question_but_those_of_impressions_gives_vectors_alone(dataset: Dataset, model: LargeUserModel) -> None:
    settings = QuerySettings(questions={"here": {"*": "$row"}})
    row = rows_of(model, dataset, ["u1"], MIDDLE, settings)["u1"]
    assert list(row) == ["user", "as_of", "last_event", "events", "vectors"]


def test_users_that_the_dataset_does_not_have_are_counted_and_written(
    dataset: Dataset, model_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "ids.txt").write_text("u3\nnobody\nidle\nu3\n")
    arguments = ["query", "-d", dataset.path, "-m", model_dir, "-o", tmp_path / "out", "--users", tmp_path / "ids.txt"]
    done = CliRunner().invoke(app, [*map(str, arguments), "--as-of", "2020-09-20"])
    assert done.exit_code == 0, done.output
    for line in ("users 2", "unknown_users 1", "as_of 2020-09-20T00:00:00Z"):
        assert line in " ".join(done.output.split())
    knowledge = Knowledge(tmp_path / "out")
    assert knowledge.to_arrow()["user"].to_pylist() == ["idle", "u3"]
    assert pq.read_table(tmp_path / "out" / "rejected")["user"].to_pylist() == ["nobody"]
    assert read_json(tmp_path / "out" / "knowledge.json", "lum query")["unknown_users"] == 1
    assert verify(tmp_path / "out")
    with pytest.raises(InputError, match="has none of the 2 users, the first is 'nobody'"):
        query(dataset.path, model_dir, tmp_path / "out", SETTINGS, ["nobody", "no one"])
    with pytest.raises(InputError, match="as_of: is the time of knowledge per user; name users too"):
        query(dataset.path, model_dir, tmp_path / "out", SETTINGS, as_of=MIDDLE)


def test_the_function_writes_what_the_command_writes(dataset: Dataset, model_dir: Path, tmp_path: Path) -> None:
    arguments = ["query", "-d", dataset.path, "-m", model_dir, "-o", tmp_path / "command", "--users", "all"]
    assert CliRunner().invoke(app, [*map(str, arguments), "--set", "query.dtype=int8"]).exit_code == 0
    written = ol.query(dataset, model_dir, tmp_path / "function", users="all", dtype="int8", progress=False)
    assert written.to_arrow().equals(Knowledge(tmp_path / "command").to_arrow())
    now = int(dataset.sequences.time.max()) + 1
    assert set(written.to_arrow()["as_of"].to_pylist()) == {datetime.fromtimestamp(now, UTC)}
