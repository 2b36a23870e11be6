"""Sampled negatives: what holds for every log, and that neither popularity nor fashion tells the label."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from openlum.errors import InputError
from openlum.sources.public.negatives import WINDOW, sample_negatives

LOGS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 30), st.integers(0, 8)), min_size=1, max_size=150, unique=True
)
"""Rows (user, item, time), no two alike, many at the same time."""


def columns(rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    user, item, time = np.array(rows).T
    return user, item, time


@given(LOGS, st.integers(1, 6), st.integers(0, 3))
@settings(deadline=None)
def test_a_negative_is_another_item_that_the_user_never_has(
    rows: list[tuple[int, int, int]], n: int, seed: int
) -> None:
    user, item, time = columns(rows)
    left = {u: set(item.tolist()) - set(item[user == u].tolist()) for u in set(user.tolist())}
    if min(map(len, left.values())) < n:
        with pytest.raises(InputError, match=rf"leaves fewer than {n} negatives; ask for fewer"):
            sample_negatives(user, item, time, n, seed)
        return
    drawn = sample_negatives(user, item, time, n, seed)
    assert drawn.shape == (len(rows), n)
    for u, items in zip(user.tolist(), drawn.tolist(), strict=True):
        assert len(set(items)) == n
        assert set(items) <= left[u]


@given(LOGS, st.integers(0, 3))
@settings(deadline=None)
def test_the_order_of_the_rows_plays_no_part(rows: list[tuple[int, int, int]], seed: int) -> None:
    rows = [*rows, *((6 + item, item, 3) for item in range(40, 43))]  # so that nobody has all items
    order = np.random.default_rng(seed).permutation(len(rows))
    drawn = sample_negatives(*columns(rows), 2)
    assert np.array_equal(drawn[order], sample_negatives(*columns([rows[place] for place in order]), 2))


def test_the_seed_decides() -> None:
    user, item, time = fashions()
    drawn = sample_negatives(user, item, time, 3, seed=1)
    assert np.array_equal(drawn, sample_negatives(user, item, time, 3, seed=1))
    assert not np.array_equal(drawn, sample_negatives(user, item, time, 3, seed=2))


def test_where_all_rows_near_are_the_users_own_the_catalogue_is_taken() -> None:
    own, others = np.arange(5 * WINDOW), 5 * WINDOW + np.arange(20)
    user = np.concatenate([np.zeros_like(own), np.ones_like(others)])
    item = np.concatenate([own, others])
    drawn = sample_negatives(user, item, item, 4)
    assert np.isin(drawn[: len(own)], others).all()
    assert np.isin(drawn[len(own) :], own).all()


def fashions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A log in which items differ in popularity, and are in fashion for a month: users, items, days.

    No item is a large part of a day: such a one is a negative less often, since a row's items all differ.
    """
    rng = np.random.default_rng(0)
    days, a_day, items = 200, 200, 10_000
    time = np.repeat(np.arange(days), a_day)
    weight = 1 / (100 + np.arange(items))
    draws = rng.choice(items, size=(len(time), 20), p=weight / weight.sum())
    start = rng.integers(-30, days, items)  # an item is in fashion for 30 days from here on
    in_fashion = (start[draws] <= time[:, None]) & (time[:, None] < start[draws] + 30)
    item = draws[np.arange(len(time)), in_fashion.argmax(1)]
    rows = np.unique(np.stack([rng.integers(10_000, size=len(time)), item, time]), axis=1)
    return rows[0], rows[1], rows[2]


def test_neither_popularity_nor_fashion_nor_age_tells_the_label() -> None:
    user, item, time = fashions()
    drawn, moments = sample_negatives(user, item, time, 4), np.repeat(time, 4)
    past = np.zeros((time.max() + 2, item.max() + 1), np.int64)
    np.add.at(past, (time + 1, item), 1)
    past = past.cumsum(0)  # rows of each item before each day
    first = np.full(item.max() + 1, time.max())
    np.minimum.at(first, item, time)

    items, days = np.concatenate([item, drawn.ravel()]), np.concatenate([time, moments])
    label = np.repeat([1.0, 0.0], [len(item), drawn.size])
    figures = {
        "in all": past[-1, items],
        "before": past[days, items],
        "in the week before": past[days, items] - past[np.maximum(days - 7, 0), items],
        "age": days - first[items],
    }
    told = {name: round(roc_auc_score(label, values), 3) for name, values in figures.items()}
    assert all(abs(value - 0.5) < 0.015 for value in told.values()), told
