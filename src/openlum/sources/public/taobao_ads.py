"""Taobao ad display: eight days of ads shown to 1.14 million users and their clicks, as an event log.

Alibaba. 2018. Ad Display/Click Data on Taobao.com. Tianchi, https://tianchi.aliyun.com/dataset/56, behind a login;
the terms are on the page. The publisher's files have 26,557,961 exposures (6 to 13 May 2017, Beijing time), 846,811
ads and the profiles of 1,061,768 users.

Definitions:

- an *event* is one ad shown to a user (`raw_sample.csv`), clicked or not;
- its *condition* is the position of the ad (`pid`), which is the scenario and known before the event, and the click
  (`clk`), which is feedback: known only after the event;
- an *impression* is an event;
- its *label* is 1 if the ad was clicked.

The data set has a second log, `behavior_log.csv`: 723,268,134 views, favourites, cart additions and purchases of the
same users. It is not read. Its rows have a category and a brand but no item, so they cannot be events of ads.

Some users have no profile. All ads have features. The brand `NULL` is read as missing.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from openlum.artefact.directory import whole_directory
from openlum.errors import InputError
from openlum.sources.public.source import PublishedDataset, check_count, locate
from openlum.sources.public.tables import local_duckdb, read_csv, read_parquet, save

PUBLISHED_DATASET = PublishedDataset(
    "taobao-ads", "https://tianchi.aliyun.com/dataset/56", size="27 M ads shown to 1 M users"
)
PUBLISHED_DATASETS = {PUBLISHED_DATASET.name: PUBLISHED_DATASET}

COUNTS = {"raw_sample.csv": 26_557_961, "ad_feature.csv": 846_811, "user_profile.csv": 1_061_768}
"""The publisher's files and their published numbers of rows."""

COLUMNS = {
    "raw_sample.csv": {
        "user": "BIGINT",
        "time_stamp": "BIGINT",
        "adgroup_id": "BIGINT",
        "pid": "VARCHAR",
        "nonclk": "UTINYINT",
        "clk": "UTINYINT",
    },
    "ad_feature.csv": {
        "adgroup_id": "BIGINT",
        "cate_id": "BIGINT",
        "campaign_id": "BIGINT",
        "customer": "BIGINT",
        "brand": "VARCHAR",
        "price": "DOUBLE",
    },
    "user_profile.csv": {
        "userid": "BIGINT",
        "cms_segid": "BIGINT",
        "cms_group_id": "BIGINT",
        "final_gender_code": "BIGINT",
        "age_level": "BIGINT",
        "pvalue_level": "BIGINT",
        "shopping_level": "BIGINT",
        "occupation": "BIGINT",
        "new_user_class_level ": "BIGINT",  # the publisher's header ends in a space
    },
}

TABLES = {
    "raw_sample.csv": ("events.parquet", "*"),
    "ad_feature.csv": ("items.parquet", "* REPLACE (CAST(nullif(brand, 'NULL') AS BIGINT) AS brand)"),
    "user_profile.csv": ("users.parquet", '* RENAME ("new_user_class_level " AS new_user_class_level)'),
}
"""File to its table and the columns to select."""

SCHEMA = """\
# Ad Display/Click Data on Taobao.com (Alibaba 2018), written by `lum data taobao-ads`.

# Name of the data set.
name: taobao-ads

# The behaviour log: one row per ad shown to a user.
events:
  # Parquet or CSV, relative to this file.
  path: events.parquet
  # Column of the user id.
  user: user
  # Column of the item id.
  item: adgroup_id
  # Column of the time.
  time: time_stamp
  # Unit of the time: seconds since 1970.
  time_unit: s
  # The condition fields of an event.
  condition:
    # The scenario: the position of the ad on the page.
    pid:
      # One id per position.
      type: categorical
    # 1 if the user clicked, else 0.
    clk:
      # One id per value.
      type: categorical
      # The user's reaction: unknown when an ad is ranked.
      feedback: true

# The item table: one row per ad.
items:
  # Parquet or CSV, relative to this file.
  path: items.parquet
  # Column of the item id.
  id: adgroup_id
  # The features of an ad.
  features:
    # The category of the advertised product.
    cate_id:
      # One id per category.
      type: categorical
    # The brand of the advertised product; many ads have none.
    brand:
      # One id per brand.
      type: categorical
      # Brands with fewer ads become unknown.
      min_count: 2
    # The advertiser, one of hundreds of thousands.
    customer:
      # One id per hash value.
      type: categorical
      # Number of hash values.
      hash_rows: 50000
    # The advertiser's campaign, one of hundreds of thousands.
    campaign_id:
      # One id per hash value.
      type: categorical
      # Number of hash values.
      hash_rows: 50000
    # The price of the advertised product. A few prices are unrealistically high.
    price:
      # One id per bucket.
      type: numeric
      # Number of buckets, with equally many ads in each.
      buckets: 50

# The user table: one row per user with a profile. Some users have none.
users:
  # Parquet or CSV, relative to this file.
  path: users.parquet
  # Column of the user id.
  id: userid
  # The features of a user: groups, as the publisher's numbers.
  features:
    # The publisher's micro-group of the user.
    cms_segid:
      # One id per micro-group.
      type: categorical
    # The group of the micro-group.
    cms_group_id:
      # One id per group.
      type: categorical
    # 1: male, 2: female.
    final_gender_code:
      # One id per value.
      type: categorical
    # The age level.
    age_level:
      # One id per level.
      type: categorical
    # The spending level, 1 (low) to 3 (high); missing for many users.
    pvalue_level:
      # One id per level.
      type: categorical
    # The shopping depth, 1 (shallow) to 3 (deep).
    shopping_level:
      # One id per level.
      type: categorical
    # 1 if the user is a college student, else 0.
    occupation:
      # One id per value.
      type: categorical
    # The level of the user's city; missing for many users.
    new_user_class_level:
      # One id per level.
      type: categorical

# Each ad shown becomes an impression.
impressions_from_events:
  # The condition field that decides the label.
  field: clk
  # The label is 1 if the field is at least this value.
  at_least: 1

# Retrieval holds out clicks only.
holdout:
  # The condition field that decides which events can be held out.
  field: clk
  # Only events with one of these values can be held out.
  values: ["1"]

# One global time split: validation and test begin at these fractions of the time-ordered events. The eight days have
# similar numbers of events, so the last day, which the publisher suggests as the test period, is about the last eighth.
splits:
  # Training is about the first six of the eight days.
  valid: 0.75
  # Test is about the last day.
  test: 0.875
"""


def write(
    name: str, out: Path, source: Path | None = None, partial: bool = False, counts: Mapping[str, int] = COUNTS
) -> Path:
    """Write the ads shown on Taobao as an event log, an item table and a user table, and return the path of their schema.

    Args:
        name: `taobao-ads`.
        out: the directory to write; it appears complete or not at all.
        source: a directory with the publisher's `raw_sample.csv`, `ad_feature.csv` and `user_profile.csv`.
        partial: whether to accept fewer rows than were published.
        counts: published number of rows of each file.
    """
    dataset = PUBLISHED_DATASETS[name]
    with (
        whole_directory(out, "log") as draft,
        TemporaryDirectory(dir=draft) as scratch,
        local_duckdb(Path(scratch)) as connection,
    ):
        for file, path in locate(dataset, list(TABLES), source, Path(scratch)).items():
            table, columns = TABLES[file]
            rows = save(read_csv(connection, [path], COLUMNS[file]).project(columns), draft / table, str(path))
            check_count(dataset, file, "rows", rows, counts[file], partial)
            if file == "raw_sample.csv":
                invalid_rows = read_parquet(connection, draft / table).filter("clk + nonclk <> 1").limit(1).fetchall()
                if invalid_rows:
                    raise InputError(
                        f"{path}: expected 1 in one of the columns clk and nonclk and 0 in the other, "
                        f"but found the row {invalid_rows[0]}; get the file again"
                    )
        (draft / "schema.yaml").write_text(SCHEMA, encoding="utf-8")
    return Path(out) / "schema.yaml"
