"""The impression log of `lum data NAME --negatives N`: each row of the log is a positive, with sampled negatives.

`openlum.prepare.negatives` has the rule. A schema has it as `impressions_from_events: {negatives: N}`; these data sets have a
file, so that other programs rank the same rows.
"""

from pathlib import Path

import duckdb
import pyarrow as pa

from openlum.prepare.negatives import sample_negatives
from openlum.sources.public.tables import save


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
