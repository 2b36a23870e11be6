"""Taobao ad display: eight days of ads shown to 1.14 million users, and whether they were clicked, as an event log.

Alibaba. 2018. Ad Display/Click Data on Taobao.com. Tianchi, https://tianchi.aliyun.com/dataset/56, behind a login;
its terms stand on the page. The publisher's files have 26,557,961 exposures (6 to 13 May 2017, Beijing time), 846,811
ads and the profiles of 1,061,768 users.

What each thing is here:

- an *event* is one ad shown to a user (`raw_sample.csv`), clicked or not;
- its *condition* is the place of the ad (`pid`), the scenario, known before; and whether the user clicked (`clk`),
  which is feedback: known only after;
- an *impression* is every event;
- its *label* is 1 where the ad was clicked.

The data set has a second log, `behavior_log.csv`: 723,268,134 views, favourites, cart additions and purchases of the
same users. Its rows name a category and a brand but no item, so they cannot be events beside those of the ads: they
would need a vocabulary of items that no ad is in. It is not read.

Not every user has a profile; every ad has its features. The brand `NULL` is missing.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from openlum.artefact.directory import whole_directory
from openlum.errors import InputError
from openlum.sources.public.source import Publisher, check_count, locate
from openlum.sources.public.tables import local_duckdb, read_csv, read_parquet, save

PUBLISHER = Publisher("taobao-ads", "https://tianchi.aliyun.com/dataset/56", size="27 M ads shown to 1 M users")
PUBLISHERS = {PUBLISHER.name: PUBLISHER}

COUNTS = {"raw_sample.csv": 26_557_961, "ad_feature.csv": 846_811, "user_profile.csv": 1_061_768}
"""The publisher's files and their rows."""

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
        "new_user_class_level ": "BIGINT",  # the publisher's header ends in a blank
    },
}

TABLES = {
    "raw_sample.csv": ("events.parquet", "*"),
    "ad_feature.csv": ("items.parquet", "* REPLACE (CAST(nullif(brand, 'NULL') AS BIGINT) AS brand)"),
    "user_profile.csv": ("users.parquet", '* RENAME ("new_user_class_level " AS new_user_class_level)'),
}
"""File to the table made of it, and the columns to select."""

SCHEMA = """\
# Ad Display/Click Data on Taobao.com (Alibaba 2018), written by `lum data taobao-ads`.

# Name of the data set.
name: taobao-ads

# The behaviour log: one row an ad shown to a user.
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
  # Under what condition the event happened.
  condition:
    # The scenario: the place on the page where the ad stood.
    pid:
      # One id a place.
      type: categorical
    # 1 where the user clicked, else 0.
    clk:
      # One id for each.
      type: categorical
      # The user's reaction: unknown when an ad is ranked.
      feedback: true

# The item table: one row an ad.
items:
  # Parquet or CSV, relative to this file.
  path: items.parquet
  # Column of the item id.
  id: adgroup_id
  # What is known of an ad.
  features:
    # Category of what is advertised.
    cate_id:
      # One id a category.
      type: categorical
    # Brand of what is advertised; many ads have none.
    brand:
      # One id a brand,
      type: categorical
      # where at least this many ads have it.
      min_count: 2
    # The advertiser.
    customer:
      # Hundreds of thousands of them:
      type: categorical
      # hashed to this many ids.
      hash_rows: 50000
    # The advertiser's campaign.
    campaign_id:
      # Hundreds of thousands of them:
      type: categorical
      # hashed to this many ids.
      hash_rows: 50000
    # Price of what is advertised. A few are absurdly high.
    price:
      # A number,
      type: numeric
      # cut into this many buckets of equally many ads.
      buckets: 50

# The user table: one row a user with a profile. Some users have none.
users:
  # Parquet or CSV, relative to this file.
  path: users.parquet
  # Column of the user id.
  id: userid
  # What is known of a user: groups by the publisher's numbers.
  features:
    # The publisher's micro-group of the user.
    cms_segid:
      # One id a micro-group.
      type: categorical
    # The group that the micro-group is in.
    cms_group_id:
      # One id a group.
      type: categorical
    # 1: male, 2: female.
    final_gender_code:
      # One id for each.
      type: categorical
    # Level of age.
    age_level:
      # One id a level.
      type: categorical
    # Level of spending, 1 (low) to 3 (high); missing for many.
    pvalue_level:
      # One id a level.
      type: categorical
    # Depth of shopping, 1 (shallow) to 3 (deep).
    shopping_level:
      # One id a level.
      type: categorical
    # 1 where the user is a college student, else 0.
    occupation:
      # One id for each.
      type: categorical
    # Level of the user's city; missing for many.
    new_user_class_level:
      # One id a level.
      type: categorical

# Every ad shown is an impression.
impressions_from_events:
  # The condition field that makes the label.
  field: clk
  # The label is 1 where the field is at least this.
  at_least: 1

# Retrieval holds out clicks only.
holdout:
  # The condition field that tells.
  field: clk
  # Its values that can be held out.
  values: ["1"]

# One global time split: validation and test begin at these fractions of the time-ordered events. The eight days are alike,
# so the last day, which the publisher suggests as the test, is about the last eighth.
splits:
  # The first six of eight days, about.
  valid: 0.75
  # The last day, about.
  test: 0.875
"""


def write(
    name: str, out: Path, source: Path | None = None, partial: bool = False, counts: Mapping[str, int] = COUNTS
) -> Path:
    """Write the ads shown on Taobao as an event log, an item table, a user table and their schema.

    Args:
        name: `taobao-ads`.
        out: the directory to write; it appears whole or not at all.
        source: a directory with the publisher's `raw_sample.csv`, `ad_feature.csv` and `user_profile.csv`.
        partial: fewer rows than published are accepted.
        counts: the published number of rows of each file.

    Returns:
        The path of the schema, for `lum prepare`.
    """
    publisher = PUBLISHERS[name]
    with (
        whole_directory(out, "log") as draft,
        TemporaryDirectory(dir=draft) as scratch,
        local_duckdb(Path(scratch)) as connection,
    ):
        for file, path in locate(publisher, list(TABLES), source, Path(scratch)).items():
            table, columns = TABLES[file]
            rows = save(read_csv(connection, [path], COLUMNS[file]).project(columns), draft / table, str(path))
            check_count(publisher, file, "rows", rows, counts[file], partial)
            if file == "raw_sample.csv":
                odd = read_parquet(connection, draft / table).filter("clk + nonclk <> 1").limit(1).fetchall()
                if odd:
                    raise InputError(f"{path}: in one of clk and nonclk must stand 1, in the other 0; found {odd[0]}")
        (draft / "schema.yaml").write_text(SCHEMA, encoding="utf-8")
    return Path(out) / "schema.yaml"
