"""Events sorted by a key (an item, a user, a user and an item, ...) and by time, to describe the events before a row.

An event at the row's second, or later, never counts.

Shapes: I rows, N events (an event with several keys counts several times), n distinct keys, M keys of an event or a row.
"""

from dataclasses import dataclass

import numpy as np

from openlum.data.dataset import Dataset
from openlum.data.sequences import Sequences
from openlum.data.time_fields import by_key_then_time, seconds_of
from openlum.field_spec import FieldSpec


@dataclass(frozen=True)
class EventIndex:
    """Events by key and time."""

    begins: int
    """The time from which seconds are counted: that of the first event."""
    keys: np.ndarray | None
    """(n,) int64: the distinct keys, ascending; None if the keys are their own numbers."""
    sorted: np.ndarray
    """(N,) int64: number of the key and seconds of each event (`by_key_then_time`), ascending."""
    feedback: dict[str, np.ndarray]
    """Categorical feedback field to the values of the events, (N,), in this order."""
    sizes: dict[str, int]
    """Feedback field to its number of values, value 0 (unknown) included."""

    def before(self, keys: np.ndarray, time: np.ndarray) -> "EventsBefore":
        """Return the events before each row.

        Args:
            keys: (I, M) keys of the rows; -1 is no key.
            time: (I,) times of the rows.
        """
        if self.keys is None:
            number, has_events = np.maximum(keys, 0), keys >= 0
        else:
            number = np.searchsorted(self.keys, keys)  # (I, M)
            has_events = number < len(self.keys)
            has_events[has_events] = self.keys[number[has_events]] == keys[has_events]
        first, last = (self.position(number, moment) for moment in (np.full_like(time, self.begins), time))
        return EventsBefore(self, number, first, np.where(has_events, last, first), time)

    def position(self, number: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Return the index, (I, M), of the first event of a key, by its number (I, M), that is not earlier than a time, (I,)."""
        seconds = np.maximum(time - self.begins, 0)[:, None]
        return np.searchsorted(self.sorted, by_key_then_time(number, np.broadcast_to(seconds, number.shape)))


@dataclass(frozen=True)
class EventsBefore:
    """The events before each of I rows: for each of a row's M keys a range of the index."""

    index: EventIndex
    """The events."""
    number: np.ndarray
    """(I, M) number of the key."""
    first: np.ndarray
    """(I, M) index of the first event."""
    last: np.ndarray
    """(I, M) index one past the last event."""
    time: np.ndarray
    """(I,) times of the rows."""

    def count(self) -> np.ndarray:
        """Return the number of events before each row, (I,)."""
        return np.asarray((self.last - self.first).sum(1))

    def count_within(self, seconds: int) -> np.ndarray:
        """Return the number of events in the last seconds before each row, (I,)."""
        begin = self.index.position(self.number, self.time - seconds)
        return np.asarray((self.last - np.maximum(begin, self.first)).clip(min=0).sum(1))

    def shares(self) -> dict[str, np.ndarray]:
        """Return FIELD_VALUE to the share of the events before each row that have this feedback, (I,); NaN without events."""
        count = self.count()
        shares: dict[str, np.ndarray] = {}
        for name, values in self.index.feedback.items():
            for value in range(1, self.index.sizes[name]):
                total = np.concatenate([[0], np.cumsum(values == value)])
                share = (total[self.last] - total[self.first]).sum(1) / np.maximum(count, 1)
                shares[f"{name}_{value}"] = np.where(count > 0, share, np.nan)
        return shares

    def last_time(self) -> np.ndarray:
        """Return the time of the last event before each row, (I,) float64; NaN without events."""
        return self._times(self.last - 1, -np.inf).max(1)

    def first_time(self) -> np.ndarray:
        """Return the time of the first event before each row, (I,) float64; NaN without events."""
        return self._times(self.first, np.inf).min(1)

    def _times(self, event: np.ndarray, without: float) -> np.ndarray:
        """Return the times of events by index, (I, M): `without` for keys without events, NaN if no key of the row has any."""
        events, has_events = self.index.sorted, self.last > self.first
        if not len(events):
            return np.full(event.shape, np.nan)
        times = self.index.begins + seconds_of(events[event.clip(0, len(events) - 1)])
        return np.where(has_events, times, np.where(has_events.any(1, keepdims=True), without, np.nan))


def index_events(keys: np.ndarray, sequences: Sequences, feedback: list[FieldSpec]) -> EventIndex:
    """Return the events of some users by keys (N, M), of which -1 is no key; `feedback` has the categorical feedback fields."""
    event, column = np.nonzero(keys >= 0)
    distinct, number = np.unique(keys[event, column], return_inverse=True)
    begins = int(sequences.time.min()) if len(sequences.time) else 0
    values = {spec.name: sequences.condition[spec.name][event] for spec in feedback}
    return _sorted_index(begins, distinct, number, sequences.time[event], values, feedback)


def index_by_item(dataset: Dataset) -> EventIndex:
    """Return the events of all users by item. The shards are read one after the other."""
    feedback = feedback_fields(dataset)
    events = sum(shard.events for shard in dataset.shards())
    item, time = np.empty(events, np.int32), np.empty(events, np.int64)
    values = {spec.name: np.empty(events, np.min_scalar_type(spec.size)) for spec in feedback}
    start = 0
    for sequences in dataset.groups_of_sequences():
        stop = start + len(sequences.item)
        item[start:stop], time[start:stop] = sequences.item, sequences.time
        for name, column in values.items():
            column[start:stop] = sequences.condition[name]
        start = stop
    return _sorted_index(int(time.min()) if len(time) else 0, None, item, time, values, feedback)


def index_labels(keys: np.ndarray, time: np.ndarray, label: np.ndarray) -> EventIndex:
    """Return labelled rows as events, by one key each, (N,), of which -1 is no key. Their feedback is `label`, 0 or 1."""
    known = keys >= 0
    distinct, number = np.unique(keys[known], return_inverse=True)
    begins = int(time.min()) if len(time) else 0
    spec = FieldSpec(name="label", type="categorical", size=2, feedback=True)
    return _sorted_index(begins, distinct, number, time[known], {"label": label[known].astype(np.int8)}, [spec])


def feedback_fields(dataset: Dataset) -> list[FieldSpec]:
    """Return the categorical condition fields that are feedback."""
    return [spec for spec in dataset.specs("condition") if spec.feedback and spec.type == "categorical"]


def _sorted_index(
    begins: int,
    keys: np.ndarray | None,
    number: np.ndarray,
    time: np.ndarray,
    values: dict[str, np.ndarray],
    feedback: list[FieldSpec],
) -> EventIndex:
    """Return the index of events from the number of their keys, their times and their feedback, (N,) each."""
    pairs = by_key_then_time(number, time - begins)
    order = np.argsort(pairs)  # the order of equal pairs does not matter: no range of events divides them
    sizes = {spec.name: spec.size for spec in feedback}
    sorted_values = {
        name: column[order].astype(np.min_scalar_type(sizes[name]), copy=False) for name, column in values.items()
    }
    return EventIndex(begins, keys, pairs[order], sorted_values, sizes)
