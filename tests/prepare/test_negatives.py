"""Sampled negatives: properties for every log; neither popularity nor trend nor age reveals the label."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from openlum.errors import InputError
from openlum.prepare.negatives import WINDOW, sample_negatives
from openlum.schema import NegativeRule

HOW = st.sampled_from(get_args(NegativeRule))
LOGS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 30), st.integers(0, 8)), min_size=1, max_size=150, unique=True
)
"""Different rows (user, item, time), many at the same time."""


def columns(rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    user, item, time = np.array(rows).T
    return user, item, time


@given(LOGS, st.integers(1, 6), st.integers(0, 3), HOW)
@settings(deadline=None)
def test_a_negative_is_an_item_that_the_user_never_has(
    rows: list[tuple[int, int, int]], n: int, seed: int, how: NegativeRule
) -> None:
    user, item, time = columns(rows)
    remaining = {u: set(item.tolist()) - set(item[user == u].tolist()) for u in set(user.tolist())}
    if min(map(len, remaining.values())) < n:
        with pytest.raises(InputError, match=rf"leaves fewer than {n} negatives; use fewer negatives"):
            sample_negatives(user, item, time, n, seed, how)
        return
    negatives = sample_negatives(user, item, time, n, seed, how)
    assert negatives.shape == (len(rows), n)
    for u, items in zip(user.tolist(), negatives.tolist(), strict=True):
        assert len(set(items)) == n
        assert set(items) <= remaining[u]


@given(LOGS, st.integers(0, 3), HOW)
@settings(deadline=None)
def test_the_order_of_the_rows_has_no_influence(rows: list[tuple[int, int, int]], seed: int, how: NegativeRule) -> None:
    rows = [*rows, *((6 + item, item, 3) for item in range(40, 43))]  # so that no user has all items
    order = np.random.default_rng(seed).permutation(len(rows))
    negatives = sample_negatives(*columns(rows), 2, how=how)
    assert np.array_equal(negatives[order], sample_negatives(*columns([rows[index] for index in order]), 2, how=how))


def test_the_negatives_depend_on_the_seed() -> None:
    user, item, time = log_with_trends()
    negatives = sample_negatives(user, item, time, 3, seed=1)
    assert np.array_equal(negatives, sample_negatives(user, item, time, 3, seed=1))
    assert not np.array_equal(negatives, sample_negatives(user, item, time, 3, seed=2))


def test_negatives_come_from_the_catalogue_if_the_window_has_only_the_users_own_items() -> None:
    own_items, other_items = np.arange(5 * WINDOW), 5 * WINDOW + np.arange(20)
    user = np.concatenate([np.zeros_like(own_items), np.ones_like(other_items)])
    item = np.concatenate([own_items, other_items])
    negatives = sample_negatives(user, item, item, 4)
    assert np.isin(negatives[: len(own_items)], other_items).all()
    assert np.isin(negatives[len(own_items) :], own_items).all()


def test_negatives_of_the_same_time_are_items_of_the_next_events() -> None:
    user, item, time = log_with_trends()
    negatives = sample_negatives(user, item, time, 4)
    order = np.argsort(time, kind="stable")
    position = np.arange(len(time))
    size = 4 * WINDOW
    for row in np.random.default_rng(0).choice(len(time), 200, replace=False):
        begin = min(np.searchsorted(time[order], time[row]), len(time) - size)
        end = max(np.searchsorted(time[order], time[row], "right"), begin + size)
        # At the end of the window, which rows of one time belong to it is random.
        last = position[: len(time)][time[order] <= time[order][end - 1]][-1]
        assert np.isin(negatives[row], item[order][begin : last + 1]).all()


def test_popularity_draws_items_by_their_events_and_uniform_draws_every_item_equally() -> None:
    rng = np.random.default_rng(0)
    item = np.concatenate([np.zeros(600, int), rng.integers(1, 101, 1400)])  # item 0 has 30 % of the events
    user = np.arange(2000)
    time = rng.integers(1000, size=2000)
    share = {
        how: (sample_negatives(user, item, time, 1, how=how)[item > 0] == 0).mean() for how in ("popularity", "uniform")
    }
    assert share["popularity"] == pytest.approx(0.3, abs=0.05)
    assert share["uniform"] == pytest.approx(1 / 101, abs=0.01)


def log_with_trends() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a log (users, items, days) in which items differ in popularity and are popular for one month.

    No item has a large share of a day, because such an item is a negative less often: the items of a row all differ.
    """
    rng = np.random.default_rng(0)
    days, rows_per_day, items = 200, 200, 10_000
    time = np.repeat(np.arange(days), rows_per_day)
    weight = 1 / (100 + np.arange(items))
    draws = rng.choice(items, size=(len(time), 20), p=weight / weight.sum())
    start = rng.integers(-30, days, items)  # an item is popular for 30 days from this day on
    is_popular = (start[draws] <= time[:, None]) & (time[:, None] < start[draws] + 30)
    item = draws[np.arange(len(time)), is_popular.argmax(1)]
    rows = np.unique(np.stack([rng.integers(10_000, size=len(time)), item, time]), axis=1)
    return rows[0], rows[1], rows[2]


def test_neither_popularity_nor_trend_nor_age_reveals_the_label() -> None:
    user, item, time = log_with_trends()
    negatives, times = sample_negatives(user, item, time, 4), np.repeat(time, 4)
    past = np.zeros((time.max() + 2, item.max() + 1), np.int64)
    np.add.at(past, (time + 1, item), 1)
    past = past.cumsum(0)  # rows of each item before each day
    first = np.full(item.max() + 1, time.max())
    np.minimum.at(first, item, time)

    items, days = np.concatenate([item, negatives.ravel()]), np.concatenate([time, times])
    label = np.repeat([1.0, 0.0], [len(item), negatives.size])
    scores = {
        "all rows": past[-1, items],
        "earlier rows": past[days, items],
        "rows of the last week": past[days, items] - past[np.maximum(days - 7, 0), items],
        "age": days - first[items],
    }
    auc = {name: round(roc_auc_score(label, values), 3) for name, values in scores.items()}
    assert all(abs(value - 0.5) < 0.015 for value in auc.values()), auc
