"""Flat runs of events: which span of which user goes into a batch, and the windows that questions look back through.

Shapes: U users of the dataset, B spans in a batch, L events of a batch, end to end.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from openlum.data.dataset import Dataset, DatasetInfo, Sequences

Protocol = Literal["time", "last", "both"]


@dataclass(frozen=True)
class Spans:
    """Spans of users' histories: events `start` to `end` (exclusive) of the user at `user_index` in the sequences."""

    user_index: np.ndarray
    """(B,) index into `Sequences.user`."""
    start: np.ndarray
    """(B,) first event of the span."""
    end: np.ndarray
    """(B,) one past its last event."""

    def __len__(self) -> int:
        return len(self.user_index)

    def take(self, index: np.ndarray | slice) -> "Spans":
        """The spans at `index`."""
        return Spans(self.user_index[index], self.start[index], self.end[index])

    def events(self, sequences: Sequences) -> tuple[np.ndarray, np.ndarray]:
        """Index of every event, (L,), and where each span begins in it, (B + 1,)."""
        lengths = self.end - self.start
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        first = sequences.offsets[self.user_index] + self.start
        return np.repeat(first - offsets[:-1], lengths) + np.arange(offsets[-1]), offsets


def training_end(dataset: Dataset, protocol: Protocol) -> np.ndarray:
    """(U,) how many of each user's events may be trained on: those before the validation period (`time`), those before the
    user's two held-out events (`last`), or those that are both."""
    sequences = dataset.sequences
    early = np.concatenate([[0], np.cumsum(sequences.time < dataset.info.valid_time)])
    by_time = early[sequences.offsets[1:]] - early[sequences.offsets[:-1]]
    if protocol == "time":
        return by_time
    return sequences.valid_at if protocol == "last" else np.minimum(by_time, sequences.valid_at)


def eligible_events(info: DatasetInfo) -> str:
    """The events that the leave-last-out split can hold out, in words."""
    holdout = info.data_schema.holdout
    return "events" if holdout is None else f"events whose {holdout.field} is {' or '.join(map(str, holdout.values))}"


def kept_from_training(info: DatasetInfo, protocol: Protocol) -> str:
    """The events that `training_end` leaves out, in words."""
    late = f"events from {datetime.fromtimestamp(info.valid_time, UTC):%Y-%m-%d %H:%M:%S} UTC on"
    last = f"of each user with at least three {eligible_events(info)}, "
    last += "the last two" if info.data_schema.holdout is None else "all events from the last but one of these on"
    return {"time": late, "last": last, "both": f"{late}; and {last}"}[protocol]


def training_events(sequences: Sequences, end: np.ndarray) -> np.ndarray:
    """(M,) indices of the first `end[u]` events of the users."""
    return Spans(np.arange(len(end)), np.zeros_like(end), end).events(sequences)[0]


def training_spans(end: np.ndarray, max_events: int, rng: np.random.Generator) -> Spans:
    """Cut the first `end[u]` events of every user into spans of at most `max_events`, in random order.

    Where the cuts fall is drawn anew, so that over the epochs an event is seen after histories of every length.
    """
    first = np.where(
        end > max_events, rng.integers(1, max_events + 1, len(end)), max_events
    )  # events of the first part
    parts = 1 + np.maximum(-(-(end - first) // max_events), 0)
    user_index = np.repeat(np.arange(len(end)), parts)
    number = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)  # of the part in its user
    start = np.where(number == 0, 0, first[user_index] + (number - 1) * max_events)
    spans = Spans(user_index, start, np.minimum(first[user_index] + number * max_events, end[user_index]))
    spans = spans.take(spans.end > spans.start)
    return spans.take(rng.permutation(len(spans)))


def batches(spans: Spans, events_per_batch: int, extra: np.ndarray | None = None) -> Iterator[Spans]:
    """Consecutive spans in batches of at most `events_per_batch` events, or one span where it alone is longer.

    Args:
        extra: (B,) further cost of each span, in events (its questions).
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
    """First event that a question with this prefix looks back to.

    A question sees all events up to `max_events`, and between half of that and all of it beyond. The window moves in steps of
    half its length, so that neighbouring questions share one; it depends on the prefix alone, never on what comes later,
    so that bulk queries and the service agree.
    """
    step = max(max_events // 2, 1)
    return np.where(prefix <= max_events, 0, -(-(prefix - max_events) // step) * step)


def question_windows(
    sequences: Sequences, user: np.ndarray, prefix: np.ndarray, max_events: int, most: int
) -> tuple[Spans, np.ndarray, np.ndarray]:
    """The spans of history that rows look back through, at most `most` rows to one.

    Args:
        sequences: of the dataset.
        user: (I,) user ids of the rows.
        prefix: (I,) how many of the user's events each row may see.
        max_events: how many events back a row looks.
        most: rows that share one span.

    Returns:
        The B spans, the order (I,) in which rows lie in them, and how many lie in each, (B,).
    """
    user_index = sequences.position_of(user)
    start = window_start(prefix, max_events)
    # A user without events gets the empty span of some user.
    user_index = np.where(user_index < 0, 0, user_index)
    order = np.lexsort((prefix, start, user))
    keys = np.stack([user[order], start[order]])
    new = np.concatenate([[True], (np.diff(keys) != 0).any(0)])[: len(order)]
    within = np.arange(len(order)) - np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    first = np.flatnonzero(within % most == 0)
    sizes = np.diff(np.concatenate([first, [len(order)]]))
    last = order[np.cumsum(sizes) - 1]  # the longest prefix of each window
    return Spans(user_index[last], start[last], prefix[last]), order, sizes
