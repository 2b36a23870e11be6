"""Spans: every training event occurs once in an epoch, and batches respect their budget."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlum.data.packing import Spans, batches, training_spans
from openlum.data.time_fields import moment_starts, time_fields


@given(st.lists(st.integers(0, 60), max_size=12), st.integers(2, 15), st.integers(0, 999))
def test_an_epoch_contains_every_training_event_once(lengths: list[int], max_events: int, seed: int) -> None:
    end = np.array(lengths, np.int64)
    spans = training_spans(end, max_events, np.random.default_rng(seed))
    assert (spans.end - spans.start <= max_events).all()
    events = sorted(
        (int(user_index), event)
        for user_index, start, stop in zip(spans.user_index, spans.start, spans.end, strict=True)
        for event in range(start, stop)
    )
    assert events == [(user_index, event) for user_index, length in enumerate(lengths) for event in range(length)]


def test_every_epoch_cuts_histories_at_other_events() -> None:
    cuts = {tuple(sorted(training_spans(np.array([50]), 10, np.random.default_rng(e)).start)) for e in range(20)}
    assert len(cuts) > 3


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 40))
def test_batches_respect_their_budget_and_lose_no_span(lengths: list[int], budget: int) -> None:
    n = np.array(lengths, np.int64)
    spans = Spans(np.arange(len(n)), np.zeros_like(n), n)
    packed = list(batches(spans, budget))
    assert np.concatenate([b.user_index for b in packed] or [n]).tolist() == list(range(len(n)))
    assert all((b.end - b.start).sum() <= budget or len(b) == 1 for b in packed)


def test_time_fields_by_hand() -> None:
    """Thursday 1970-01-01 01:00 UTC, a first event; Monday 1970-01-05 23:59:59, three seconds after the previous event."""
    time = np.array([3600, 4 * 86400 + 86399])
    fields = time_fields(["hour", "weekday", "gap"], time, time - 3, np.array([False, True]), "s")
    assert {name: values.tolist() for name, values in fields.items()} == {
        "hour": [2, 24],
        "weekday": [4, 1],
        "gap": [1, 4],
    }


@pytest.mark.parametrize(("unit", "bucket"), [("s", 2 + 16), ("h", 2 + 4), ("d", 2 + 1)])
def test_gaps_count_whole_units(unit: str, bucket: int) -> None:
    """The gap is 22 hours and includes midnight."""
    now, before = np.array([100_000]), np.array([100_000 - 22 * 3600])
    assert time_fields(["gap"], now, before, np.array([True]), unit)["gap"].tolist() == [bucket]


def test_events_of_one_second_start_at_the_same_index() -> None:
    time = np.array([5, 5, 7, 7, 7, 8, 1])
    first = np.array([True, False, False, True, False, False, True])
    assert moment_starts(time, first).tolist() == [0, 0, 2, 3, 3, 5, 6]
