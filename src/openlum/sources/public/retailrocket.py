"""Retailrocket: views, cart additions and purchases of the visitors of a web shop in four and a half months, as an event log.

Roman Zykov, Noskov Artem and Anokhin Alexander. 2022. Retailrocket recommender system dataset. Kaggle.
https://doi.org/10.34740/KAGGLE/DSV/4471234. CC BY-NC-SA 4.0. The publisher states 2,756,101 events (2,664,312 views,
69,332 additions to the cart, 22,457 transactions) of 1,407,580 visitors, and 20,275,902 item properties of 417,053
items; the events are of 235,061 items.

Definitions:

- an *event* is one row of `events.csv`: a visitor views an item, adds it to the cart, or buys it;
- its *condition* is the type of the event (`event`), which is feedback: known only after the event;
- there are no *impressions* and no *labels*: the data set does not record items that were shown but not viewed.

The item table has the category of each item and the categories above it in the shop's tree. Item properties change over
time, and later values would leak the future, so an item has the category of its earliest snapshot. This snapshot may
still be some days later than the item's first event, because the publisher took snapshots weekly. All other properties
are hashed and are left out. About a tenth of the events have items without any properties (`complete: false`).
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from openlum.artefact.directory import whole_directory
from openlum.sources.public.source import PublishedDataset, check_count, locate
from openlum.sources.public.tables import local_duckdb, read_csv, read_parquet, save

PUBLISHED_DATASET = PublishedDataset(
    "retailrocket",
    "https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset",
    size="2.8 M events of 1.4 M visitors",
)
PUBLISHED_DATASETS = {PUBLISHED_DATASET.name: PUBLISHED_DATASET}

EVENTS, TREE = "events.csv", "category_tree.csv"
PROPERTIES = ["item_properties_part1.csv", "item_properties_part2.csv"]

COUNTS = {
    "rows": 2_756_101,
    "visitors": 1_407_580,
    "items with events": 235_061,
    "properties": 20_275_902,
    "items": 417_053,
}
"""Published counts; the properties are those of both files together."""

EVENT_COLUMNS = {
    "timestamp": "BIGINT",
    "visitorid": "BIGINT",
    "event": "ENUM('view', 'addtocart', 'transaction')",
    "itemid": "BIGINT",
}
PROPERTY_COLUMNS = {"timestamp": "BIGINT", "itemid": "BIGINT", "property": "VARCHAR", "value": "VARCHAR"}
TREE_COLUMNS = {"categoryid": "BIGINT", "parentid": "BIGINT"}

ITEMS = """
    WITH RECURSIVE ancestors(category, path, parent) AS (
        SELECT categoryid, [categoryid], parentid FROM tree
        UNION ALL
        SELECT category, list_append(path, categoryid), parentid FROM ancestors JOIN tree ON parent = categoryid
        WHERE NOT list_contains(path, categoryid)
    ),
    paths AS (SELECT category, arg_max(path, len(path)) AS path FROM ancestors GROUP BY category),
    earliest AS (SELECT itemid, arg_min(category, (timestamp, category)) AS category FROM properties GROUP BY itemid)
    SELECT itemid, coalesce(path, CASE WHEN category IS NOT NULL THEN [category] END) AS categories
    FROM earliest LEFT JOIN paths USING (category) ORDER BY itemid
"""
"""Each item with its category in the earliest snapshot that has one, followed by the categories above; none without one."""

SCHEMA = """\
# Retailrocket recommender system dataset (Zykov et al. 2022), written by `lum data retailrocket`.

# Name of the data set.
name: retailrocket

# The behaviour log: one row per view, cart addition or transaction.
events:
  # Parquet or CSV, relative to this file.
  path: events.parquet
  # Column of the user id.
  user: visitorid
  # Column of the item id.
  item: itemid
  # Column of the time.
  time: timestamp
  # Unit of the time: milliseconds since 1970.
  time_unit: ms
  # The condition fields of an event.
  condition:
    # The action of the visitor: view, addtocart or transaction.
    event:
      # One id per value.
      type: categorical
      # The visitor's reaction: unknown when an item is ranked.
      feedback: true

# The item table: one row per item that has properties.
items:
  # Parquet or CSV, relative to this file.
  path: items.parquet
  # Column of the item id.
  id: itemid
  # A tenth of the events have items without properties; these events are kept.
  complete: false
  # The features of an item.
  features:
    # The category in the item's earliest snapshot, and the categories above it up to the root of the shop's tree.
    categories:
      # A list of categories.
      type: multi
      # Largest number of values that are kept per item. The tree is less deep.
      max_values: 8

# Retrieval holds out views only, because a transaction nearly always repeats the item of the view before it.
holdout:
  # The condition field that decides which events can be held out.
  field: event
  # Only events with one of these values can be held out.
  values: [view]

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
    """Write Retailrocket as an event log and an item table, and return the path of their schema.

    Args:
        name: `retailrocket`.
        out: the directory to write; it appears complete or not at all.
        source: a directory with the publisher's `events.csv`, `item_properties_part1.csv`, `item_properties_part2.csv`
            and `category_tree.csv`.
        partial: whether to accept fewer rows than were published.
        counts: published counts, with the keys of `COUNTS`.
    """
    dataset = PUBLISHED_DATASETS[name]
    with (
        whole_directory(out, "log") as draft,
        TemporaryDirectory(dir=draft) as scratch,
        local_duckdb(Path(scratch)) as connection,
    ):

        def check_counts(file: str, actual_counts: Mapping[str, int]) -> None:
            for unit, count in actual_counts.items():
                check_count(dataset, file, unit, count, counts[unit], partial)

        files = locate(dataset, [EVENTS, *PROPERTIES, TREE], source, Path(scratch))
        events, properties = draft / "events.parquet", Path(scratch) / "properties.parquet"
        save(read_csv(connection, [files[EVENTS]], EVENT_COLUMNS), events, str(files[EVENTS]))
        read_parquet(connection, events).create_view("events")
        query = "SELECT count(*), count(DISTINCT visitorid), count(DISTINCT itemid) FROM events"
        actual_counts = connection.sql(query).fetchall()[0]
        check_counts(EVENTS, dict(zip(("rows", "visitors", "items with events"), actual_counts, strict=True)))

        property_files = " and ".join(PROPERTIES)
        raw = read_csv(connection, [files[file] for file in PROPERTIES], PROPERTY_COLUMNS)
        category = "CASE WHEN property = 'categoryid' THEN CAST(value AS BIGINT) END AS category"
        save(raw.project(f"timestamp, itemid, {category}"), properties, property_files)
        read_parquet(connection, properties).create_view("properties")
        actual_counts = connection.sql("SELECT count(*), count(DISTINCT itemid) FROM properties").fetchall()[0]
        check_counts(property_files, dict(zip(("properties", "items"), actual_counts, strict=True)))

        tree = Path(scratch) / "tree.parquet"
        save(read_csv(connection, [files[TREE]], TREE_COLUMNS), tree, str(files[TREE]))
        read_parquet(connection, tree).create_view("tree")
        save(connection.sql(ITEMS), draft / "items.parquet", property_files)
        (draft / "schema.yaml").write_text(SCHEMA, encoding="utf-8")
    return Path(out) / "schema.yaml"
