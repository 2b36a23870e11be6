"""Taobao UserBehavior: nine days of what a million users viewed, carted, marked and bought, as an event log.

H. Zhu, X. Li, P. Zhang, G. Li, J. He, H. Li and K. Gai. 2018. Learning Tree-based Deep Model for Recommender Systems.
KDD '18, 1079-1088. https://doi.org/10.1145/3219819.3219826. Published by Alibaba on Tianchi, behind a login; its
terms stand on the page. The publisher states 100,150,807 rows, 987,994 users, 4,162,024 items, 9,439 categories, and
the period from 25 November to 3 December 2017, Beijing time.

What each thing is here:

- an *event* is one row: a user does something with an item at a second;
- its *condition* is the item's category, known before, and the behaviour (`pv`: page view, `fav`, `cart`, `buy`),
  which is feedback: known only after;
- there are no *impressions* and no *labels*: what was shown and not opened is not in the data.

55,576 rows (0.06 %) are said to lie outside the publisher's period, some by years. They are written as they are; the
schema gives the period as `earliest` and `latest`, so that `lum prepare` refuses them and counts them.

The item table is made of the events: an item's category is the one that most of its events have, among equals the one
with the smallest id.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from openlum.artefact.directory import whole_directory
from openlum.sources.public.source import Publisher, check_count, locate
from openlum.sources.public.tables import local_duckdb, read_csv, read_parquet, save

PUBLISHER = Publisher("taobao-behavior", "https://tianchi.aliyun.com/dataset/649", size="100 M events of 1 M users")
PUBLISHERS = {PUBLISHER.name: PUBLISHER}

FILE = "UserBehavior.csv"
COLUMNS = {
    "user_id": "BIGINT",
    "item_id": "BIGINT",
    "category_id": "BIGINT",
    "behaviour": "ENUM('pv', 'buy', 'cart', 'fav')",
    "timestamp": "BIGINT",
}
"""The file has no header."""

COUNTS = {"rows": 100_150_807, "users": 987_994, "items": 4_162_024, "categories": 9_439}
"""As published, of the whole file."""

ITEMS = """
    SELECT item_id, arg_max(category_id, (events, -category_id)) AS category_id
    FROM (SELECT item_id, category_id, count(*) AS events FROM events GROUP BY ALL)
    GROUP BY item_id ORDER BY item_id
"""

SCHEMA = """\
# Taobao UserBehavior (Zhu et al. 2018), written by `lum data taobao-behavior`.

# Name of the data set.
name: taobao-behavior

# The behaviour log: one row a view, a favourite, an addition to the cart or a purchase.
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
  # Under what condition the event happened.
  condition:
    # The item's category, which a user browses or searches before meeting an item.
    category:
      # One id a category.
      type: categorical
      # Its column.
      column: category_id
    # What the user did: pv (viewed), fav (marked), cart (put into the cart) or buy.
    behaviour:
      # One id a behaviour.
      type: categorical
      # The user's reaction: unknown when an item is ranked.
      feedback: true

# The item table: one row an item.
items:
  # Parquet or CSV, relative to this file.
  path: items.parquet
  # Column of the item id.
  id: item_id
  # What is known of an item.
  features:
    # Its category; where the log has several, the most frequent one.
    category:
      # One id a category.
      type: categorical
      # Its column.
      column: category_id

# The publisher's period is 25 November to 3 December 2017, Beijing time. The rows outside it are refused:
# before its first second (UTC),
earliest: "2017-11-24T16:00:00"
# and after its last.
latest: "2017-12-03T15:59:59"

# Retrieval holds out views only: a purchase nearly always repeats the item viewed just before.
holdout:
  # The condition field that tells.
  field: behaviour
  # Its values that can be held out.
  values: [pv]

# One global time split: validation and test begin at these fractions of the time-ordered events.
splits:
  # The first 80 % of the events are training.
  valid: 0.8
  # The last 10 % are test.
  test: 0.9
"""


def write(
    name: str, out: Path, source: Path | None = None, partial: bool = False, counts: Mapping[str, int] = COUNTS
) -> Path:
    """Write Taobao UserBehavior as an event log, an item table and their schema.

    Args:
        name: `taobao-behavior`.
        out: the directory to write; it appears whole or not at all.
        source: a directory with the publisher's `UserBehavior.csv`.
        partial: fewer rows than published are accepted.
        counts: the published numbers of rows, users, items and categories.

    Returns:
        The path of the schema, for `lum prepare`.
    """
    publisher = PUBLISHERS[name]
    with (
        whole_directory(out, "log") as draft,
        TemporaryDirectory(dir=draft) as scratch,
        local_duckdb(Path(scratch)) as connection,
    ):
        file = locate(publisher, [FILE], source, Path(scratch))[FILE]
        log = read_csv(connection, [file], COLUMNS, header=False, quote="")
        rows = save(log, draft / "events.parquet", str(file))
        check_count(publisher, FILE, "rows", rows, counts["rows"], partial)
        read_parquet(connection, draft / "events.parquet").create_view("events")
        for what, column in (("users", "user_id"), ("items", "item_id"), ("categories", "category_id")):
            found = connection.sql(f"SELECT count(DISTINCT {column}) FROM events").fetchall()[0][0]
            check_count(publisher, FILE, what, found, counts[what], partial)
        save(connection.sql(ITEMS), draft / "items.parquet", str(file))
        (draft / "schema.yaml").write_text(SCHEMA, encoding="utf-8")
    return Path(out) / "schema.yaml"
