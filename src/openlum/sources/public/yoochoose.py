"""Yoochoose: half a year of sessions in a web shop, their clicks and purchases, as an event log.

D. Ben-Shimon, A. Tsikinovsky, M. Friedmann, B. Shapira, L. Rokach and J. Hoerle. 2015. RecSys Challenge 2015 and the
YOOCHOOSE Dataset. RecSys '15, 357-358. https://doi.org/10.1145/2792838.2798723. CC BY-NC-ND 4.0, as its readme says:
what is written from it must not be passed on. The files have 33,003,944 clicks of 9,249,729 sessions on 52,739 items,
and 1,150,753 purchases. The challenge's test file, whose purchases are not published, is not read.

What each thing is here:

- an *event* is a click on an item or the purchase of one. The data set knows no users: a session is a user;
- its *condition* is the context of a click, known before the click: see below; and the behaviour, `click` or `buy`,
  which is feedback: known only after;
- an *impression* is every click;
- its *label* is 1 where the session bought the item at that moment or later, which was the challenge's task: which of
  the clicked items will be bought? It becomes known at the end of the session, within hours.

The publisher's field `category` is not the item's category but the context of the click: `S` is written as `special
offer`, 1 to 12 as `category N`, any other number as `brand N`; 0 is missing. Purchases have no context. Items have
nothing but their id: prices are known of bought items only, and change.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from openlum.artefact.directory import whole_directory
from openlum.sources.public.source import Publisher, check_count, locate
from openlum.sources.public.tables import local_duckdb, read_csv, read_parquet, save

PUBLISHER = Publisher(
    "yoochoose",
    "https://www.kaggle.com/datasets/chadgostopp/recsys-challenge-2015",
    folder="yoochoose-data",
    size="34 M clicks and purchases of 9 M sessions",
)
PUBLISHERS = {PUBLISHER.name: PUBLISHER}

CLICKS, BUYS = "yoochoose-clicks.dat", "yoochoose-buys.dat"
COUNTS = {"clicks": 33_003_944, "sessions": 9_249_729, "items": 52_739, "purchases": 1_150_753}
"""Of the publisher's files; sessions and items are those with clicks."""

CLICK_COLUMNS = {"session": "BIGINT", "time": "TIMESTAMP", "item": "BIGINT", "category": "VARCHAR"}
BUY_COLUMNS = {"session": "BIGINT", "time": "TIMESTAMP", "item": "BIGINT", "price": "DOUBLE", "quantity": "BIGINT"}
"""The files have no header."""

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

# The behaviour log: one row a click, then one row a purchase.
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
  # Under what condition the event happened.
  condition:
    # Where in the shop the item was clicked: `special offer`, `category N` or `brand N`. Unknown for many clicks,
    # and for purchases.
    context:
      # One id a context,
      type: categorical
      # where at least this many clicks have it.
      min_count: 100
    # What the session did: click or buy.
    behaviour:
      # One id for each.
      type: categorical
      # The reaction: unknown when an item is ranked.
      feedback: true

# The impression log: one row a click.
impressions:
  # Parquet or CSV, relative to this file.
  path: impressions.parquet
  # Column of the user id.
  user: session
  # Column of the item id.
  item: item
  # Column of the time.
  time: time
  # Column of the label: 1 where the session bought the item then or later.
  label: bought

# Retrieval holds out clicks only: a purchase repeats an item clicked before.
holdout:
  # The condition field that tells.
  field: behaviour
  # Its values that can be held out.
  values: [click]

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
    """Write Yoochoose as an event log, an impression log and their schema.

    Args:
        name: `yoochoose`.
        out: the directory to write; it appears whole or not at all.
        source: a directory with the publisher's `yoochoose-clicks.dat` and `yoochoose-buys.dat`.
        partial: fewer rows than published are accepted.
        counts: the published numbers of clicks, sessions, items and purchases.

    Returns:
        The path of the schema, for `lum prepare`.
    """
    publisher = PUBLISHERS[name]
    with (
        whole_directory(out, "log") as draft,
        TemporaryDirectory(dir=draft) as scratch,
        local_duckdb(Path(scratch)) as connection,
    ):
        files = locate(publisher, [CLICKS, BUYS], source, Path(scratch))
        for view, file, columns, picked in (
            ("clicks", CLICKS, CLICK_COLUMNS, f"session, epoch_ms(time) AS time, item, {CONTEXT}"),
            ("buys", BUYS, BUY_COLUMNS, "session, epoch_ms(time) AS time, item"),
        ):
            table = Path(scratch) / f"{view}.parquet"
            raw = read_csv(connection, [files[file]], columns, header=False, quote="")
            save(raw.project(picked), table, str(files[file]))
            read_parquet(connection, table).create_view(view)
        found = connection.sql("SELECT count(*), count(DISTINCT session), count(DISTINCT item) FROM clicks").fetchall()
        for what, number in zip(("clicks", "sessions", "items"), found[0], strict=True):
            check_count(publisher, CLICKS, what, number, counts[what], partial)
        bought = connection.sql("SELECT count(*) FROM buys").fetchall()[0][0]
        check_count(publisher, BUYS, "purchases", bought, counts["purchases"], partial)
        for query, table_name in ((EVENTS, "events"), (IMPRESSIONS, "impressions")):
            save(connection.sql(query), draft / f"{table_name}.parquet", f"{CLICKS} and {BUYS}")
        (draft / "schema.yaml").write_text(SCHEMA, encoding="utf-8")
    return Path(out) / "schema.yaml"
