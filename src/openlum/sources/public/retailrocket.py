"""Retailrocket: what the visitors of a web shop viewed, carted and bought in four and a half months, as an event log.

Roman Zykov, Noskov Artem and Anokhin Alexander. 2022. Retailrocket recommender system dataset. Kaggle.
https://doi.org/10.34740/KAGGLE/DSV/4471234. CC BY-NC-SA 4.0. The publisher states 2,756,101 events (2,664,312 views,
69,332 additions to the cart, 22,457 transactions) of 1,407,580 visitors, and 20,275,902 item properties of 417,053
items; the events are of 235,061 items.

What each thing is here:

- an *event* is one row of `events.csv`: a visitor views an item, puts it into the cart, or buys it;
- its *condition* is which of these (`event`): feedback, known only after;
- there are no *impressions* and no *labels*: what was shown and not opened is not in the data.

The item table has each item's category and the categories above it in the shop's tree. Item properties change in
time; a later one would tell about the future, so an item has the category of its earliest snapshot. Even that one may
be some days younger than the item's first event: the publisher took snapshots weekly. All other properties are
hashed, and are left out. About a tenth of the events are of items that have no properties at all (`complete: false`).
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from openlum.artefact.directory import whole_directory
from openlum.sources.public.source import Publisher, check_count, locate
from openlum.sources.public.tables import local_duckdb, read_csv, read_parquet, save

PUBLISHER = Publisher(
    "retailrocket",
    "https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset",
    size="2.8 M events of 1.4 M visitors",
)
PUBLISHERS = {PUBLISHER.name: PUBLISHER}

EVENTS, TREE = "events.csv", "category_tree.csv"
PROPERTIES = ["item_properties_part1.csv", "item_properties_part2.csv"]

COUNTS = {
    "rows": 2_756_101,
    "visitors": 1_407_580,
    "items with events": 235_061,
    "properties": 20_275_902,
    "items": 417_053,
}
"""As published, the properties of both files together."""

EVENT_COLUMNS = {
    "timestamp": "BIGINT",
    "visitorid": "BIGINT",
    "event": "ENUM('view', 'addtocart', 'transaction')",
    "itemid": "BIGINT",
}
PROPERTY_COLUMNS = {"timestamp": "BIGINT", "itemid": "BIGINT", "property": "VARCHAR", "value": "VARCHAR"}
TREE_COLUMNS = {"categoryid": "BIGINT", "parentid": "BIGINT"}

ITEMS = """
    WITH RECURSIVE climbed(category, path, parent) AS (
        SELECT categoryid, [categoryid], parentid FROM tree
        UNION ALL
        SELECT category, list_append(path, categoryid), parentid FROM climbed JOIN tree ON parent = categoryid
        WHERE NOT list_contains(path, categoryid)
    ),
    lines AS (SELECT category, arg_max(path, len(path)) AS path FROM climbed GROUP BY category),
    first AS (SELECT itemid, arg_min(category, (timestamp, category)) AS category FROM properties GROUP BY itemid)
    SELECT itemid, coalesce(path, CASE WHEN category IS NOT NULL THEN [category] END) AS categories
    FROM first LEFT JOIN lines USING (category) ORDER BY itemid
"""
"""An item's category of the earliest snapshot that has one, then those above it; none where no snapshot has one."""

SCHEMA = """\
# Retailrocket recommender system dataset (Zykov et al. 2022), written by `lum data retailrocket`.

# Name of the data set.
name: retailrocket

# The behaviour log: one row a view, an addition to the cart or a transaction.
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
  # Under what condition the event happened.
  condition:
    # What the visitor did: view, addtocart or transaction.
    event:
      # One id for each.
      type: categorical
      # The visitor's reaction: unknown when an item is ranked.
      feedback: true

# The item table: one row an item that has properties.
items:
  # Parquet or CSV, relative to this file.
  path: items.parquet
  # Column of the item id.
  id: itemid
  # Items of a tenth of the events have no properties: they are kept.
  complete: false
  # What is known of an item.
  features:
    # The category of the item's earliest snapshot, then the categories above it up to the root of the shop's tree.
    categories:
      # A list of categories.
      type: multi
      # The tree is not as deep as this.
      max_values: 8

# Retrieval holds out views only: a transaction nearly always repeats the item viewed just before.
holdout:
  # The condition field that tells.
  field: event
  # Its values that can be held out.
  values: [view]

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
    """Write Retailrocket as an event log, an item table and their schema.

    Args:
        name: `retailrocket`.
        out: the directory to write; it appears whole or not at all.
        source: a directory with the publisher's `events.csv`, `item_properties_part1.csv`, `item_properties_part2.csv`
            and `category_tree.csv`.
        partial: fewer rows than published are accepted.
        counts: the published numbers, with the keys of `COUNTS`.

    Returns:
        The path of the schema, for `lum prepare`.
    """
    publisher = PUBLISHERS[name]
    with (
        whole_directory(out, "log") as draft,
        TemporaryDirectory(dir=draft) as scratch,
        local_duckdb(Path(scratch)) as connection,
    ):

        def check(file: str, found: Mapping[str, int]) -> None:
            for what, number in found.items():
                check_count(publisher, file, what, number, counts[what], partial)

        files = locate(publisher, [EVENTS, *PROPERTIES, TREE], source, Path(scratch))
        events, properties = draft / "events.parquet", Path(scratch) / "properties.parquet"
        save(read_csv(connection, [files[EVENTS]], EVENT_COLUMNS), events, str(files[EVENTS]))
        read_parquet(connection, events).create_view("events")
        of_events = "count(*), count(DISTINCT visitorid), count(DISTINCT itemid)"
        found = connection.sql(f"SELECT {of_events} FROM events").fetchall()[0]
        check(EVENTS, dict(zip(("rows", "visitors", "items with events"), found, strict=True)))

        both = " and ".join(PROPERTIES)
        raw = read_csv(connection, [files[file] for file in PROPERTIES], PROPERTY_COLUMNS)
        category = "CASE WHEN property = 'categoryid' THEN CAST(value AS BIGINT) END AS category"
        save(raw.project(f"timestamp, itemid, {category}"), properties, both)
        read_parquet(connection, properties).create_view("properties")
        found = connection.sql("SELECT count(*), count(DISTINCT itemid) FROM properties").fetchall()[0]
        check(both, dict(zip(("properties", "items"), found, strict=True)))

        tree = Path(scratch) / "tree.parquet"
        save(read_csv(connection, [files[TREE]], TREE_COLUMNS), tree, str(files[TREE]))
        read_parquet(connection, tree).create_view("tree")
        save(connection.sql(ITEMS), draft / "items.parquet", both)
        (draft / "schema.yaml").write_text(SCHEMA, encoding="utf-8")
    return Path(out) / "schema.yaml"
