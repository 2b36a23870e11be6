"""Impressions for a log without impressions: each row of the log is a positive, with negatives sampled for it.

A log of reviews does not say which items were shown and not reviewed. So each row is ranked among *negatives*: the items
of other rows at the same time or soon after. Such a negative is about as popular and as old as the positive at that moment,
so neither popularity nor age reveals the label. Negatives from the whole catalogue would reveal it. Negatives do not
come from earlier rows. Otherwise the item of a negative would always have a review before the row, but the item of a positive
would not, so recently popular items would look like negatives. (On Amazon's Beauty, the number of an item's reviews in
the last 30 days has an AUC of 0.51; with negatives from earlier and later rows it would be 0.44.) One small bias is left: the
most popular items are negatives slightly too seldom, because many users have them already and an item is used only once in
a row.

The negatives are sampled, not shown. So metrics on them compare methods with each other, but say little about real
impressions.

Shapes: n rows, m of these rows, N negatives per row.
"""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from openlum.errors import InputError
from openlum.sources.public.tables import save

WINDOW = 50
"""The negatives of a row are drawn from at least N times this many rows."""
ROUNDS = 20
"""How often a negative is drawn again from the window before it is drawn from the whole catalogue."""


def write_impressions(connection: duckdb.DuckDBPyConnection, number: int, path: Path, seed: int = 0) -> int:
    """Write an impression log with each review (label 1) and its negatives (label 0), and return its number of rows.

    Columns: `row`, `user_id`, `item_id`, `timestamp`, `label`, and `category`, which is the category of the row's own item.
    Reviews are ordered by time, user and item; the N + 1 rows of a review are adjacent and have the user and the time of
    the review. Repeated reviews count once. Reviews and negatives are held in memory: about 100 bytes per review and 16
    bytes per negative.

    Args:
        connection: a connection with the tables `events` (user_id, item_id, timestamp) and `items` (item_id, category; one
            row per item).
        number: N, at least 1.
        path: the Parquet file to write.
        seed: seed of the random draws.

    Raises:
        InputError: a user has reviewed so many items that fewer than N items are left.
    """
    numbered = "SELECT row_number() OVER (ORDER BY item_id) - 1 AS item, item_id, category FROM items"
    connection.sql(numbered).to_table("catalogue")
    reviews = connection.sql("""
        SELECT row_number() OVER (ORDER BY timestamp, user_id, item_id) - 1 AS review,
            dense_rank() OVER (ORDER BY user_id) - 1 AS user, user_id, item, timestamp
        FROM (SELECT DISTINCT user_id, item_id, timestamp FROM events) JOIN catalogue USING (item_id)
        WHERE user_id IS NOT NULL AND timestamp IS NOT NULL ORDER BY review""").fetch_arrow_table()
    user, item, time = (reviews[name].to_numpy() for name in ("user", "item", "timestamp"))
    negatives = sample_negatives(user, item, time, number, seed)
    negative_lists = pa.FixedSizeListArray.from_arrays(pa.array(negatives.ravel()), number)
    connection.register("sampled", reviews.append_column("negatives", negative_lists))
    rows = connection.sql(f"""
        WITH candidates AS (
            SELECT review, user_id, timestamp, unnest([item] || negatives::BIGINT[]) AS item,
                unnest(range({number + 1})) AS slot
            FROM sampled)
        SELECT review * {number + 1} + slot AS row, user_id, item_id, timestamp, (slot = 0)::TINYINT AS label,
            category
        FROM candidates JOIN catalogue USING (item) ORDER BY row""")
    return save(rows, path, "the reviews")


def sample_negatives(user: np.ndarray, item: np.ndarray, time: np.ndarray, number: int, seed: int = 0) -> np.ndarray:
    """Return the negatives of each row (n, N).

    A negative is the item of a row that is drawn from a window. The window has all rows of the row's own time and, if these
    are fewer than `N * WINDOW`, the next rows; at the end of the log it has the last rows. Rows of one time are in random
    order, so that ids have no influence. A negative is never an item that the user has at any time, and the negatives of a
    row all differ. A negative that breaks these rules is drawn again up to `ROUNDS` times, and then from the whole catalogue
    by popularity.

    Args:
        user: (n,) the user of each row, whole numbers from 0 on.
        item: (n,) the item of each row, whole numbers from 0 on.
        time: (n,) the time of each row.
        number: N.
        seed: seed of the random draws.

    Returns:
        (n, N) items. They depend on the set of rows and the seed, but not on the order of the rows, if all rows differ.

    Raises:
        InputError: a user has so many items that fewer than N items are left.
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((item, user, time))
    order = order[np.lexsort((rng.random(len(order)), time[order]))]
    user, item = user[order].astype(np.int64), item[order].astype(np.int64)
    start, width = _windows(time[order], number * WINDOW)
    histories = _Histories(user, item)
    histories.check(number)
    negatives = np.empty((len(user), number), np.int64)
    for column in range(number):
        pending = np.arange(len(user))
        for _ in range(ROUNDS):
            candidates = item[start[pending] + rng.integers(width[pending])]
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
    """

    def __init__(self, user: np.ndarray, item: np.ndarray) -> None:
        self.catalogue, self.counts = np.unique(item, return_counts=True)
        self.stride = int(item.max(initial=0)) + 1
        self.pairs = np.unique(user * self.stride + item)

    def contain(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return whether each user has the item (m,), for users (m,) and items (m,)."""
        pair = user * self.stride + item
        index = np.searchsorted(self.pairs, pair)
        return self.pairs[np.minimum(index, len(self.pairs) - 1)] == pair

    def draw_other(self, user: int, excluded: np.ndarray, rng: np.random.Generator) -> int:
        """Return an item of the catalogue, drawn by popularity, that the user does not have and that is not excluded."""
        begin, end = np.searchsorted(self.pairs, [user * self.stride, (user + 1) * self.stride])
        unavailable = np.concatenate([self.pairs[begin:end] - user * self.stride, excluded])
        is_left = ~np.isin(self.catalogue, unavailable)
        return int(rng.choice(self.catalogue[is_left], p=self.counts[is_left] / self.counts[is_left].sum()))

    def check(self, number: int) -> None:
        """Raise an error if fewer than `number` items are left for a user."""
        largest_history = int(np.bincount(self.pairs // self.stride).max(initial=0))
        items = len(self.catalogue)
        if items - largest_history < number:
            raise InputError(
                f"a user has {largest_history:,} of the {items:,} items, which leaves fewer than {number} negatives; "
                "use fewer negatives"
            )
