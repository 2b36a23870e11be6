"""Negatives for a log without impressions: each event is a positive, with items sampled for it.

A log of purchases or reviews does not say which items were shown and not taken. So each event is ranked among *negatives*: with
`same time`, the items of other events at the same time or soon after. Such a negative is about as popular and as old as the
positive at that moment, so neither popularity nor age reveals the label. Negatives from the whole catalogue would reveal it.
Negatives do not come from earlier events. Otherwise the item of a negative would always have an event before the row, but the
item of a positive would not, so recently popular items would look like negatives. (On Amazon's Beauty, the number of an item's
reviews in the last 30 days has an AUC of 0.51; with negatives from earlier and later rows it would be 0.44.) One small bias is
left: the most popular items are negatives slightly too seldom, because many users have them already and an item is used only once
in a row.

The negatives are sampled, not shown. So metrics on them compare methods with each other, but say little about real
impressions.

Shapes: n rows, m of these rows, N negatives per row.
"""

import numpy as np

from openlum.errors import InputError
from openlum.schema import NegativeRule

WINDOW = 50
"""The negatives of a row are drawn from at least N times this many rows."""
ROUNDS = 20
"""How often a negative is drawn again, first from the window and then from the whole log, before a draw from the items that are
left."""


def sample_negatives(
    user: np.ndarray, item: np.ndarray, time: np.ndarray, number: int, seed: int = 0, how: NegativeRule = "same time"
) -> np.ndarray:
    """Return the negatives of each row (n, N).

    A negative is the item of a row that is drawn from a window. With `same time`, the window has all rows of the row's own time
    and, if these are fewer than `N * WINDOW`, the next rows; at the end of the log it has the last rows. With `popularity`, it
    has all rows. With `uniform`, a negative is drawn from the items instead. Rows of one time are in random order, so that ids
    have no influence. A negative is never an item that the user has at any time, and the negatives of a
    row all differ. A negative that breaks these rules is drawn again: up to `ROUNDS` times from the window, then from the whole
    catalogue, by popularity or, with `uniform`, uniformly.

    Args:
        user: (n,) the user of each row, whole numbers from 0 on.
        item: (n,) the item of each row, whole numbers from 0 on.
        time: (n,) the time of each row.
        number: N.
        seed: seed of the random draws.
        how: the rule of the draws.

    Returns:
        (n, N) items. They depend on the set of rows and the seed, but not on the order of the rows, if all rows differ.

    Raises:
        InputError: a user has so many items that fewer than N items are left.
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((item, user, time))
    order = order[np.lexsort((rng.random(len(order)), time[order]))]
    user, item = user[order].astype(np.int64), item[order].astype(np.int64)
    histories = _Histories(user, item, by_popularity=how != "uniform")
    histories.check(number)
    pool = histories.catalogue if how == "uniform" else item
    windows = [(np.zeros_like(user), np.full_like(user, len(pool)))]
    if how == "same time":
        windows.insert(0, _windows(time[order], number * WINDOW))
    negatives = np.empty((len(user), number), np.int64)
    for column in range(number):
        pending = np.arange(len(user))
        for start, width in windows:
            for _ in range(ROUNDS):
                candidates = pool[start[pending] + rng.integers(width[pending])]
                is_invalid = histories.contain(user[pending], candidates)
                is_invalid |= (negatives[pending, :column] == candidates[:, None]).any(1)
                negatives[pending[~is_invalid], column] = candidates[~is_invalid]
                pending = pending[is_invalid]
        for row in pending:
            negatives[row, column] = histories.draw_other(user[row], negatives[row, :column], rng)
    result = np.empty_like(negatives)
    result[order] = negatives
    return result


def _windows(time: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row (n,) and the number of rows (n,) of each row's window; `time` (n,) is in ascending order."""
    n = len(time)
    start = np.minimum(np.searchsorted(time, time, "left"), max(n - size, 0))
    return start, np.minimum(np.maximum(np.searchsorted(time, time, "right") - start, size), n - start)


class _Histories:
    """The items of each user.

    Args:
        user: (n,) the user of each row.
        item: (n,) the item of each row.
        by_popularity: whether `draw_other` draws items by their number of rows, or uniformly.
    """

    def __init__(self, user: np.ndarray, item: np.ndarray, by_popularity: bool) -> None:
        self.catalogue, counts = np.unique(item, return_counts=True)
        self.weights = counts if by_popularity else np.ones_like(counts)
        self.stride = int(item.max(initial=0)) + 1
        self.pairs = np.unique(user * self.stride + item)

    def contain(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return whether each user has the item (m,), for users (m,) and items (m,)."""
        pair = user * self.stride + item
        index = np.searchsorted(self.pairs, pair)
        return self.pairs[np.minimum(index, len(self.pairs) - 1)] == pair

    def draw_other(self, user: int, excluded: np.ndarray, rng: np.random.Generator) -> int:
        """Return an item of the catalogue that the user does not have and that is not excluded."""
        begin, end = np.searchsorted(self.pairs, [user * self.stride, (user + 1) * self.stride])
        unavailable = np.concatenate([self.pairs[begin:end] - user * self.stride, excluded])
        is_left = ~np.isin(self.catalogue, unavailable)
        return int(rng.choice(self.catalogue[is_left], p=self.weights[is_left] / self.weights[is_left].sum()))

    def check(self, number: int) -> None:
        """Raise an error if fewer than `number` items are left for a user."""
        largest_history = int(np.bincount(self.pairs // self.stride).max(initial=0))
        items = len(self.catalogue)
        if items - largest_history < number:
            raise InputError(
                f"a user has {largest_history:,} of the {items:,} items, which leaves fewer than {number} negatives; "
                "use fewer negatives"
            )
