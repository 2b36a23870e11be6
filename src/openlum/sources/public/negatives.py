"""Impressions for a log that has only positives: every row of it, and negatives that are sampled to it.

A log of reviews does not say what was shown and passed over. Its rows are ranked among *negatives*: items of other
rows, of the same time or soon after. So a negative is about as popular and as old as a positive is at that moment, and
neither tells the label, as they would if negatives were drawn from the catalogue. No earlier rows are drawn from: the
row that a negative comes from would be part of that item's past, while a positive's own row never is, and items in
fashion would look like negatives. (Amazon's Beauty: the number of an item's reviews in the last 30 days has an AUC of
0.51; with rows from both sides it would be 0.44.) What is left comes of the most popular items, which many users
have and which are drawn twice: they are negatives a little less often.

Negatives are drawn, not shown: figures on them compare methods with each other, and say little about real impressions.

Shapes: n rows, m of them, N negatives of each.
"""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from openlum.errors import InputError
from openlum.sources.public.tables import save

WINDOW = 50
"""So many rows, at least, are drawn from for each of the N negatives."""
ROUNDS = 20
"""So often they are drawn again before the whole catalogue is taken."""


def write_impressions(connection: duckdb.DuckDBPyConnection, number: int, path: Path, seed: int = 0) -> int:
    """Write the log of impressions: each review with label 1, and its negatives with label 0, same user and same time.

    Columns: `row` (reviews in the order of time, user and item; the N + 1 rows of one together), `user_id`, `item_id`,
    `timestamp`, `label`, and `category`, that of the row's own item. Repeated reviews count once. Reviews and negatives
    are held in memory: about 100 bytes a review, and 16 a negative.

    Args:
        connection: with `events` (user_id, item_id, timestamp) and `items` (item_id, category; one row an item).
        number: N, at least 1.
        path: of the Parquet file.
        seed: of the draws.

    Returns:
        The number of rows.

    Raises:
        InputError: a user has reviewed so many items that fewer than N are left.
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
    drawn = pa.FixedSizeListArray.from_arrays(pa.array(negatives.ravel()), number)
    connection.register("drawn", reviews.append_column("negatives", drawn))
    rows = connection.sql(f"""
        WITH shown AS (
            SELECT review, user_id, timestamp, unnest([item] || negatives::BIGINT[]) AS item,
                unnest(range({number + 1})) AS place
            FROM drawn)
        SELECT review * {number + 1} + place AS row, user_id, item_id, timestamp, (place = 0)::TINYINT AS label,
            category
        FROM shown JOIN catalogue USING (item) ORDER BY row""")
    return save(rows, path, "the reviews")


def sample_negatives(user: np.ndarray, item: np.ndarray, time: np.ndarray, number: int, seed: int = 0) -> np.ndarray:
    """Draw the negatives of every row.

    The rule: a negative is the item of a row drawn from all rows of the row's own time, and the next ones where these
    are fewer than `N * WINDOW`; at the end of the log, from the last ones. Rows of one time are in random order, so
    that ids play no part. It is no item that the user has at any time, and no other negative of the same row. What breaks
    this is drawn again, `ROUNDS` times; then it is drawn from the whole catalogue, by popularity.

    Args:
        user: (n,) of each row, whole numbers from 0 on.
        item: (n,) likewise.
        time: (n,).
        number: N.
        seed: of the draws.

    Returns:
        (n, N) items. They depend on the set of rows and the seed; the order of different rows plays no part.

    Raises:
        InputError: a user lacks fewer than N of the items.
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((item, user, time))
    order = order[np.lexsort((rng.random(len(order)), time[order]))]
    user, item = user[order].astype(np.int64), item[order].astype(np.int64)
    start, width = _windows(time[order], number * WINDOW)
    history = _Histories(user, item)
    history.check(number)
    chosen = np.empty((len(user), number), np.int64)
    for place in range(number):
        pending = np.arange(len(user))
        for _ in range(ROUNDS):
            candidates = item[start[pending] + rng.integers(width[pending])]
            taken = history.contain(user[pending], candidates)
            taken |= (chosen[pending, :place] == candidates[:, None]).any(1)
            chosen[pending[~taken], place] = candidates[~taken]
            pending = pending[taken]
        for row in pending:
            chosen[row, place] = history.draw_other(user[row], chosen[row, :place], rng)
    result = np.empty_like(chosen)
    result[order] = chosen
    return result


def _windows(time: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """First row and number of the rows that each one's negatives are drawn from, (n,) both; `time`, (n,), ascends."""
    n = len(time)
    start = np.minimum(np.searchsorted(time, time, "left"), max(n - size, 0))
    return start, np.minimum(np.maximum(np.searchsorted(time, time, "right") - start, size), n - start)


class _Histories:
    """Which items each user has.

    Args:
        user: (n,).
        item: (n,).
    """

    def __init__(self, user: np.ndarray, item: np.ndarray) -> None:
        self.catalogue, self.counts = np.unique(item, return_counts=True)
        self.stride = int(item.max(initial=0)) + 1
        self.pairs = np.unique(user * self.stride + item)

    def contain(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Whether the users, (m,), have the items, (m,)."""
        pair = user * self.stride + item
        place = np.searchsorted(self.pairs, pair)
        return self.pairs[np.minimum(place, len(self.pairs) - 1)] == pair

    def draw_other(self, user: int, chosen: np.ndarray, rng: np.random.Generator) -> int:
        """An item of the catalogue, by popularity, that the user does not have and that is not in `chosen`."""
        begin, end = np.searchsorted(self.pairs, [user * self.stride, (user + 1) * self.stride])
        taken = np.concatenate([self.pairs[begin:end] - user * self.stride, chosen])
        left = ~np.isin(self.catalogue, taken)
        return int(rng.choice(self.catalogue[left], p=self.counts[left] / self.counts[left].sum()))

    def check(self, number: int) -> None:
        """Refuse a user who lacks fewer than `number` items."""
        most, items = int(np.bincount(self.pairs // self.stride).max(initial=0)), len(self.catalogue)
        if items - most < number:
            raise InputError(
                f"a user has {most:,} of the {items:,} items, which leaves fewer than {number} negatives; ask for fewer"
            )
