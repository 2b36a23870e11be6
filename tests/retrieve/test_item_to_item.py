"""Item-kNN and EASE against numbers computed by hand, and against plain loops over users and items."""

import dataclasses
from math import sqrt

import numpy as np
import pytest
from scipy import sparse

from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.retrieve import item_to_item
from openlum.retrieve import settings as retrieve_settings
from openlum.retrieve.baselines import baseline_ranks
from openlum.retrieve.held_out import HeldOut
from openlum.retrieve.item_to_item import NEIGHBOURS, SHRINKAGE, ItemToItem, ease, item_knn
from openlum.retrieve.settings import EASE, ITEM_KNN, POPULARITY, RetrieveSettings, chosen_baselines

ITEMS = 21
"""V of the small data set."""


def matrix(*users: list[int], items: int = 4) -> sparse.csr_array:
    """Return the matrix of users by items of these items."""
    rows = np.repeat(np.arange(len(users)), [len(user) for user in users])
    return item_to_item.as_sets(rows, np.concatenate(users), (len(users), items))


def test_item_knn_by_hand() -> None:
    """Items 1, 2 and 3 have three, two and one users. Items 1 and 2 share two of them, items 1 and 3 share one."""
    similarity = item_knn(matrix([1, 2], [2, 1], [1, 3], items=4), neighbours=5, shrinkage=10.0).toarray()
    expected = np.zeros((4, 4))
    expected[1, 2] = expected[2, 1] = 2 / (sqrt(6) + 10)
    expected[1, 3] = expected[3, 1] = 1 / (sqrt(3) + 10)
    assert similarity == pytest.approx(expected)
    nearest = item_knn(matrix([1, 2], [2, 1], [1, 3], items=4), neighbours=1, shrinkage=10.0).toarray()
    expected[3, 1] = 0  # item 1 has a nearer neighbour, but item 3 has none
    assert nearest == pytest.approx(expected)


def test_ease_by_hand() -> None:
    """Two items that one user shares: the inverse of [[2, 1], [1, 2]] is [[2, -1], [-1, 2]] / 3, so the weights are 1 / 2."""
    weights = ease(matrix([1, 2], items=3), penalty=1.0)
    assert weights == pytest.approx(np.array([[0, 0, 0], [0, 0, 0.5], [0, 0.5, 0]]))


def random_users(seed: int) -> sparse.csr_array:
    rng = np.random.default_rng(seed)
    return matrix(*[rng.choice(np.arange(1, 30), rng.integers(1, 12)).tolist() for _ in range(60)], items=30)


@pytest.mark.parametrize("counts", [item_to_item.MAX_COUNTS, 100])
def test_item_knn_equals_a_loop(monkeypatch: pytest.MonkeyPatch, counts: int) -> None:
    """Ties among the neighbours may be broken in any way, so only the similarities are compared."""
    monkeypatch.setattr(item_to_item, "MAX_COUNTS", counts)
    users, plain = random_users(0), random_users(0).toarray()
    similarity = item_knn(users, neighbours=4, shrinkage=2.0).toarray()
    for i in range(30):
        own = [
            0.0 if i == j else plain[:, i] @ plain[:, j] / (sqrt(plain[:, i].sum() * plain[:, j].sum()) + 2.0)
            for j in range(30)
        ]
        assert sorted(similarity[:, i]) == pytest.approx(sorted(np.where(np.arange(30) >= 26, np.sort(own), 0)))
        assert all(value in (0, pytest.approx(own[j])) for j, value in enumerate(similarity[:, i]))


@pytest.mark.parametrize("penalty", [5.0, 300.0])
def test_ease_minimises_its_loss(penalty: float) -> None:
    """Ridge regressions of every item on all others, one by one."""
    users = random_users(1)
    plain, weights = users.toarray().astype(np.float64), ease(users, penalty)
    for j in range(1, 30):
        others = [i for i in range(30) if i != j]
        x = plain[:, others]
        solved = np.linalg.solve(x.T @ x + penalty * np.eye(29), x.T @ plain[:, j])
        assert weights[others, j] == pytest.approx(solved, abs=1e-4)
        assert weights[j, j] == 0


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("shards", ["small_dataset", "sharded_dataset"])
def test_ranks_equal_a_loop_over_users(request: pytest.FixtureRequest, shards: str, exclude_seen: bool) -> None:
    dataset: Dataset = request.getfixturevalue(shards)
    sequences = dataset.sequences
    model = ItemToItem(dataset, ITEMS, exclude_seen, 3, "last")
    plain = np.zeros((len(sequences.user), ITEMS))
    for user, first in enumerate(sequences.offsets[:-1]):
        plain[user, sequences.item[first : first + sequences.valid_at[user]]] = 1
    plain[:, 0] = 0
    assert np.array_equal(model.users.sum(0), plain.sum(0))
    weights = item_knn(model.users, NEIGHBOURS, SHRINKAGE).toarray()
    ranks = baseline_ranks(dataset, ITEMS, exclude_seen, 3, [ITEM_KNN])[ITEM_KNN]
    held_out = HeldOut(sequences, "test", ITEMS, exclude_seen)
    for index, (user, cut) in enumerate(zip(held_out.user_index, held_out.cut, strict=True)):
        first = sequences.offsets[user]
        history = set(sequences.item[first : first + cut].tolist()) - {0}
        scores = weights[sorted(history)].sum(0)
        target = int(held_out.target[index])
        excluded = {0} | (history - {target} if exclude_seen else set())
        others = [item for item in range(ITEMS) if item not in excluded | {target}]
        near = sum(abs(scores[item] - scores[target]) < 1e-6 for item in others)  # sums in another order
        rank = 1 + sum(scores[item] >= scores[target] for item in others)
        assert abs(ranks[index] - rank) <= near


def test_only_training_events_are_learned_from(small_dataset: Dataset) -> None:
    """Held-out events change nothing that is fitted; the last training events do."""
    sequences = small_dataset.sequences

    def fitted(first_changed: np.ndarray) -> np.ndarray:
        changed = Dataset(small_dataset.path)
        later = np.arange(len(sequences.item)) >= np.repeat(
            sequences.offsets[:-1] + first_changed, np.diff(sequences.offsets)
        )
        item = np.where(later, sequences.item % 5 + 1, sequences.item)
        changed.__dict__["sequences"] = dataclasses.replace(sequences, item=item)
        return ItemToItem(changed, ITEMS, True, 3, "last").users.toarray()

    original = ItemToItem(small_dataset, ITEMS, True, 3, "last").users.toarray()
    assert np.array_equal(fitted(sequences.valid_at), original)
    assert not np.array_equal(fitted(sequences.valid_at - 1), original)


def test_the_penalty_of_ease_is_chosen_on_validation_events(
    small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ItemToItem(small_dataset, ITEMS, False, 3, "last")
    monkeypatch.setattr(item_to_item, "PENALTIES", (1.0, 10.0, 1e4))
    ndcg = {penalty: model._validation_ndcg(ease(model.users, penalty)) for penalty in item_to_item.PENALTIES}
    chosen = ease(model.users, max(ndcg, key=lambda penalty: ndcg[penalty]))
    assert np.array_equal(model.ranks(EASE), model._ranks("test", chosen))


def test_baselines_beat_popularity_where_the_next_item_follows_from_the_last(planted: Dataset) -> None:
    items = len(planted.vocabulary("items"))
    ranks = baseline_ranks(planted, items, True, 256, [POPULARITY, ITEM_KNN, EASE])
    assert list(ranks) == [POPULARITY, ITEM_KNN, EASE]
    assert ranks[ITEM_KNN].mean() < 0.7 * ranks[POPULARITY].mean()
    assert ranks[EASE].mean() < 0.7 * ranks[POPULARITY].mean()


def test_too_many_items_for_ease(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default EASE is left out; a caller who names it gets a message."""
    monkeypatch.setattr(retrieve_settings, "DEFAULT_EASE_ITEMS", 10)
    monkeypatch.setattr(retrieve_settings, "MAX_EASE_ITEMS", 20)
    assert EASE in chosen_baselines(RetrieveSettings(), 11)
    assert EASE not in chosen_baselines(RetrieveSettings(), 12)
    assert EASE in chosen_baselines(RetrieveSettings(baselines=["EASE"]), 21)
    with pytest.raises(InputError, match=r"retrieve.baselines: 'EASE' .* limited to 20 items; the log has 21"):
        chosen_baselines(RetrieveSettings(baselines=["EASE"]), 22)
    assert chosen_baselines(RetrieveSettings(baselines=["item-kNN"]), 22) == ["item-kNN"]


@pytest.mark.parametrize("baselines", [["EASE", "EASE"], ["svd"]])
def test_wrong_baselines_are_refused(baselines: list[str]) -> None:
    with pytest.raises(ValueError, match="baselines"):
        RetrieveSettings.model_validate({"baselines": baselines})
