"""The weights of the item activity: kept where they help on other users' events, otherwise left out."""

import numpy as np
import pytest
import torch

from openlum.data.item_activity import ACTIVITY, ItemActivity
from openlum.data.sequences import Sequences
from openlum.pretrain.activity import fit_activity
from openlum.pretrain.validation import ValidationScores

ITEMS, USERS, EVENTS = 40, 60, 600


def log(seed: int) -> tuple[Sequences, np.ndarray, np.ndarray]:
    """Return events of items that live for a few hours, and the items and times of later events."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.integers(0, 40 * 3600, 4000)) + 1_600_000_000
    item = 1 + ((time - time[0]) // 3600 + rng.integers(0, 3, 4000)) % ITEMS
    sequences = Sequences(
        user=np.array([1], np.int32),
        offsets=np.array([0, 4000]),
        time=time,
        item=item.astype(np.int32),
        condition={},
        moment_start=np.arange(4000),
        valid_at=np.array([4000]),
        test_at=np.array([4000]),
        time_fields=(),
        gap_unit="s",
    )
    chosen = rng.integers(1000, 4000, EVENTS)
    return sequences, item[chosen], time[chosen]


@pytest.mark.parametrize(("fresh", "kept"), [(True, True), (False, False)])
def test_weights_are_kept_where_fresh_items_are_met(fresh: bool, kept: bool) -> None:
    sequences, items, times = log(0)
    rng = np.random.default_rng(1)
    if not fresh:
        items = rng.integers(1, ITEMS + 1, EVENTS)  # nothing about the present helps
    candidates = np.arange(1, ITEMS + 1)
    scores = torch.from_numpy(rng.normal(size=(EVENTS, 1 + ITEMS)).astype(np.float32)) / 10
    own = torch.from_numpy(items[:, None] == candidates)
    scores[:, 0] += 0.2  # the model has some taste
    scores[:, 1:][own] = scores[:, 0]
    scored = ValidationScores(scores, items, times, rng.integers(0, USERS, EVENTS))
    fit = fit_activity(scored, candidates, ItemActivity([sequences]), seed=0)
    assert bool(fit.weights.any()) == kept
    if kept:
        assert fit.gain > 0.5
        assert fit.weights[ACTIVITY.index("events_hour")] > 0


def test_few_users_give_no_weights() -> None:
    sequences, items, times = log(0)
    scored = ValidationScores(torch.zeros(EVENTS, 1 + ITEMS), items, times, np.zeros(EVENTS, np.int64))
    assert not fit_activity(scored, np.arange(1, ITEMS + 1), ItemActivity([sequences]), seed=0).weights.any()
