import copy

import numpy as np
import pytest
import torch

from openlum.evaluation.comparison import compare_auc
from openlum.evaluation.metrics import auc
from openlum.rank.batches import RankingData
from openlum.rank.segments import LARGEST_VALUES, MIN_ROWS, popularity_threshold, segment_gains, segment_groups
from tests.rank.planted import true_probability

FIELD = "condition.scene"


@pytest.fixture(scope="module")
def scene(data: RankingData) -> np.ndarray:
    """Return the raw scene of every test row."""
    ids = data.column(data.rows["test"], FIELD).numpy()
    return np.array(data.dataset.vocabulary(FIELD).decode(ids))


def with_test_rows(data: RankingData, **changes: torch.Tensor) -> RankingData:
    """Return the same data with changed test rows."""
    changed = copy.copy(data)
    rows = copy.copy(data.rows["test"])
    for name, values in changes.items():
        setattr(rows, name, values)
    changed.rows = data.rows | {"test": rows}
    return changed


def segments_by(data: RankingData, by: str, *predictions: list[np.ndarray]) -> dict[str, dict]:
    group = next(group for group in segment_gains(data, *predictions) if group["by"] == by)
    return {segment["name"]: segment for segment in group["segments"]}


def test_every_row_lies_in_one_segment_of_each_group(data: RankingData) -> None:
    groups = segment_groups(data)
    assert [group.by for group in groups] == ["user", "item", FIELD]  # no group by feedback
    for group in groups:
        np.testing.assert_array_equal(sum(segment.rows.astype(int) for segment in group.segments), 1)


def test_a_gain_is_the_paired_comparison_on_the_segments_rows(data: RankingData, scene: np.ndarray) -> None:
    rows = data.rows["test"]
    label, user, item = (values.numpy() for values in (rows.label, rows.user, rows.item))
    rng = np.random.default_rng(0)
    plain, with_knowledge = ([rng.random(len(rows)) for _ in range(2)] for _ in range(2))
    for name, segment in segments_by(data, FIELD, plain, with_knowledge).items():
        inside = scene == name
        a, b = ([prediction[inside] for prediction in predictions] for predictions in (with_knowledge, plain))
        expected = compare_auc(label[inside], user[inside], item[inside], a, b)
        assert segment["rows"] == inside.sum()
        assert segment["positives"] == label[inside].sum()
        assert segment["with"] == pytest.approx(np.mean([auc(label[inside], prediction) for prediction in a]))
        assert segment["with"] - segment["without"] == pytest.approx(segment["difference"])
        assert (segment["difference"], tuple(segment["ci95"])) == (expected.difference, expected.ci95)


def test_a_gain_in_one_segment_shows_only_there(data: RankingData, scene: np.ndarray) -> None:
    rows = data.rows["test"]
    noise = np.random.default_rng(1).random(len(rows))
    probability = true_probability(data.dataset, rows.user.numpy(), rows.item.numpy())
    segments = segments_by(data, FIELD, [noise], [np.where(scene == "search", probability, noise)])
    assert segments["search"]["ci95"][0] > 0.05
    assert segments["home"]["difference"] == 0


def test_users_are_divided_by_the_events_before_the_row(data: RankingData) -> None:
    events = torch.tensor([0, 1, 5, 6, 20, 21, 100, 101, 5000])
    rows = data.rows["test"]
    changed = with_test_rows(data, prefix=events[torch.arange(len(rows)) % len(events)])
    segments = segment_groups(changed)[0].segments
    assert {segment.name: events[segment.rows[: len(events)]].tolist() for segment in segments} == {
        "0 events": [0],
        "1 to 5 events": [1, 5],
        "6 to 20 events": [6, 20],
        "21 to 100 events": [21, 100],
        "101 and more events": [101, 5000],
    }


def test_popular_items_have_half_of_the_training_events(data: RankingData) -> None:
    assert popularity_threshold(np.array([0, 1, 10, 2, 3])) == 10
    assert popularity_threshold(np.array([5, 5, 5])) == 5
    assert popularity_threshold(np.zeros(3, np.int64)) == 0
    sequences = data.dataset.sequences
    trained = sequences.item[sequences.time < data.dataset.info.valid_time]
    events = np.bincount(trained, minlength=len(data.dataset.vocabulary("items")))
    untrained, rare, popular = segment_groups(data)[1].segments
    assert not untrained.rows.any()
    item = data.rows["test"].item.numpy()
    assert events[item[rare.rows]].max() < events[item[popular.rows]].min()
    popular_items = events >= events[item[popular.rows]].min()
    assert events[popular_items].sum() >= len(trained) / 2 > events[events > events[popular_items].min()].sum()


def test_untrained_items_are_a_segment(data: RankingData) -> None:
    item = data.rows["test"].item.clone()
    item[:7] = 0
    untrained = segment_groups(with_test_rows(data, item=item))[1].segments[0]
    assert untrained.name == "untrained: no event"
    assert np.flatnonzero(untrained.rows).tolist() == list(range(7))


def test_segments_with_too_few_rows_have_a_reason_instead_of_an_auc(data: RankingData, scene: np.ndarray) -> None:
    rows = data.rows["test"]
    noise = [np.random.default_rng(0).random(len(rows))]
    for positives, reason in ((0, "all labels are 0"), (MIN_ROWS - 1, f"fewer than {MIN_ROWS} rows with the label 1")):
        label = rows.label.clone()
        label[torch.from_numpy(np.flatnonzero(scene == "home")[positives:])] = 0
        label[torch.from_numpy(np.flatnonzero(scene == "home")[:positives])] = 1
        segment = segments_by(with_test_rows(data, label=label), FIELD, noise, noise)["home"]
        assert segment == {
            "name": "home",
            "rows": (scene == "home").sum(),
            "positives": positives,
            "left_out": reason,
        }
    assert segments_by(data, "user", noise, noise)["0 events"]["left_out"] == "no rows"


def test_rare_values_share_a_segment_and_missing_values_another(data: RankingData) -> None:
    class TenValues:
        """A vocabulary of ten values."""

        def __len__(self) -> int:
            return 11

        def decode(self, ids: np.ndarray) -> list[str]:
            return [f"v{index}" for index in ids]

    rows = data.rows["test"]
    value = torch.arange(len(rows)) % 11
    value[value == 10] = 1
    changed = copy.copy(data)
    changed.column = lambda rows, name: value  # type: ignore[method-assign]
    changed.dataset = copy.copy(data.dataset)
    changed.dataset.vocabularies = lambda kind: {"scene": TenValues()}  # type: ignore[method-assign,dict-item,return-value]
    names = [segment.name for segment in segment_groups(changed)[2].segments]
    assert names[0] == "v1"
    assert names[LARGEST_VALUES:] == ["3 other values", "(unknown)"]
    blank = copy.copy(data)
    blank.column = lambda rows, name: torch.zeros(len(rows), dtype=torch.int32)  # type: ignore[method-assign]
    assert [group.by for group in segment_groups(blank)] == ["user", "item"]
