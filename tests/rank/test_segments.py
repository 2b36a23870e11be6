import copy

import numpy as np
import pytest
import torch

from openlum.evaluation.comparison import compare_auc
from openlum.evaluation.metrics import auc
from openlum.rank.batches import RankingData
from openlum.rank.segments import FEWEST, SHOWN_VALUES, groups, popular_from, segment_gains
from tests.rank.planted import true_chance

FIELD = "condition.scene"


@pytest.fixture(scope="module")
def scene(data: RankingData) -> np.ndarray:
    """The scene of every test row, raw."""
    ids = data.rows["test"].features[FIELD].numpy()
    return np.array(data.dataset.vocabulary(FIELD).decode(ids))


def with_test_rows(data: RankingData, **changes: torch.Tensor) -> RankingData:
    """The same data with other test rows."""
    other = copy.copy(data)
    rows = copy.copy(data.rows["test"])
    for name, values in changes.items():
        setattr(rows, name, values)
    other.rows = data.rows | {"test": rows}
    return other


def segments_of(data: RankingData, by: str, *predictions: list[np.ndarray]) -> dict[str, dict]:
    found = next(group for group in segment_gains(data, *predictions) if group["by"] == by)
    return {segment["name"]: segment for segment in found["segments"]}


def test_every_row_lies_in_one_segment_of_each_group(data: RankingData) -> None:
    made = groups(data)
    assert [group.by for group in made] == ["user", "item", FIELD]  # not the feedback
    for group in made:
        np.testing.assert_array_equal(sum(segment.rows.astype(int) for segment in group.segments), 1)


def test_gains_are_the_paired_comparison_of_the_segments_rows(data: RankingData, scene: np.ndarray) -> None:
    rows = data.rows["test"]
    label, user, item = (values.numpy() for values in (rows.label, rows.user, rows.item))
    rng = np.random.default_rng(0)
    without, informed = ([rng.random(len(rows)) for _ in range(2)] for _ in range(2))
    for name, segment in segments_of(data, FIELD, without, informed).items():
        inside = scene == name
        a, b = ([prediction[inside] for prediction in of_seeds] for of_seeds in (informed, without))
        expected = compare_auc(label[inside], user[inside], item[inside], a, b)
        assert segment["rows"] == inside.sum()
        assert segment["positives"] == label[inside].sum()
        assert segment["with"] == pytest.approx(np.mean([auc(label[inside], one) for one in a]))
        assert segment["with"] - segment["without"] == pytest.approx(segment["difference"])
        assert (segment["difference"], tuple(segment["ci95"])) == (expected.difference, expected.ci95)


def test_a_gain_shows_in_its_segment_alone(data: RankingData, scene: np.ndarray) -> None:
    rows = data.rows["test"]
    noise = np.random.default_rng(1).random(len(rows))
    chance = true_chance(data.dataset, rows.user.numpy(), rows.item.numpy())
    found = segments_of(data, FIELD, [noise], [np.where(scene == "search", chance, noise)])
    assert found["search"]["ci95"][0] > 0.05
    assert found["home"]["difference"] == 0


def test_users_are_divided_by_the_events_before_the_row(data: RankingData) -> None:
    events = torch.tensor([0, 1, 5, 6, 20, 21, 100, 101, 5000])
    rows = data.rows["test"]
    many = with_test_rows(data, prefix=events[torch.arange(len(rows)) % len(events)])
    of_users = groups(many)[0]
    first = {segment.name: events[: len(events)][segment.rows[: len(events)]].tolist() for segment in of_users.segments}
    assert first == {
        "0 events": [0],
        "1 to 5 events": [1, 5],
        "6 to 20 events": [6, 20],
        "21 to 100 events": [21, 100],
        "101 and more events": [101, 5000],
    }


def test_popular_items_have_half_of_the_training_events(data: RankingData) -> None:
    assert popular_from(np.array([0, 1, 10, 2, 3])) == 10
    assert popular_from(np.array([5, 5, 5])) == 5
    assert popular_from(np.zeros(3, np.int64)) == 0
    sequences = data.dataset.sequences
    trained = sequences.item[sequences.time < data.dataset.info.valid_time]
    events = np.bincount(trained, minlength=len(data.dataset.vocabulary("items")))
    unmet, rare, popular = groups(data)[1].segments
    assert not unmet.rows.any()
    item = data.rows["test"].item.numpy()
    assert events[item[rare.rows]].max() < events[item[popular.rows]].min()
    popular_items = events >= events[item[popular.rows]].min()
    assert events[popular_items].sum() >= len(trained) / 2 > events[events > events[popular_items].min()].sum()


def test_items_that_training_did_not_meet_are_a_segment(data: RankingData) -> None:
    item = data.rows["test"].item.clone()
    item[:7] = 0
    unmet = groups(with_test_rows(data, item=item))[1].segments[0]
    assert unmet.name == "unmet: no event"
    assert np.flatnonzero(unmet.rows).tolist() == list(range(7))


def test_segments_that_would_show_noise_say_why_instead(data: RankingData, scene: np.ndarray) -> None:
    rows = data.rows["test"]
    noise = [np.random.default_rng(0).random(len(rows))]
    for positives, reason in ((0, "all labels are 0"), (FEWEST - 1, f"fewer than {FEWEST} rows with the label 1")):
        label = rows.label.clone()
        label[torch.from_numpy(np.flatnonzero(scene == "home")[positives:])] = 0
        label[torch.from_numpy(np.flatnonzero(scene == "home")[:positives])] = 1
        segment = segments_of(with_test_rows(data, label=label), FIELD, noise, noise)["home"]
        assert segment == {
            "name": "home",
            "rows": (scene == "home").sum(),
            "positives": positives,
            "left_out": reason,
        }
    assert segments_of(data, "user", noise, noise)["0 events"]["left_out"] == "no rows"


def test_rare_values_are_one_segment_and_missing_ones_another(data: RankingData) -> None:
    class Many:
        """A vocabulary of ten values."""

        def __len__(self) -> int:
            return 11

        def decode(self, ids: np.ndarray) -> list[str]:
            return [f"v{one}" for one in ids]

    rows = data.rows["test"]
    value = torch.arange(len(rows)) % 11
    value[value == 10] = 1
    many = with_test_rows(data, features=rows.features | {FIELD: value})
    many.dataset = copy.copy(data.dataset)
    many.dataset.vocabularies = lambda kind: {"scene": Many()}  # type: ignore[method-assign,dict-item,return-value]
    names = [segment.name for segment in groups(many)[2].segments]
    assert names[0] == "v1"
    assert names[SHOWN_VALUES:] == ["3 other values", "(unknown)"]
    blank = with_test_rows(data, features=rows.features | {FIELD: torch.zeros(len(rows), dtype=torch.int64)})
    assert [group.by for group in groups(blank)] == ["user", "item"]
