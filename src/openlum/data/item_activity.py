"""What happens to items now: how often each was met in the last hour, day and week, how new it is, as of a moment.

The activity as of a time counts events strictly before it. So it never tells of the event that is predicted, nor of later ones.

Shapes: N events of the dataset, n pairs of an item and a time, V items, A activity features.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from openlum.data.sequences import Sequences
from openlum.data.time_fields import by_key_then_time
from openlum.field_spec import SECONDS

WINDOWS = {"hour": SECONDS["h"], "day": SECONDS["d"], "week": 7 * SECONDS["d"]}
"""Length of each window in seconds."""
ACTIVITY = [*(f"events_{window}" for window in WINDOWS), "events", "time_since_first", "time_since_last", "unmet"]
"""Names of the A features."""
REFRESH_SECONDS = 600
"""How often the activity of all items is computed anew: a moment has the activity as of the last multiple of this."""


class ItemActivity:
    """The times of all events by item: 8 bytes an event.

    Args:
        sequences: the events, in any number of groups.
    """

    def __init__(self, sequences: Iterable[Sequences]) -> None:
        items, times = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        self.unit = 1
        """Seconds of the unit in which ages are counted, the `gap_unit` of the log."""
        for group in sequences:
            self.unit = SECONDS[group.gap_unit]
            items.append(group.item)
            times.append(group.time)
        time = np.concatenate(times)
        self.begin = int(time.min(initial=0))
        """Time of the first event, in seconds since 1970."""
        self._keys = by_key_then_time(np.concatenate(items), time - self.begin)  # (N,) by item, then by time
        self._keys.sort()

    def counts(self, items: np.ndarray, times: np.ndarray, seconds: int | None = None) -> np.ndarray:
        """Return the number of events of items before times, (n,).

        Args:
            items: (n,) item ids.
            times: (n,) seconds since 1970.
            seconds: counts only the events of so many seconds before the time; None counts all.
        """
        begin = 0 if seconds is None else times - seconds
        return self._index(items, times) - self._index(items, np.broadcast_to(begin, times.shape))

    def features(self, items: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Return the activity of items as of times, (n, A) float32, in the order of `ACTIVITY`.

        Counts and times (in whole units) are logarithms of one plus the value. An item that nobody has met has 0 everywhere, and
        1 in `unmet`.
        """
        first, now = self._index(items, np.zeros_like(times)), self._index(items, times)
        met = now > first
        counts = [now - self._index(items, times - seconds) for seconds in WINDOWS.values()]
        last = len(self._keys) - 1
        seen = [
            times - self.begin - (self._keys[np.clip(index, 0, last)] & ((1 << 33) - 1)) if last >= 0 else times
            for index in (first, now - 1)
        ]
        numbers = [*counts, now - first, *(np.where(met, seconds // self.unit, 0) for seconds in seen)]
        return np.stack([*(np.log1p(number) for number in numbers), ~met], 1).astype(np.float32)

    def snapshot(self, items: int, time: int) -> np.ndarray:
        """Return the activity of the items 0 to `items` - 1 as of a time, (V, A) float32."""
        return self.features(np.arange(items), np.full(items, time))

    def _index(self, items: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Return how many events come before the first event, (n,), of each item at or after each time, by item and time."""
        return np.searchsorted(self._keys, by_key_then_time(items, np.maximum(times - self.begin, 0)))


def refreshed(times: np.ndarray) -> np.ndarray:
    """Return for each time, (n,), the moment of the last refresh: a multiple of `REFRESH_SECONDS` at or before it."""
    return times - times % REFRESH_SECONDS


def moments(times: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield every moment of a refresh that times, (n,), fall into, and the indices of these times."""
    distinct, moment = np.unique(refreshed(times), return_inverse=True)
    order = np.argsort(moment, kind="stable")
    yield from zip(distinct.tolist(), np.split(order, np.cumsum(np.bincount(moment))[:-1]), strict=True)
