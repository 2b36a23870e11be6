"""Yoochoose: clicks and purchases of half a year of sessions in a web shop, as an event log.

D. Ben-Shimon, A. Tsikinovsky, M. Friedmann, B. Shapira, L. Rokach and J. Hoerle. 2015. RecSys Challenge 2015 and the
YOOCHOOSE Dataset. RecSys '15, 357-358. https://doi.org/10.1145/2792838.2798723. CC BY-NC-ND 4.0, according to its readme:
the files that are written from it must not be passed on. The files have 33,003,944 clicks of 9,249,729 sessions on 52,739 items,
and 1,150,753 purchases. The challenge's test file, whose purchases are not published, is not read.

Definitions:

- an *event* is a click on an item or the purchase of an item. The data set has no user ids, so a session is a user;
- its *condition* is the context of a click (see below), which is known before the click, and the behaviour (`click` or
  `buy`), which is feedback: known only after the event;
- an *impression* is a click;
- its *label* is 1 if the session bought the item at that time or later. This is the task of the challenge: which of the
  clicked items will be bought? The label becomes known at the end of the session, within hours.

The publisher's field `category` is not the item's category but the context of the click: `S` is written as `special
offer`, 1 to 12 as `category N`, any other number as `brand N`; 0 means missing. Purchases have no context. Items have no
features: prices are known for purchased items only, and they change.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from openlum.artefact.directory import whole_directory
from openlum.sources.public.source import PublishedDataset, check_count, locate
from openlum.sources.public.tables import local_duckdb, read_csv, read_parquet, save

PUBLISHED_DATASET = PublishedDataset(
    "yoochoose",
    "https://www.kaggle.com/datasets/chadgostopp/recsys-challenge-2015",
    folder="yoochoose-data",
    size="34 M clicks and purchases of 9 M sessions",
)
PUBLISHED_DATASETS = {PUBLISHED_DATASET.name: PUBLISHED_DATASET}

CLICKS, BUYS = "yoochoose-clicks.dat", "yoochoose-buys.dat"
COUNTS = {"clicks": 33_003_944, "sessions": 9_249_729, "items": 52_739, "purchases": 1_150_753}
"""Counts of the publisher's files. Sessions and items without a click are not counted."""

CLICK_COLUMNS = {"session": "BIGINT", "time": "TIMESTAMP", "item": "BIGINT", "category": "VARCHAR"}
BUY_COLUMNS = {"session": "BIGINT", "time": "TIMESTAMP", "item": "BIGINT", "price": "DOUBLE", "quantity": "BIGINT"}
"""Columns of the files, which have no header."""

CONTEXT = """
    CASE WHEN category = 'S' THEN 'special offer'
         WHEN CAST(category AS BIGINT) = 0 THEN NULL
         WHEN CAST(category AS BIGINT) BETWEEN 1 AND 12 THEN 'category ' || category
         ELSE 'brand ' || category END AS context
"""
EVENTS = """
    SELECT session, time, item, context, 'click' AS behaviour FROM clicks
    UNION ALL
    SELECT session, time, item, NULL, 'buy' FROM buys
"""
IMPRESSIONS = """
    SELECT session, clicks.time, item, context, CAST(coalesce(clicks.time <= last, false) AS UTINYINT) AS bought
    FROM clicks LEFT JOIN (SELECT session, item, max(time) AS last FROM buys GROUP BY ALL) USING (session, item)
    ORDER BY ALL
"""

SCHEMA = """\
# Yoochoose (Ben-Shimon et al. 2015), written by `lum data yoochoose`.

# Name of the data set.
name: yoochoose

# The behaviour log: one row per click, then one row per purchase.
events:
  # Parquet or CSV, relative to this file.
  path: events.parquet
  # Column of the user id: a session is a user.
  user: session
  # Column of the item id.
  item: item
  # Column of the time.
  time: time
  # Unit of the time: milliseconds since 1970.
  time_unit: ms
  # The condition fields of an event.
  condition:
    # The part of the shop in which the item was clicked: `special offer`, `category N` or `brand N`. It is unknown for many
    # clicks and for all purchases.
    context:
      # One id per context.
      type: categorical
      # Contexts with fewer clicks become unknown.
      min_count: 100
    # The action in the session: click or buy.
    behaviour:
      # One id per value.
      type: categorical
      # The user's reaction: unknown when an item is ranked.
      feedback: true

# The impression log: one row per click.
impressions:
  # Parquet or CSV, relative to this file.
  path: impressions.parquet
  # Column of the user id.
  user: session
  # Column of the item id.
  item: item
  # Column of the time.
  time: time
  # Column of the label: 1 if the session bought the item at that time or later.
  label: bought

# Retrieval holds out clicks only, because a purchase repeats an item that was clicked before.
holdout:
  # The condition field that decides which events can be held out.
  field: behaviour
  # Only events with one of these values can be held out.
  values: [click]

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
    """Write Yoochoose as an event log and an impression log, and return the path of their schema.

    Args:
        name: `yoochoose`.
        out: the directory to write; it appears complete or not at all.
        source: a directory with the publisher's `yoochoose-clicks.dat` and `yoochoose-buys.dat`.
        partial: whether to accept fewer rows than were published.
        counts: published numbers of clicks, sessions, items and purchases.
    """
    dataset = PUBLISHED_DATASETS[name]
    with (
        whole_directory(out, "log") as draft,
        TemporaryDirectory(dir=draft) as scratch,
        local_duckdb(Path(scratch)) as connection,
    ):
        files = locate(dataset, [CLICKS, BUYS], source, Path(scratch))
        for view, file, columns, projection in (
            ("clicks", CLICKS, CLICK_COLUMNS, f"session, epoch_ms(time) AS time, item, {CONTEXT}"),
            ("buys", BUYS, BUY_COLUMNS, "session, epoch_ms(time) AS time, item"),
        ):
            table = Path(scratch) / f"{view}.parquet"
            raw = read_csv(connection, [files[file]], columns, header=False, quote="")
            save(raw.project(projection), table, str(files[file]))
            read_parquet(connection, table).create_view(view)
        query = "SELECT count(*), count(DISTINCT session), count(DISTINCT item) FROM clicks"
        for unit, count in zip(("clicks", "sessions", "items"), connection.sql(query).fetchall()[0], strict=True):
            check_count(dataset, CLICKS, unit, count, counts[unit], partial)
        purchases = connection.sql("SELECT count(*) FROM buys").fetchall()[0][0]
        check_count(dataset, BUYS, "purchases", purchases, counts["purchases"], partial)
        for query, table_name in ((EVENTS, "events"), (IMPRESSIONS, "impressions")):
            save(connection.sql(query), draft / f"{table_name}.parquet", f"{CLICKS} and {BUYS}")
        (draft / "schema.yaml").write_text(SCHEMA, encoding="utf-8")
    return Path(out) / "schema.yaml"
