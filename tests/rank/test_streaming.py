"""Ranking from buffers of shards gives the numbers of ranking from memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from openlum.data.dataset import SPLITS, Dataset
from openlum.rank import hand_features
from openlum.rank.batches import RankingData
from openlum.rank.buffer import in_buffers
from openlum.rank.hand_features import HandFeatures
from openlum.rank.knowledge import StoredKnowledge, load_knowledge
from openlum.rank.knowledge_probe import knowledge_probe
from openlum.rank.rankers import new_ranker
from openlum.rank.segments import segment_groups
from openlum.rank.settings import KnowledgeSettings, RankSettings
from openlum.rank.train import fit
from tests.rank.planted import write_knowledge, write_planted_dataset

BUFFER = 3000
"""Events and rows of a buffer: some of the 12,000 of the log."""
NETWORKS = ["dnn", "din", "sasrec"]


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    dataset = Dataset(write_planted_dataset(tmp_path_factory.mktemp("sharded"), events_per_part=600))
    dataset.cache_events = 0
    assert len(dataset.shards()) > 6
    return dataset


@pytest.fixture(scope="module")
def sharded_knowledge(sharded: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_knowledge(tmp_path_factory.mktemp("knowledge") / "knowledge", sharded)
    sharded.__dict__.pop("sequences", None)
    return directory


@pytest.fixture(scope="module")
def both(sharded: Dataset, sharded_knowledge: Path, settings: RankSettings) -> tuple[RankingData, RankingData]:
    """Return the data in one buffer, and in several."""
    early = settings.model_copy(update={"max_epochs": 1, "knowledge": KnowledgeSettings(tier="live", fusion="early")})
    streamed = early.model_copy(update={"buffer_rows": BUFFER})
    # The dataset of the streamed data must not read all events.
    knowledge = StoredKnowledge(sharded_knowledge, sharded)
    return RankingData(Dataset(sharded.path), early, knowledge), RankingData(sharded, streamed, knowledge)


@pytest.fixture(autouse=True)
def _no_whole_sequences(both: tuple[RankingData, RankingData]) -> object:
    yield
    assert both[0].is_whole
    assert not both[1].is_whole
    assert "sequences" not in vars(both[1].dataset)


def test_rows_are_the_same(both: tuple[RankingData, RankingData]) -> None:
    whole, streamed = both
    for split in SPLITS:
        for name, values in vars(whole.rows[split]).items():
            other = getattr(streamed.rows[split], name)
            assert values.equal(other) if isinstance(values, torch.Tensor) else values == other
        assert whole.rows[split].row.tolist() == Dataset(whole.dataset.path).impressions(split).row.tolist()
        field = "condition.scene"
        assert whole.column(whole.rows[split], field).equal(streamed.column(streamed.rows[split], field))


@pytest.mark.parametrize("split", ["train", "test"])
def test_batches_have_every_row_once_in_the_order_within_a_buffer(
    both: tuple[RankingData, RankingData], split: str
) -> None:
    whole, streamed = both
    rows, config = streamed.rows[split], streamed.config("din", True)  # type: ignore[index]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    position = order.argsort()
    seen, buffers = [], 0
    for _, index in streamed.buffers(rows, order):
        assert (position[index].diff() > 0).all()
        buffers += 1
    assert buffers > 2
    for index, batch in streamed.indexed_batches(rows, order, config):
        seen.append(index)
        expected = whole.batch(whole.rows[split], index, config)  # type: ignore[index]
        assert batch.item.equal(expected.item)
        assert batch.activity.equal(expected.activity)
        assert batch.history is not None
        assert expected.history is not None
        assert batch.knowledge is not None
        assert expected.knowledge is not None
        assert batch.history.mask.equal(expected.history.mask)
        assert batch.history.item[batch.history.mask].equal(expected.history.item[expected.history.mask])
        for name in ("answers", "target", "scores"):
            assert getattr(batch.knowledge, name).equal(getattr(expected.knowledge, name))
        for name, values in batch.features.items():
            assert values.equal(expected.features[name])
        assert (
            streamed.batch(rows, index, config).features["context.position"].equal(batch.features["context.position"])
        )
    assert torch.cat(seen).sort().values.equal(torch.arange(len(rows)))


def test_one_buffer_keeps_the_order(both: tuple[RankingData, RankingData]) -> None:
    whole = both[0]
    rows = whole.rows["train"]
    order = torch.randperm(len(rows))
    assert torch.cat([index for index, _ in whole.indexed_batches(rows, order, whole.config("dnn", False))]).equal(
        order
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_predictions_are_the_same(both: tuple[RankingData, RankingData], name: str) -> None:
    whole, streamed = both
    torch.manual_seed(0)
    ranker = new_ranker(whole.config(name, name != "sasrec"))
    for split in SPLITS:
        a, b = (ranker.predict(data, data.rows[split]) for data in both)
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert streamed.trained_items(ranker.config).equal(whole.trained_items(ranker.config))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_streamed_training_learns_as_much(both: tuple[RankingData, RankingData], name: str) -> None:
    whole, streamed = (fit(data.config(name, name != "sasrec"), data, 0).epochs[0].valid_auc for data in both)
    assert abs(whole - streamed) < 0.05
    assert streamed > 0.55


def test_trees_are_the_same(both: tuple[RankingData, RankingData], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows get their features at a time."""
    for split in SPLITS:
        results = []
        for data, rows_at_once in zip(both, (10**6, 37), strict=True):
            monkeypatch.setattr(hand_features, "ROWS_AT_ONCE", rows_at_once)
            results.append(HandFeatures(data, data.config("lightgbm", True))(data.rows[split]))
        whole, streamed = results
        assert whole.names == streamed.names
        assert whole.names[-1].startswith("similarity.")
        np.testing.assert_array_equal(whole.values, streamed.values)


def test_evaluations_of_knowledge_and_segments_are_the_same(both: tuple[RankingData, RankingData]) -> None:
    whole, streamed = both
    assert knowledge_probe(whole) == knowledge_probe(streamed)
    for a, b in zip(segment_groups(whole), segment_groups(streamed), strict=True):
        assert a.by == b.by
        for left, right in zip(a.segments, b.segments, strict=True):
            np.testing.assert_array_equal(left.rows, right.rows)


def test_a_buffer_reads_the_parts_with_its_rows_alone(
    sharded: Dataset, sharded_knowledge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, arrays = StoredKnowledge(sharded_knowledge, sharded), load_knowledge(sharded_knowledge, sharded)
    first = next(iter(stored._files.values()))
    read: list[Path] = []
    read_part = stored._knowledge.read_part

    def record(file: Path, columns: Sequence[str]) -> object:
        read.append(file)
        return read_part(file, columns)

    monkeypatch.setattr(stored._knowledge, "read_part", record)
    index = np.array([first - 1, 0, 3])
    answers, scores = stored.read(index)
    assert read == [next(iter(stored._files))]
    np.testing.assert_array_equal(answers, arrays.answers[index])
    np.testing.assert_array_equal(scores, arrays.scores[index])


def test_shards_are_put_into_buffers_in_the_order_of_their_first_rows() -> None:
    sizes = np.array([10, 50, 20, 30, 5])
    shard = torch.tensor([2, 2, 0, 4, 0, 3, 1])
    assert list(in_buffers(shard, sizes, 40)) == [[2, 0, 4], [3], [1]]
    assert list(in_buffers(shard[:0], sizes, 40)) == []
