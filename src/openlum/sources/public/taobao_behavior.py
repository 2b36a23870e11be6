"""Taobao UserBehavior: nine days of views, cart additions, favourites and purchases of a million users, as an event log.

H. Zhu, X. Li, P. Zhang, G. Li, J. He, H. Li and K. Gai. 2018. Learning Tree-based Deep Model for Recommender Systems.
KDD '18, 1079-1088. https://doi.org/10.1145/3219819.3219826. Published by Alibaba on Tianchi, behind a login; the
terms are on the page. The publisher states 100,150,807 rows, 987,994 users, 4,162,024 items, 9,439 categories, and
the period from 25 November to 3 December 2017, Beijing time.

Definitions:

- an *event* is one row: user, item, time in seconds;
- its *condition* is the item's category, which is known before the event, and the behaviour (`pv`: page view, `fav`,
  `cart`, `buy`), which is feedback: known only after the event;
- there are no *impressions* and no *labels*: the data set does not record items that were shown but not viewed.

Reportedly, 55,576 rows (0.06 %) are outside the publisher's period, some by years. They are written
unchanged. The schema gives the period as `earliest` and `latest`, so `lum prepare` rejects and counts these rows.

The item table is derived from the events: the category of an item is its most frequent category in the events; of equally
frequent categories, the one with the smallest id.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from openlum.artefact.directory import whole_directory
from openlum.sources.public.source import PublishedDataset, check_count, locate
from openlum.sources.public.tables import local_duckdb, read_csv, read_parquet, save

PUBLISHED_DATASET = PublishedDataset(
    "taobao-behavior", "https://tianchi.aliyun.com/dataset/649", size="100 M events of 1 M users"
)
PUBLISHED_DATASETS = {PUBLISHED_DATASET.name: PUBLISHED_DATASET}

FILE = "UserBehavior.csv"
COLUMNS = {
    "user_id": "BIGINT",
    "item_id": "BIGINT",
    "category_id": "BIGINT",
    "behaviour": "ENUM('pv', 'buy', 'cart', 'fav')",
    "timestamp": "BIGINT",
}
"""Columns of the file, which has no header."""

COUNTS = {"rows": 100_150_807, "users": 987_994, "items": 4_162_024, "categories": 9_439}
"""Published counts of the whole file."""

ITEMS = """
    SELECT item_id, arg_max(category_id, (events, -category_id)) AS category_id
    FROM (SELECT item_id, category_id, count(*) AS events FROM events GROUP BY ALL)
    GROUP BY item_id ORDER BY item_id
"""

SCHEMA = """\
# Taobao UserBehavior (Zhu et al. 2018), written by `lum data taobao-behavior`.

# Name of the data set.
name: taobao-behavior

# The behaviour log: one row per view, favourite, cart addition or purchase.
events:
  # Parquet or CSV, relative to this file.
  path: events.parquet
  # Column of the user id.
  user: user_id
  # Column of the item id.
  item: item_id
  # Column of the time.
  time: timestamp
  # Unit of the time: seconds since 1970.
  time_unit: s
  # The condition fields of an event.
  condition:
    # The item's category. It is known before the event, because a user browses or searches a category first.
    category:
      # One id per category.
      type: categorical
      # Column of the field.
      column: category_id
    # The action of the user: pv (page view), fav (favourite), cart (cart addition) or buy.
    behaviour:
      # One id per behaviour.
      type: categorical
      # The user's reaction: unknown when an item is ranked.
      feedback: true

# The item table: one row per item.
items:
  # Parquet or CSV, relative to this file.
  path: items.parquet
  # Column of the item id.
  id: item_id
  # The features of an item.
  features:
    # The category of the item; if the log has several, the most frequent one.
    category:
      # One id per category.
      type: categorical
      # Column of the field.
      column: category_id

# The publisher's period is 25 November to 3 December 2017, Beijing time. Rows outside this period are rejected.
# First second of the period (UTC).
earliest: "2017-11-24T16:00:00"
# Last second of the period (UTC).
latest: "2017-12-03T15:59:59"

# Retrieval holds out views only, because a purchase nearly always repeats the item of the view before it.
holdout:
  # The condition field that decides which events can be held out.
  field: behaviour
  # Only events with one of these values can be held out.
  values: [pv]

# One global time split: validation and test begin at these fractions of the time-ordered events.
splits:
  # The first 80 % of the events are training.
  valid: 0.8
  # The last 10 % of the events are test.
  test: 0.9
"""


def write(
    name: str, out: Path, source: Path | None = None, partial: bool = False, counts: Mapping[str, int] = COUNTS
) -> Path:
    """Write Taobao UserBehavior as an event log and an item table, and return the path of their schema.

    Args:
        name: `taobao-behavior`.
        out: the directory to write; it appears complete or not at all.
        source: a directory with the publisher's `UserBehavior.csv`.
        partial: whether to accept fewer rows than were published.
        counts: published numbers of rows, users, items and categories.
    """
    dataset = PUBLISHED_DATASETS[name]
    with (
        whole_directory(out, "log") as draft,
        TemporaryDirectory(dir=draft) as scratch,
        local_duckdb(Path(scratch)) as connection,
    ):
        file = locate(dataset, [FILE], source, Path(scratch))[FILE]
        log = read_csv(connection, [file], COLUMNS, header=False, quote="")
        rows = save(log, draft / "events.parquet", str(file))
        check_count(dataset, FILE, "rows", rows, counts["rows"], partial)
        read_parquet(connection, draft / "events.parquet").create_view("events")
        for unit, column in (("users", "user_id"), ("items", "item_id"), ("categories", "category_id")):
            count = connection.sql(f"SELECT count(DISTINCT {column}) FROM events").fetchall()[0][0]
            check_count(dataset, FILE, unit, count, counts[unit], partial)
        save(connection.sql(ITEMS), draft / "items.parquet", str(file))
        (draft / "schema.yaml").write_text(SCHEMA, encoding="utf-8")
    return Path(out) / "schema.yaml"
