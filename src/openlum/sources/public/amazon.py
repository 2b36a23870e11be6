"""Amazon reviews of one category, in the forms of 2014, 2018 and 2023, as an event log.

2014: Julian McAuley, Christopher Targett, Qinfeng Shi and Anton van den Hengel. 2015. Image-based Recommendations on Styles
and Substitutes. SIGIR. 2018: Jianmo Ni, Jiacheng Li and Julian McAuley. 2019. Justifying Recommendations using
Distantly-Labeled Reviews and Fine-Grained Aspects. EMNLP. 2023: Yupeng Hou, Jiacheng Li, Zhankui He, An Yan, Xiusi Chen and
Julian McAuley. 2024. Bridging Language and Items for Retrieval and Recommendation. arXiv:2403.03952. The publishers name no
licence; the data are for research.

Names are `amazon-YEAR-CATEGORY`, the category as in the publisher's file names (`amazon-2014-CDs_and_Vinyl`) or in lower case
(`amazon-2014-cds_and_vinyl`); 5-core files have `_5` after it (`amazon-2018-books_5`).

What each thing is here:

- an *event* is one review: user, item, time (a day in 2014 and 2018, a millisecond in 2023). In 2023 the item is the
  `parent_asin`, which the variants of a product share;
- the *condition* of an event is the item's category, and the rating. The category (the second level of the first path in the
  item's metadata: in Beauty, "Hair Care") comes with the item, so it is known when an impression is ranked, and a question
  may ask "in this category". The rating is feedback;
- an *impression* is every review, at its own time: the data set has no record of what was shown;
- its *label* is 1 where the rating is 4 or 5.

With `--negatives N`, for copies without ratings, and to rank what is reviewed at all, an impression is a review, with
label 1, or one of N items of other reviews of that time, with label 0: see `negatives.py`. Its condition is the category
of its own item.

Of the metadata, titles, categories and brands are taken. Sales ranks, numbers of ratings, prices and also-bought lists are
not: they were collected after the last review, and speak of the future of every other one.

An `items.parquet` beside the reviews (`item_id`, `attribute_ids`) is taken in the place of the metadata: the attributes are the
item's categories, and that of them which most items have is its `category`.

Counts are checked only where `COUNTS` has them.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import duckdb

from openlum.artefact.directory import whole_directory
from openlum.errors import InputError
from openlum.sources.public.amazon_files import EDITIONS, file_names, publishers_spelling, write_items, write_reviews
from openlum.sources.public.negatives import write_impressions
from openlum.sources.public.source import check_count, find, locate
from openlum.sources.public.tables import local_duckdb, read_csv, read_parquet, save

PUBLISHERS = {edition.publisher.name: edition.publisher for edition in EDITIONS.values()}

COUNTS: dict[str, dict[str, int]] = {
    "amazon-2014-Beauty": {"reviews": 2_023_070},
    "amazon-2014-Beauty_5": {"reviews": 198_502, "users": 22_363, "items": 12_101},
    "amazon-2014-Books_5": {"reviews": 8_898_041},
    "amazon-2014-Electronics_5": {"reviews": 1_689_188, "users": 192_403, "items": 63_001},
    "amazon-2014-Movies_and_TV_5": {"reviews": 1_697_533},
    "amazon-2014-CDs_and_Vinyl_5": {"reviews": 1_097_592},
    "amazon-2014-Sports_and_Outdoors_5": {"reviews": 296_337, "users": 35_598, "items": 18_357},
    "amazon-2014-Toys_and_Games_5": {"reviews": 167_597, "users": 19_412, "items": 11_924},
    "amazon-2014-Video_Games_5": {"reviews": 231_780, "users": 24_303, "items": 10_672},
}
"""What the publisher's page and the publications count, where they agree."""

SCHEMA = """\
# Amazon reviews, written by `lum data {name}`.

# Name of the data set.
name: {name}

# The behaviour log: one row a review, in the publisher's order of rows.
events:
  # Parquet or CSV, relative to this file.
  path: events.parquet
  # Column of the user id.
  user: user_id
  # Column of the item id.
  item: item_id
  # Column of the time.
  time: timestamp
  # Unit of the time since 1970.
  time_unit: {time_unit}
  # Under what condition the event happened.
  condition:
    # The category of the item: it comes with the item, so it is known when an impression is ranked.
    category:
      # One id a category.
      type: categorical
      # Rarer ones are unknown.
      min_count: 5
{rating}
# The item table: one row an item that was reviewed at least once.
items:
  # Parquet or CSV, relative to this file.
  path: items.parquet
  # Column of the item id.
  id: item_id
{title}  # What is known of an item.
  features:
    # All categories on its paths.
    categories:
      # A list of categories.
      type: multi
      # Values of an item that are kept.
      max_values: 12
      # Rarer ones are unknown.
      min_count: 2
{brand}
{impressions}
# Time known when a question is asked: nothing finer than what the publisher recorded.
time_fields: {time_fields}

# Gaps between events are counted in whole units of this.
gap_unit: {gap_unit}

# The publisher's files repeat some reviews; repetitions are refused. At most this part of the rows.
max_rejected: 5%

# One global time split: validation and test begin at these fractions of the time-ordered events.
splits:
  # The first 80 % of the events are training.
  valid: 0.8
  # The last 10 % are test.
  test: 0.9
"""

TITLE = """\
  # Column of a title for people to read.
  title: title
"""

BRAND = """\
    # Its brand; in 2023, the store that sells it.
    brand:
      # One id a brand.
      type: categorical
      # Rarer ones are unknown.
      min_count: 2
"""

RATING = """\
    # The stars that the user gave, 1 to 5.
    rating:
      # One id a value.
      type: categorical
      # The user's reaction: unknown when an item is ranked.
      feedback: true
"""

RULE = """\
# There is no log of impressions: every review is one, and its label says whether the user liked the item.
impressions_from_events:
  # The condition field that makes the label.
  field: rating
  # The label is 1 where the field is at least this.
  at_least: 4
"""

NEGATIVES = """\
# Every review with label 1, and to each {negatives} rows with label 0: items of reviews of the same time or soon after,
# none that the user has reviewed. They were drawn, not shown. The condition of a row is the category of its own item.
impressions:
  # Parquet or CSV, relative to this file.
  path: impressions.parquet
  # Column of the user id.
  user: user_id
  # Column of the item id.
  item: item_id
  # Column of the time, in the unit of the events: that of the review.
  time: timestamp
  # Column of the label, 0 or 1.
  label: label
  # Column of the row's number; one item may be drawn for two reviews of a user at one time.
  row: row
"""


def write(
    name: str,
    out: Path,
    source: Path | None = None,
    partial: bool = False,
    negatives: int | None = None,
    counts: Mapping[str, Mapping[str, int]] = COUNTS,
) -> Path:
    """Write the reviews of a category as an event log, an item table and their schema.

    Args:
        name: `amazon-YEAR-CATEGORY`, or `amazon-YEAR-CATEGORY_5` for the 5-core.
        out: the directory to write; it appears whole or not at all.
        source: a directory with the publisher's file of reviews (or, in 2014, `ratings_CATEGORY.csv`) and the metadata; by
            default they are downloaded.
        partial: fewer rows than the publisher counts are accepted.
        negatives: sampled to each review, in a log of impressions; by default every review is an impression.
        counts: of data sets, by what is counted.

    Returns:
        The path of the schema, for `lum prepare`.
    """
    _, year, category = name.split("-", 2)
    edition, category = EDITIONS[year], publishers_spelling(category)
    publisher = replace(edition.publisher, name=name)
    source = None if source is None else Path(source)
    with (
        whole_directory(out, "log") as draft,
        tempfile.TemporaryDirectory(dir=draft) as temporary,
        local_duckdb(Path(temporary)) as connection,
    ):
        scratch, table = Path(temporary), source and find(publisher, "items.parquet", source)
        reviews, metadata = file_names(edition, publisher, category, source)
        files = locate(publisher, [reviews] if table else [reviews, metadata], source, scratch)
        if files[reviews].suffix == ".csv":
            columns = {"user_id": "VARCHAR", "item_id": "VARCHAR", "rating": "FLOAT", "timestamp": "BIGINT"}
            ratings = read_csv(connection, [files[reviews]], columns, header=False)
            save(ratings, scratch / "reviews.parquet", reviews)
        else:
            write_reviews(edition, files[reviews], scratch / "reviews.parquet")
        if table:
            save(_attributes(connection, table), scratch / "described.parquet", str(table))
        else:
            write_items(edition, files[metadata], scratch / "described.parquet")
        found = _join(connection, scratch, draft)
        for what, number in counts.get(f"amazon-{year}-{category}", {}).items():
            check_count(publisher, reviews, what, found[what], number, partial)
        if negatives is not None:
            write_impressions(connection, negatives, draft / "impressions.parquet")
        parts = {"title": "" if table else TITLE, "brand": "" if table else BRAND}
        parts |= _impressions(negatives, found["ratings"])
        shape = {"time_unit": edition.time_unit, "time_fields": edition.time_fields, "gap_unit": edition.gap_unit}
        (draft / "schema.yaml").write_text(SCHEMA.format(name=name, **parts, **shape), encoding="utf-8")
    return Path(out) / "schema.yaml"


def _impressions(negatives: int | None, ratings: int) -> dict[str, str]:
    """The parts of the schema that say what an impression is; `ratings` is the number of different ones."""
    if negatives is None:
        return {"rating": RATING, "impressions": RULE}
    rating = RATING if ratings > 1 else ""  # a feedback that never varies says nothing
    return {"rating": rating, "impressions": NEGATIVES.format(negatives=negatives)}


def _attributes(connection: duckdb.DuckDBPyConnection, path: Path) -> duckdb.DuckDBPyRelation:
    """The rows of `amazon_files.ITEMS` from a table of items with anonymous attributes."""
    try:
        read_parquet(connection, path).project("item_id, attribute_ids").create_view("attributes")
    except duckdb.Error as error:
        raise InputError(
            f"{path}: expected Parquet with item_id and attribute_ids ({error}); mend or remove it"
        ) from None
    return connection.sql("""
        WITH pairs AS (SELECT item_id, unnest(attribute_ids) AS id FROM attributes),
        sizes AS (SELECT id, count(*) AS items FROM pairs GROUP BY id),
        broadest AS (SELECT item_id, first(id ORDER BY items DESC, id) AS id FROM pairs JOIN sizes USING (id) GROUP BY item_id)
        SELECT item_id::VARCHAR AS item_id, NULL::VARCHAR AS title, NULL::VARCHAR AS brand,
            attribute_ids::VARCHAR[] AS categories, id::VARCHAR AS category
        FROM attributes LEFT JOIN broadest USING (item_id)""")


def _join(connection: duckdb.DuckDBPyConnection, scratch: Path, draft: Path) -> dict[str, int]:
    """Write the event log and the item table; both become views too.

    Returns:
        The numbers of reviews, users and items, and of different ratings.
    """
    for name in ("reviews", "described"):
        read_parquet(connection, scratch / f"{name}.parquet", numbered=True).create_view(name)
    items = connection.sql("""
        SELECT item_id, title, brand, coalesce(categories, []) AS categories, category
        FROM (SELECT DISTINCT item_id FROM reviews)
        LEFT JOIN (SELECT DISTINCT ON (item_id) * FROM described ORDER BY item_id, file_row_number) USING (item_id)
        ORDER BY item_id""")
    found = {"items": save(items, draft / "items.parquet", "the metadata")}
    read_parquet(connection, draft / "items.parquet").create_view("items")
    events = connection.sql("""
        SELECT user_id, item_id, rating, timestamp, category
        FROM reviews LEFT JOIN items USING (item_id) ORDER BY reviews.file_row_number""")
    found["reviews"] = save(events, draft / "events.parquet", "the reviews")
    read_parquet(connection, draft / "events.parquet").create_view("events")
    distinct = connection.sql("SELECT count(DISTINCT user_id), count(DISTINCT rating) FROM events").fetchall()[0]
    found["users"], found["ratings"] = distinct
    return found
