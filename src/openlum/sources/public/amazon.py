"""Amazon reviews of one category as an event log, from the editions of 2014, 2018 and 2023.

2014: Julian McAuley, Christopher Targett, Qinfeng Shi and Anton van den Hengel. 2015. Image-based Recommendations on Styles
and Substitutes. SIGIR. 2018: Jianmo Ni, Jiacheng Li and Julian McAuley. 2019. Justifying Recommendations using
Distantly-Labeled Reviews and Fine-Grained Aspects. EMNLP. 2023: Yupeng Hou, Jiacheng Li, Zhankui He, An Yan, Xiusi Chen and
Julian McAuley. 2024. Bridging Language and Items for Retrieval and Recommendation. arXiv:2403.03952. The publishers name no
licence; the data are for research.

Names are `amazon-YEAR-CATEGORY`. The category is written as in the publisher's file names (`amazon-2014-CDs_and_Vinyl`) or
in lower case (`amazon-2014-cds_and_vinyl`). The names of 5-core files end in `_5` (`amazon-2018-books_5`).

Definitions:

- an *event* is one review: user, item, time (a day in 2014 and 2018, a millisecond in 2023). In 2023 the item is the
  `parent_asin`, which all variants of a product share;
- the *condition* of an event is the item's category and the rating. The category is the second level of the first path in
  the item's metadata (in Beauty: "Hair Care"). It is known when an impression is ranked, because it is a property of the
  item, so a question may ask for items "in this category". The rating is feedback;
- an *impression* is a review, at the time of the review: the data set does not record which items were shown;
- its *label* is 1 if the rating is 4 or 5.

`--negatives N` is for copies without ratings, or to rank by whether an item is reviewed at all. An impression is then a
review (label 1) or one of N items of other reviews of that time (label 0), see `negatives.py`. Its condition is the
category of its own item.

The item table has titles, categories and brands from the metadata. It has no sales ranks, numbers of ratings, prices or
also-bought lists: they were collected after the last review and would leak the future.

If the directory has an `items.parquet` (`item_id`, `attribute_ids`), it replaces the metadata. The attributes are the item's
categories, and the attribute that most items have is its `category`.

Counts are checked only for the data sets in `COUNTS`.
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

PUBLISHED_DATASETS = {edition.dataset.name: edition.dataset for edition in EDITIONS.values()}

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
"""Counts on which the publisher's page and the publications agree."""

SCHEMA = """\
# Amazon reviews, written by `lum data {name}`.

# Name of the data set.
name: {name}

# The behaviour log: one row per review, in the publisher's order of rows.
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
  # The condition fields of an event.
  condition:
    # The category of the item, which is known when an impression is ranked.
    category:
      # One id per category.
      type: categorical
      # Rarer values become unknown.
      min_count: 5
{rating}
# The item table: one row per item that was reviewed at least once.
items:
  # Parquet or CSV, relative to this file.
  path: items.parquet
  # Column of the item id.
  id: item_id
{title}  # The features of an item.
  features:
    # All categories on the paths of the item.
    categories:
      # A list of categories.
      type: multi
      # Largest number of values that are kept per item.
      max_values: 12
      # Rarer values become unknown.
      min_count: 2
{brand}
{impressions}
# Time fields that are known when a question is asked; none is finer than the recorded time.
time_fields: {time_fields}

# Unit of the gaps between events, which are whole numbers.
gap_unit: {gap_unit}

# The publisher's files repeat some reviews. `lum prepare` rejects repeated rows, up to this part of a table.
max_rejected: 5%

# One global time split: validation and test begin at these fractions of the time-ordered events.
splits:
  # The first 80 % of the events are training.
  valid: 0.8
  # The last 10 % of the events are test.
  test: 0.9
"""

TITLE = """\
  # Column of the title.
  title: title
"""

BRAND = """\
    # The brand of the item; in 2023, the store that sells it.
    brand:
      # One id per brand.
      type: categorical
      # Rarer values become unknown.
      min_count: 2
"""

RATING = """\
    # The rating in stars, 1 to 5.
    rating:
      # One id per value.
      type: categorical
      # The user's reaction: unknown when an item is ranked.
      feedback: true
"""

RULE = """\
# The data set has no impression log: each review becomes an impression, labelled by whether the user liked the item.
impressions_from_events:
  # The condition field that decides the label.
  field: rating
  # The label is 1 if the field is at least this value.
  at_least: 4
"""

NEGATIVES = """\
# Each review has label 1 and {negatives} rows with label 0: items of reviews at the same time or soon after that the user
# has never reviewed. These items were sampled, not shown. The condition of a row is the category of its own item.
impressions:
  # Parquet or CSV, relative to this file.
  path: impressions.parquet
  # Column of the user id.
  user: user_id
  # Column of the item id.
  item: item_id
  # Column of the time of the review, in the unit of the events.
  time: timestamp
  # Column of the label, 0 or 1.
  label: label
  # Column of the row id, because one item may be sampled for two reviews of a user at one time.
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
    """Write the reviews of a category as an event log and an item table, and return the path of their schema.

    Args:
        name: `amazon-YEAR-CATEGORY`, or `amazon-YEAR-CATEGORY_5` for the 5-core.
        out: the directory to write; it appears complete or not at all.
        source: a directory with the publisher's file of reviews (or, for 2014, `ratings_CATEGORY.csv`) and the metadata; by
            default, the files are downloaded.
        partial: whether to accept fewer rows than were published.
        negatives: number of negatives to sample for each review, which are written to an impression log; by default, each
            review is an impression.
        counts: published counts: data set to unit to count.
    """
    _, year, category = name.split("-", 2)
    edition, category = EDITIONS[year], publishers_spelling(category)
    dataset = replace(edition.dataset, name=name)
    source = None if source is None else Path(source)
    with (
        whole_directory(out, "log") as draft,
        tempfile.TemporaryDirectory(dir=draft) as temporary,
        local_duckdb(Path(temporary)) as connection,
    ):
        scratch, item_attributes = Path(temporary), source and find(dataset, "items.parquet", source)
        reviews, metadata = file_names(edition, dataset, category, source)
        files = locate(dataset, [reviews] if item_attributes else [reviews, metadata], source, scratch)
        if files[reviews].suffix == ".csv":
            columns = {"user_id": "VARCHAR", "item_id": "VARCHAR", "rating": "FLOAT", "timestamp": "BIGINT"}
            ratings = read_csv(connection, [files[reviews]], columns, header=False)
            save(ratings, scratch / "reviews.parquet", reviews)
        else:
            write_reviews(edition, files[reviews], scratch / "reviews.parquet")
        if item_attributes:
            items = _items_from_attributes(connection, item_attributes)
            save(items, scratch / "metadata.parquet", str(item_attributes))
        else:
            write_items(edition, files[metadata], scratch / "metadata.parquet")
        actual_counts = _write_tables(connection, scratch, draft)
        for unit, published in counts.get(f"amazon-{year}-{category}", {}).items():
            check_count(dataset, reviews, unit, actual_counts[unit], published, partial)
        if negatives is not None:
            write_impressions(connection, negatives, draft / "impressions.parquet")
        parts = {"title": "" if item_attributes else TITLE, "brand": "" if item_attributes else BRAND}
        parts |= _impression_parts(negatives, actual_counts["ratings"])
        times = {"time_unit": edition.time_unit, "time_fields": edition.time_fields, "gap_unit": edition.gap_unit}
        (draft / "schema.yaml").write_text(SCHEMA.format(name=name, **parts, **times), encoding="utf-8")
    return Path(out) / "schema.yaml"


def _impression_parts(negatives: int | None, ratings: int) -> dict[str, str]:
    """Return the parts of the schema that define an impression; `ratings` is the number of distinct ratings."""
    if negatives is None:
        return {"rating": RATING, "impressions": RULE}
    rating = RATING if ratings > 1 else ""  # a constant rating has no information
    return {"rating": rating, "impressions": NEGATIVES.format(negatives=negatives)}


def _items_from_attributes(connection: duckdb.DuckDBPyConnection, path: Path) -> duckdb.DuckDBPyRelation:
    """Return rows with the columns of `amazon_files.ITEMS` from a table of items with anonymous attributes."""
    try:
        read_parquet(connection, path).project("item_id, attribute_ids").create_view("attributes")
    except duckdb.Error as error:
        raise InputError(
            f"{path}: expected Parquet with item_id and attribute_ids ({error}); correct or remove the file"
        ) from None
    return connection.sql("""
        WITH pairs AS (SELECT item_id, unnest(attribute_ids) AS id FROM attributes),
        sizes AS (SELECT id, count(*) AS items FROM pairs GROUP BY id),
        broadest AS (SELECT item_id, first(id ORDER BY items DESC, id) AS id FROM pairs JOIN sizes USING (id) GROUP BY item_id)
        SELECT item_id::VARCHAR AS item_id, NULL::VARCHAR AS title, NULL::VARCHAR AS brand,
            attribute_ids::VARCHAR[] AS categories, id::VARCHAR AS category
        FROM attributes LEFT JOIN broadest USING (item_id)""")


def _write_tables(connection: duckdb.DuckDBPyConnection, scratch: Path, draft: Path) -> dict[str, int]:
    """Write the event log and the item table, and create the views `events` and `items`.

    Returns:
        The numbers of reviews, users, items and distinct ratings.
    """
    for name in ("reviews", "metadata"):
        read_parquet(connection, scratch / f"{name}.parquet", numbered=True).create_view(name)
    items = connection.sql("""
        SELECT item_id, title, brand, coalesce(categories, []) AS categories, category
        FROM (SELECT DISTINCT item_id FROM reviews)
        LEFT JOIN (SELECT DISTINCT ON (item_id) * FROM metadata ORDER BY item_id, file_row_number) USING (item_id)
        ORDER BY item_id""")
    counts = {"items": save(items, draft / "items.parquet", "the metadata")}
    read_parquet(connection, draft / "items.parquet").create_view("items")
    events = connection.sql("""
        SELECT user_id, item_id, rating, timestamp, category
        FROM reviews LEFT JOIN items USING (item_id) ORDER BY reviews.file_row_number""")
    counts["reviews"] = save(events, draft / "events.parquet", "the reviews")
    read_parquet(connection, draft / "events.parquet").create_view("events")
    distinct = connection.sql("SELECT count(DISTINCT user_id), count(DISTINCT rating) FROM events").fetchall()[0]
    counts["users"], counts["ratings"] = distinct
    return counts
