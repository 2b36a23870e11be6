"""The events and the impressions of users as flat arrays.

Shapes: U users, N events, I impressions, n any number of events or rows, M values of a multi field, W width of a vector.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from openlum.data.time_fields import by_key_then_time, time_fields


@dataclass(frozen=True)
class Sequences:
    """The events of users, end to end; each user's events are in the order of time. Ids are int32, as they are stored."""

    user: np.ndarray
    """(U,) int32 user ids, ascending."""
    offsets: np.ndarray
    """(U + 1,) int64: where each user's events begin."""
    time: np.ndarray
    """(N,) int64 seconds since 1970."""
    item: np.ndarray
    """(N,) int32 item ids."""
    condition: dict[str, np.ndarray]
    """Name of each condition field of the log to its values, (N,), (N, M) or (N, W). `fields` adds the time fields."""
    moment_start: np.ndarray
    """(N,) index of the first event at the same second of the same user; the events before it are known when it happens."""
    valid_at: np.ndarray
    """(U,) leave-last-out: index, within the user's events, of the validation event; the number of events if none is held out."""
    test_at: np.ndarray
    """(U,) the same for the test event."""
    time_fields: tuple[str, ...]
    """Names of the condition fields that are computed from the time."""
    gap_unit: str
    """Unit of the time field `gap`."""

    def user_index(self, users: np.ndarray) -> np.ndarray:
        """Return the index into `user` of user ids; -1 for users without events."""
        if not len(self.user):
            return np.full(len(users), -1)
        index = np.minimum(np.searchsorted(self.user, users), len(self.user) - 1)
        return np.where(self.user[index] == users, index, -1)

    def prefix_at(self, user: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the number of events of users, (n,), before seconds since 1970, (n,); 0 for users without events."""
        user_index, first = self.user_index(user), self.time.min(initial=0)
        event_users = np.repeat(np.arange(len(self.user)), np.diff(self.offsets))
        events = by_key_then_time(event_users, self.time - first)
        before = np.searchsorted(events, by_key_then_time(user_index, np.maximum(second - first, 0)))
        return np.where(user_index < 0, 0, before - self.offsets[user_index])

    def fields(self, events: np.ndarray) -> dict[str, np.ndarray]:
        """Return all condition fields of the events at the indices (n,): (n,), (n, M) or (n, W)."""
        start = self.moment_start[events].astype(np.int64)
        is_first = (
            self.offsets[np.searchsorted(self.offsets, start, "right") - 1] == start
        )  # at the user's first second
        fields = {name: values[events] for name, values in self.condition.items()}
        return fields | self._time_fields(self.time[events], self.time[start - 1], ~is_first)

    def row_time_fields(self, user: np.ndarray, time: np.ndarray, prefix: np.ndarray) -> dict[str, np.ndarray]:
        """Return the time fields, (n,), of rows of users at times that see `prefix` events, (n,) each."""
        last = self.offsets[np.maximum(self.user_index(user), 0)] + prefix - 1
        previous = self.time[np.maximum(last, 0)] if len(self.time) else time
        return self._time_fields(time, previous, prefix > 0)

    def _time_fields(self, time: np.ndarray, previous: np.ndarray, has_previous: np.ndarray) -> dict[str, np.ndarray]:
        ids = time_fields(self.time_fields, time, previous, has_previous, self.gap_unit)
        return {name: values.astype(np.int32) for name, values in ids.items()}


def event_mask(sequences: Sequences, where: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return which events have one of these ids in each of these condition fields, (N,) bool."""
    mask = np.ones(len(sequences.item), bool)
    for name, ids in where.items():
        matches = np.isin(sequences.condition[name], ids)
        mask &= matches.any(-1) if matches.ndim > 1 else matches
    return mask


def join_sequences(parts: list[Sequences]) -> Sequences:
    """Return sequences of different users as one, with the users in ascending order.

    Args:
        parts: at least one. The list is empty afterwards: the columns leave the memory one by one.
    """
    if len(parts) == 1:
        return parts.pop()
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    order = np.argsort(np.concatenate([part.user for part in parts]))
    offsets = np.concatenate([[0], np.cumsum(lengths[order])])
    first = np.cumsum(lengths) - lengths  # of each user, end to end
    index = np.repeat(first[order] - offsets[:-1], lengths[order]) + np.arange(offsets[-1])
    columns = {name: [vars(part)[name] for part in parts] for name in ("user", "valid_at", "test_at", "time", "item")}
    columns["moment_start"] = [  # within each user's events
        part.moment_start - np.repeat(part.offsets[:-1], np.diff(part.offsets)).astype(part.moment_start.dtype)
        for part in parts
    ]
    fields = {name: [part.condition[name] for part in parts] for name in parts[0].condition}
    joined: dict[str, Any] = {"time_fields": parts[0].time_fields, "gap_unit": parts[0].gap_unit}
    parts.clear()
    condition = {name: np.concatenate(fields.pop(name))[index] for name in list(fields)}
    joined |= {name: np.concatenate(columns.pop(name))[order] for name in ("user", "valid_at", "test_at")}
    joined |= {name: np.concatenate(columns.pop(name))[index] for name in list(columns)}
    kind = np.int32 if len(index) < 2**31 else np.int64
    joined["moment_start"] = joined["moment_start"] + np.repeat(offsets[:-1], lengths[order]).astype(kind)
    return Sequences(offsets=offsets, condition=condition, **joined)


@dataclass(frozen=True)
class Impressions:
    """Impressions of one split, or impressions without a label, in the order of their row ids."""

    row: np.ndarray
    """(I,) int64 row ids, unique over all splits and the impressions without a label."""
    user: np.ndarray
    """(I,) int32 user ids."""
    time: np.ndarray
    """(I,) int64 seconds since 1970."""
    item: np.ndarray
    """(I,) int32 item ids."""
    label: np.ndarray
    """(I,) float32, 0 or 1; NaN where there is no label."""
    prefix: np.ndarray
    """(I,) int64: number of the user's events strictly before the row's time. Features of the row may use only these events."""
    condition: dict[str, np.ndarray]
    """Field name to values, (I,), (I, M) or (I, W); feedback fields are *any*, because they are not known yet."""
    context: dict[str, np.ndarray]
    """Field name to values, as in `condition`."""
    request: np.ndarray | None = None
    """(I,) int64: equal for rows of one user that were candidates together; None if the log does not name requests."""

    def __len__(self) -> int:
        """Return I."""
        return len(self.row)

    def with_prefix(self, sequences: Sequences, prefix: np.ndarray) -> "Impressions":
        """Return the same rows with another prefix, (I,), and with the time fields that this prefix implies."""
        times = sequences.row_time_fields(self.user, self.time, prefix)
        return replace(self, prefix=prefix, condition=self.condition | times)

    def take(self, index: np.ndarray | slice) -> "Impressions":
        """Return the rows at `index`."""
        return _by_column(lambda values: values[0][index], [self])


def concatenate(parts: Sequence[Impressions]) -> Impressions:
    """Return the rows of at least one set of impressions, end to end."""
    return _by_column(np.concatenate, parts)


def _by_column(combine: Callable[[list[np.ndarray]], np.ndarray], parts: Sequence[Impressions]) -> Impressions:
    """Return the impressions whose columns are the results of `combine` for the columns of the parts."""
    columns: dict[str, Any] = {
        name: combine([getattr(part, name) for part in parts])
        for name in ("row", "user", "time", "item", "label", "prefix")
    }
    if requests := [part.request for part in parts if part.request is not None]:
        columns["request"] = combine(requests)
    for kind in ("condition", "context"):
        names = getattr(parts[0], kind)
        columns[kind] = {name: combine([getattr(part, kind)[name] for part in parts]) for name in names}
    return Impressions(**columns)
