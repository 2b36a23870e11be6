"""Comparisons by content: they equal a slow loop, see no later event, and are the same in every place that has them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from openlum.data.dataset import Dataset
from openlum.data.knowledge import Knowledge
from openlum.data.sequences import Impressions, Sequences, concatenate
from openlum.errors import InputError
from openlum.model import LargeUserModel, ModelSettings
from openlum.model.content import COMPARISONS, RECENT, content_names
from openlum.model.settings import content_fields
from openlum.prepare.outside_log import LogColumns
from openlum.prepare.run import prepare
from openlum.pretrain.initialization import build_model
from openlum.query import content
from openlum.query.audit import audit
from openlum.query.bulk import query
from openlum.query.content import content_column_names, content_scores, item_contents
from openlum.query.costs import tier_costs
from openlum.query.join import join
from openlum.query.questions import feedback_column_names, score_names_of
from openlum.query.settings import QuerySettings
from openlum.query.shard import ShardQuery, query_shard
from openlum.query.users import UserQuery
from openlum.rank.inputs import names_of_tier
from openlum.report.knowledge_tables import columns_table, rows_table, statistics
from tests.conftest import built_once
from tests.model.conftest import fill_zero_weights
from tests.prepare.logs import START, random_events, write_log
from tests.query.conftest import DAY

MIDDLE = START + 6 * DAY
EVENTS = {"path": "events.parquet", "user": "user", "item": "item", "time": "time", "condition": {"scenario": {}}}


def _prepare_clicks(directory: Path) -> None:
    rng = np.random.default_rng(0)
    items = [f"i{number}" for number in range(20)]
    vectors = [*rng.normal(size=(18, 3)), None, np.zeros(3)]  # the last two have no direction
    events = random_events(0, 900, users=6, seconds=12 * DAY)
    shown = random_events(1, 300, users=8, seconds=12 * DAY)
    labels = {"label": [number % 3 == 0 for number in range(len(shown["user"]))]}
    schema = write_log(
        directory,
        {"events": events, "items": {"id": items, "text": vectors, "image": vectors[::-1]}, "shown": shown | labels},
        events=EVENTS,
        items={
            "path": "items.parquet",
            "id": "id",
            "features": {name: {"type": "vector", "width": 3} for name in ("text", "image")},
        },
        impressions={"path": "shown.parquet", "user": "user", "item": "item", "time": "time", "label": "label"},
        gap_unit="s",
        engine={"events_per_part": 300},
    )
    prepare(schema, directory / "dataset")
    shape = ModelSettings(width=16, layers=1, heads=2, embedding_width=8, max_events=20)
    model = build_model(Dataset(directory / "dataset"), shape, seed=0)
    fill_zero_weights(model)
    model.save_pretrained(directory / "model")


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `dataset`, clicks on items with two vectors each and impressions, and its `model`."""
    return built_once(tmp_path_factory, "clicks", _prepare_clicks)


@pytest.fixture(scope="module")
def dataset(clicks: Path) -> Dataset:
    return Dataset(clicks / "dataset")


@pytest.fixture(scope="module")
def model(clicks: Path) -> LargeUserModel:
    return LargeUserModel.load(clicks / "model")


@pytest.fixture(scope="module")
def knowledge(clicks: Path) -> Knowledge:
    query(clicks / "dataset", clicks / "model", clicks / "knowledge", QuerySettings(rows_per_part=50))
    return Knowledge(clicks / "knowledge")


@pytest.fixture(scope="module")
def users(clicks: Path) -> Knowledge:
    query(clicks / "dataset", clicks / "model", clicks / "users", QuerySettings(), "all", MIDDLE)
    return Knowledge(clicks / "users")


def unit(vector: np.ndarray) -> np.ndarray | None:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else None  # NaN is not above 0


def slowly(vectors: np.ndarray, sequences: Sequences, user: int, before: int, item: int) -> list[float]:
    """Return the four comparisons of one item with the events of a user before a second."""
    index = int(sequences.user_index(np.array([user]))[0])
    events = [] if index < 0 else range(*sequences.offsets[index : index + 2])
    past = [unit(vectors[sequences.item[event]]) for event in events if sequences.time[event] < before][-RECENT:]
    own = unit(vectors[item])
    cosines = np.array([own @ other for other in past if own is not None and other is not None])
    if not len(cosines):
        return [0.0] * 4
    smooth = [np.log(np.exp(t * cosines).mean()) / t for t in (5, 15)]
    return [cosines.mean(), *smooth, cosines.max()]


def rows_of(dataset: Dataset) -> Impressions:
    return concatenate([dataset.impressions(split) for split in dataset.impression_sets])


@pytest.mark.parametrize("batch", [None, 700])
def test_columns_equal_a_slow_loop(
    dataset: Dataset, model: LargeUserModel, batch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if batch:
        monkeypatch.setattr(content, "BATCH_NUMBERS", batch)
        monkeypatch.setattr(content, "BATCH_ROWS", 7)
    answered = pa.concat_tables(query_shard(model, shard, {"any": {}}) for shard in dataset.shards()).sort_by("row")
    rows, sequences, features = rows_of(dataset), dataset.sequences, dataset.item_features()
    by_row = {int(row): index for index, row in enumerate(rows.row)}
    compared = 0
    for answer in answered.to_pylist():
        index = by_row[answer["row"]]
        user, item, second = int(rows.user[index]), int(rows.item[index]), int(rows.time[index])
        for field in ("text", "image"):
            for tier, before in (("", second), ("nightly.", second - second % DAY)):
                expected = slowly(features[field], sequences, user, before, item)
                values = [answer[f"{tier}content.{field}.{name}"] for name in COMPARISONS]
                assert values == pytest.approx(expected, abs=1e-5)
                compared += any(expected)
    assert compared > 500
    known = rows.prefix > RECENT
    assert 20 < known.sum() < len(rows)  # rows with more events than count, and with fewer
    assert (rows.prefix == 0).any()


def test_later_events_change_nothing(dataset: Dataset, model: LargeUserModel) -> None:
    rows, sequences, contents = rows_of(dataset), dataset.sequences, item_contents(model, 21)
    position = np.arange(len(sequences.item)) - np.repeat(sequences.offsets[:-1], np.diff(sequences.offsets))
    before = content_scores(contents, sequences, rows.user, rows.prefix, rows.item)
    for row in range(0, len(rows), 29):
        own = rows.take(slice(row, row + 1))
        later = position >= own.prefix[0]
        changed = replace(sequences, item=np.where(later, 1 + sequences.item % 17, sequences.item))
        after = content_scores(contents, changed, own.user, own.prefix, own.item)
        np.testing.assert_allclose(after, before[[row]], atol=1e-6)
    earlier = replace(sequences, item=1 + sequences.item % 17)
    has_changed = (content_scores(contents, earlier, rows.user, rows.prefix, rows.item) != before).any(1)
    assert has_changed[rows.prefix > 0].mean() > 0.5


def test_items_that_the_model_does_not_have_and_no_rows_are_zeros(dataset: Dataset, model: LargeUserModel) -> None:
    contents, sequences = item_contents(model, 30), dataset.sequences
    assert [tuple(own.shape) for own in contents] == [(30, 3)] * 2
    assert all((own[21:] == 0).all() and (own[0] == 0).all() for own in contents)
    user = np.repeat(sequences.user, 2)
    prefix = np.repeat(np.diff(sequences.offsets), 2)
    item = np.tile([1, 25], len(sequences.user))
    scores = content_scores(contents, sequences, user, prefix, item)
    assert (scores[1::2] == 0).all()
    assert (scores[::2, 3] > 0).all()
    none = np.empty(0, np.int64)
    assert content_scores(contents, sequences, none, none, none).shape == (0, 8)
    assert content_scores([], sequences, user, prefix, item).shape == (len(item), 0)


def test_knowledge_names_its_columns_and_every_tier_reads_its_own(knowledge: Knowledge, model: LargeUserModel) -> None:
    names = content_names(["text", "image"])
    assert knowledge.info.content_names == content_column_names(["nightly", "fresh"], ["text", "image"])
    assert set(knowledge.score_columns) <= set(knowledge.columns)
    assert len(knowledge.score_names) == len(knowledge.score_columns)
    scores = knowledge.score_names
    assert names_of_tier(scores, "fresh")[-8:] == names
    assert set(names) < set(names_of_tier(scores, "live"))
    assert set(names_of_tier(scores, "nightly")) & set(knowledge.info.content_names) == {f"nightly.{n}" for n in names}
    settings, config = QuerySettings(), model.config
    feedback = feedback_column_names(model.processor, config.trained_feedback_targets)
    content = content_fields(config.item, config.condition)
    before = score_names_of(settings, ["any"], model.processor, model.network.condition_specs, feedback, content)
    assert before == scores
    others = [name for name in scores if not name.startswith("fresh.")]
    assert names_of_tier(others, "fresh") == []  # content alone is no tier
    assert "content.text.sharp" in statistics(knowledge).columns


def test_without_nightly_there_are_no_columns_of_the_night(dataset: Dataset, model: LargeUserModel) -> None:
    asked = ShardQuery(model, dataset, QuerySettings(matching_head=["fresh"]))
    assert asked.content_names == content_names(["text", "image"])
    assert set(asked.content_names) < set(asked.schema.names)


def test_day_and_impression_differ_by_the_events_of_the_day(dataset: Dataset, model: LargeUserModel) -> None:
    asked = [ShardQuery(model, dataset, QuerySettings(as_of=as_of)) for as_of in ("impression", "day")]
    fine, day = (pa.concat_tables(own.table(s, own.rows(s)) for s in dataset.shards()) for own in asked)
    fine, day = fine.sort_by("row"), day.sort_by("row")
    names = content_names(["text"])
    for name in names:
        np.testing.assert_allclose(day[name], fine[f"nightly.{name}"], atol=1e-6)
        np.testing.assert_allclose(day[f"nightly.{name}"], fine[f"nightly.{name}"], atol=1e-6)
    assert not np.allclose(day[names[3]], fine[names[3]])


def test_logs_with_feedback_stay_as_they_are(small_dataset: Dataset) -> None:
    shape = ModelSettings(width=16, layers=1, heads=2, embedding_width=8)
    model = build_model(small_dataset, shape, seed=0)
    assert [spec.type for spec in model.config.item].count("vector") == 1
    assert ShardQuery(model, small_dataset, QuerySettings()).content_names == []
    assert "recent_items" not in UserQuery(model, small_dataset, QuerySettings(), None, "now").schema.names
    vectors = torch.ones(len(model.network.user_vector_names), 8)
    (prediction,) = model.match(vectors, ["i1"], history=["i2"])
    assert not any(name.startswith("content.") for name in prediction)


def test_audit_passes_and_finds_a_change(
    clicks: Path, knowledge: Knowledge, users: Knowledge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for stored in (knowledge, users):
        result = audit(stored.path, clicks / "dataset", clicks / "model", rows=40)
        assert result.differences == []
        assert set(stored.info.content_names) <= set(result.compared)
    assert result.compared["recent_items"] == len(users)

    def late(sequences: Sequences, user: np.ndarray, prefix: np.ndarray) -> np.ndarray:
        events = np.append(np.diff(sequences.offsets), 0)[sequences.user_index(user)]
        return earlier(sequences, user, np.minimum(prefix + 1, events))

    earlier = content.last_items
    monkeypatch.setattr(content, "last_items", late)
    query(clicks / "dataset", clicks / "model", tmp_path / "late", QuerySettings())
    result = audit(tmp_path / "late", clicks / "dataset", clicks / "model", rows=40)
    found = {one.column for one in result.differences}
    assert {"content.text.mean", "nightly.content.text.mean"} <= found <= set(knowledge.info.content_names)


def test_knowledge_per_user_has_the_last_items(dataset: Dataset, users: Knowledge) -> None:
    log = dataset.histories()
    rows = users.to_arrow().to_pylist()
    lengths = []
    for row in rows:
        items = [event["item"] for event in log.get(row["user"], []) if event["time"] < MIDDLE]
        assert row["recent_items"] == items[-RECENT:]
        lengths.append(len(items))
    assert max(lengths) > RECENT
    assert users.to_pandas()["recent_items"].map(len).max() == RECENT
    rows_table(users, None, 3)
    figures = statistics(users)
    assert figures.columns["recent_items"].highest == RECENT
    columns_table(figures)


def test_match_equals_knowledge_per_impression(dataset: Dataset, model: LargeUserModel, knowledge: Knowledge) -> None:
    stored = {row["row"]: row for row in knowledge.to_arrow().to_pylist()}
    rows, names = rows_of(dataset), content_names(["text", "image"])
    shards, unknown = dataset.shards(), ["an unknown item"]
    compared = 0
    for index in range(0, len(rows), 23):
        row, second = stored[int(rows.row[index])], int(rows.time[index])
        for tier, as_of in (("", second), ("nightly.", second // DAY * DAY)):
            if as_of <= dataset.sequences.time.min():
                continue
            asked = UserQuery(model, dataset, QuerySettings(), [row["user"]], as_of)
            kept = pa.concat_tables(table for s in shards for table in asked.tables(s, asked.rows(s))).to_pylist()[0]
            history = np.array(unknown + kept["recent_items"], object)  # pandas gives an array
            (alone,) = model.match(kept["vectors"], [row["item"]], None, kept["last_event"], history)
            assert [alone[name] for name in names] == pytest.approx([row[tier + name] for name in names], abs=1e-5)
            compared += any(alone[name] for name in names)
    assert compared > 10


def test_match_for_many_items_and_without_a_history(model: LargeUserModel, users: Knowledge) -> None:
    row = users.to_arrow().to_pylist()[0]
    items, names = ["i1", "i5", "i18", "never seen"], content_names(["text", "image"])
    together = model.match(row["vectors"], items, history=row["recent_items"])
    for item, prediction in zip(items[:3], together, strict=False):
        (alone,) = model.match(row["vectors"], [item], history=row["recent_items"])
        assert [alone[name] for name in names] == pytest.approx([prediction[name] for name in names], abs=1e-6)
    assert [together[3][name] for name in names] == [0.0] * 8
    (empty,) = model.match(row["vectors"], ["i1"], history=[])
    assert [empty[name] for name in names] == [0.0] * 8
    assert not set(names) & set(model.match(row["vectors"], ["i1"])[0])
    for wrong in ("i1", 5, [{"item": "i1"}]):
        with pytest.raises(InputError, match="history: "):
            model.match(row["vectors"], ["i1"], history=wrong)


def test_joined_rows_have_what_match_gives(
    clicks: Path, model: LargeUserModel, users: Knowledge, tmp_path: Path
) -> None:
    log = {"user": ["u0", "u1", "u2"], "item": ["i3", "i4", "i5"], "time": [MIDDLE + 60] * 3}
    pq.write_table(pa.table(log), tmp_path / "log.parquet")
    columns = LogColumns(user="user", time="time", item="item")
    inputs: dict[str, Any] = {"dataset": clicks / "dataset", "model": clicks / "model"}
    join(str(tmp_path / "log.parquet"), tmp_path / "joined.parquet", columns, [users.path], **inputs)
    for row in pq.read_table(tmp_path / "joined.parquet").to_pylist():
        (matched,) = model.match(row["vectors"], [row["item"]], history=row["recent_items"])
        for name in content_names(["text", "image"]):
            assert row[f"nightly.{name}"] == pytest.approx(matched[name], abs=1e-5)
    join(str(tmp_path / "log.parquet"), tmp_path / "replayed.parquet", columns, **inputs)
    assert set(content_names(["text"])) < set(pq.read_schema(tmp_path / "replayed.parquet").names)
    without_items = LogColumns(user="user", time="time")
    join(str(tmp_path / "log.parquet"), tmp_path / "users.parquet", without_items, **inputs)
    assert not [name for name in pq.read_schema(tmp_path / "users.parquet").names if "content." in name]


def test_costs_count_the_last_items(model: LargeUserModel, users: Knowledge, dataset: Dataset) -> None:
    vectors = 2 * 8 * len(model.network.user_vector_names)
    assert tier_costs(model)["nightly"]["bytes_per_user"] == vectors + 4 * RECENT
    asked = UserQuery(model, dataset, QuerySettings(questions={"any": {}}), None, "now")
    assert asked.summary()["bytes_per_user"] == vectors + 2 * 8 + 4 * RECENT
