"""The activity of items against a loop over all events."""

import math

import numpy as np
import pytest

from openlum.data.dataset import Dataset
from openlum.data.item_activity import ACTIVITY, REFRESH_SECONDS, WINDOWS, ItemActivity, moments, refreshed
from openlum.field_spec import SECONDS


def slow(events: list[tuple[int, int]], item: int, time: int, unit: int) -> list[float]:
    """Return the features of an item as of a time, from (item, time) of all events."""
    times = [when for which, when in events if which == item and when < time]
    counts = [sum(when >= time - seconds for when in times) for seconds in WINDOWS.values()]
    since = [(time - when) // unit for when in (min(times, default=time), max(times, default=time))]
    numbers = [*counts, len(times), *since]
    return [*(math.log1p(number) for number in numbers), float(not times)]


def test_features_equal_a_loop_over_events(small_dataset: Dataset, sharded_dataset: Dataset) -> None:
    """Also at the times of events: an event at the moment itself is never counted."""
    sequences = small_dataset.sequences
    events = list(zip(sequences.item.tolist(), sequences.time.tolist(), strict=True))
    rng = np.random.default_rng(0)
    times = rng.choice(sequences.time, 300) + rng.choice([0, 0, 1, -1, 3600, 86400, -(10**8), 10**8], 300)
    items = rng.integers(0, 25, 300)  # some have no events
    unit = SECONDS[sequences.gap_unit]
    expected = [slow(events, item, time, unit) for item, time in zip(items.tolist(), times.tolist(), strict=True)]
    for dataset in (small_dataset, sharded_dataset):
        activity = ItemActivity(dataset.groups_of_sequences())
        assert activity.features(items, times) == pytest.approx(np.array(expected), rel=1e-6)
        assert activity.snapshot(25, int(times[0])) == pytest.approx(
            np.array([slow(events, item, int(times[0]), unit) for item in range(25)]), rel=1e-6
        )
        counts = activity.counts(items, times)
        assert np.log1p(counts) == pytest.approx(np.array(expected)[:, ACTIVITY.index("events")])


def test_a_log_without_events_has_no_activity() -> None:
    features = ItemActivity([]).features(np.array([1]), np.array([5]))
    assert features.tolist() == [[0] * (len(ACTIVITY) - 1) + [1]]


def test_moments_never_come_after_their_times() -> None:
    times = np.array([5, 600, 599, 1_200_000_123, 601])
    assert (refreshed(times) <= times).all()
    assert (times - refreshed(times) < REFRESH_SECONDS).all()
    found = {moment: rows.tolist() for moment, rows in moments(times)}
    assert found == {0: [0, 2], 600: [1, 4], 1_200_000_000: [3]}
