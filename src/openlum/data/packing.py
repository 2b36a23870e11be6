"""Flat batches of events: the spans of users' histories that form a batch, and the windows that questions look back through.

Shapes: U users of the dataset, B spans in a batch, L events of a batch (all spans end to end), I rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from openlum.data.info import DatasetInfo
from openlum.data.sequences import Sequences

Protocol = Literal["time", "last", "both"]


@dataclass(frozen=True)
class Spans:
    """Spans of users' histories: events `start` to `end` (exclusive) of the user at `user_index` in the sequences."""

    user_index: np.ndarray
    """(B,) index into `Sequences.user`."""
    start: np.ndarray
    """(B,) index of the first event of the span."""
    end: np.ndarray
    """(B,) index after the last event of the span."""

    def __len__(self) -> int:
        return len(self.user_index)

    def take(self, index: np.ndarray | slice) -> "Spans":
        """Return the spans at `index`."""
        return Spans(self.user_index[index], self.start[index], self.end[index])

    def events(self, sequences: Sequences) -> tuple[np.ndarray, np.ndarray]:
        """Return the index of every event in `Sequences`, (L,), and where each span begins in that array, (B + 1,)."""
        lengths = self.end - self.start
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        first = sequences.offsets[self.user_index] + self.start
        return np.repeat(first - offsets[:-1], lengths) + np.arange(offsets[-1]), offsets


def copy_spans(sequences: Sequences, spans: Spans) -> tuple[Sequences, np.ndarray]:
    """Return the events of spans of different users as sequences of their own, and where each copy begins in the user's events.

    A copy also has the events that the fields and the prefixes of the span's first events depend on. No event of it is held out.

    Returns:
        Sequences of B users, ascending, and for each of them the index of the first copied event in the user's events, (B,).
    """
    spans = spans.take(np.argsort(spans.user_index))
    first = sequences.offsets[spans.user_index]  # (B,)
    # The time field `gap` of an event depends on the last event before its second.
    earlier = sequences.moment_start[np.minimum(first + spans.start, len(sequences.time) - 1)] - first - 1
    begin = np.where(spans.start > 0, np.maximum(earlier, 0), 0)
    copied = Spans(spans.user_index, begin, spans.end)
    index, offsets = copied.events(sequences)
    moment = sequences.moment_start[index] - np.repeat(first + begin, np.diff(offsets))
    copy = replace(
        sequences,
        user=sequences.user[spans.user_index],
        offsets=offsets,
        time=sequences.time[index],
        item=sequences.item[index],
        condition={name: values[index] for name, values in sequences.condition.items()},
        moment_start=np.maximum(moment, 0) + np.repeat(offsets[:-1], np.diff(offsets)),
        valid_at=np.diff(offsets),
        test_at=np.diff(offsets),
    )
    return copy, begin


def training_end(sequences: Sequences, info: DatasetInfo, protocol: Protocol) -> np.ndarray:
    """Return how many of each user's events may be used for training, (U,).

    `time`: the events before the validation period. `last`: the events before the user's two held-out events. `both`: the events
    that satisfy both conditions."""
    by_time = events_before(sequences, info.valid_time)
    if protocol == "time":
        return by_time
    return sequences.valid_at if protocol == "last" else np.minimum(by_time, sequences.valid_at)


def events_before(sequences: Sequences, time: int) -> np.ndarray:
    """Return the number of each user's events before a time, (U,)."""
    before = np.concatenate([[0], np.cumsum(sequences.time < time)])
    return before[sequences.offsets[1:]] - before[sequences.offsets[:-1]]


def eligible_events(info: DatasetInfo) -> str:
    """Describe in words the events that the leave-last-out split can hold out."""
    holdout = info.data_schema.holdout
    return "events" if holdout is None else f"events whose {holdout.field} is {' or '.join(map(str, holdout.values))}"


def kept_from_training(info: DatasetInfo, protocol: Protocol) -> str:
    """Describe in words the events that `training_end` leaves out."""
    late = f"events from {datetime.fromtimestamp(info.valid_time, UTC):%Y-%m-%d %H:%M:%S} UTC on"
    last = f"of each user with at least three {eligible_events(info)}, "
    last += "the last two" if info.data_schema.holdout is None else "all events from the last but one of these on"
    return {"time": late, "last": last, "both": f"{late}; and {last}"}[protocol]


def training_events(sequences: Sequences, end: np.ndarray) -> np.ndarray:
    """Return the indices of the first `end[u]` events of each user u, end to end."""
    return Spans(np.arange(len(end)), np.zeros_like(end), end).events(sequences)[0]


def training_spans(end: np.ndarray, max_events: int, rng: np.random.Generator) -> Spans:
    """Cut the first `end[u]` events of every user into spans of at most `max_events`, in random order.

    The cuts are random in every epoch, so that over the epochs the model sees an event after histories of every length.
    """
    # Length of each user's first span; the cuts after it are `max_events` apart.
    first = np.where(end > max_events, rng.integers(1, max_events + 1, len(end)), max_events)
    parts = 1 + np.maximum(-(-(end - first) // max_events), 0)
    user_index = np.repeat(np.arange(len(end)), parts)
    number = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)  # index of each span within its user
    start = np.where(number == 0, 0, first[user_index] + (number - 1) * max_events)
    spans = Spans(user_index, start, np.minimum(first[user_index] + number * max_events, end[user_index]))
    spans = spans.take(spans.end > spans.start)
    return spans.take(rng.permutation(len(spans)))


def batches(spans: Spans, events_per_batch: int, extra: np.ndarray | None = None) -> Iterator[Spans]:
    """Yield consecutive spans in batches of at most `events_per_batch` events; a longer span is a batch of its own.

    Args:
        spans: the spans, in the order in which they are batched.
        events_per_batch: the largest cost of a batch, in events.
        extra: (B,) further cost of each span, in events (for its questions).
    """
    cost = spans.end - spans.start + (0 if extra is None else extra)
    begin, total = 0, 0
    for index, events in enumerate(cost):
        if index > begin and total + events > events_per_batch:
            yield spans.take(slice(begin, index))
            begin, total = index, 0
        total += int(events)
    if begin < len(spans):
        yield spans.take(slice(begin, len(spans)))


def window_start(prefix: np.ndarray, max_events: int) -> np.ndarray:
    """Return the first event that a question with this prefix looks back to.

    A question with a prefix of at most `max_events` sees all its events; another sees between half of `max_events` and all of it.
    The window moves in steps of half its length, so that neighbouring questions share a window. It depends on the prefix alone,
    never on later events, so that bulk queries and the service agree.
    """
    step = max(max_events // 2, 1)
    return np.where(prefix <= max_events, 0, -(-(prefix - max_events) // step) * step)


def question_windows(
    sequences: Sequences, user: np.ndarray, prefix: np.ndarray, max_events: int, max_rows: int
) -> tuple[Spans, np.ndarray, np.ndarray]:
    """Return the spans of history that rows look back through, with at most `max_rows` rows for each span.

    Args:
        sequences: the sequences of the dataset.
        user: (I,) user ids of the rows.
        prefix: (I,) how many of the user's events each row may see.
        max_events: how many events a row looks back.
        max_rows: how many rows may share a span.

    Returns:
        The B spans, the order of the rows by span, (I,), and the number of rows in each span, (B,).
    """
    user_index = sequences.user_index(user)
    start = window_start(prefix, max_events)
    # A user without events gets an empty span of user 0.
    user_index = np.where(user_index < 0, 0, user_index)
    order = np.lexsort((prefix, start, user))
    keys = np.stack([user[order], start[order]])
    new = np.concatenate([[True], (np.diff(keys) != 0).any(0)])[: len(order)]
    within = np.arange(len(order)) - np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    first = np.flatnonzero(within % max_rows == 0)
    sizes = np.diff(np.concatenate([first, [len(order)]]))
    last = order[np.cumsum(sizes) - 1]  # the longest prefix of each window
    return Spans(user_index[last], start[last], prefix[last]), order, sizes
