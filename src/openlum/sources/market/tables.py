"""What the simulated marketplace is written as: its tables, and the schema that describes them."""

from typing import Any

import numpy as np
import pyarrow as pa

from openlum.sources.market.users import SCENARIOS, Slates
from openlum.sources.market.world import AGE_GROUPS, BRANDS, CATEGORIES, CITIES, TOPICS, World


def log_tables(slates: Slates, first_user: int) -> dict[str, pa.Table]:
    """Events, impressions and the truth of one chunk of users; rows are counted from 0."""
    topic_words = pa.array([topic.name for topic in TOPICS])
    row = np.arange(len(slates.user))
    common: dict[str, Any] = {
        "user_id": slates.user + first_user + 1,
        "item_id": slates.item + 1,
        "time": pa.array(slates.time, pa.timestamp("s")),
        "scenario": pa.array(SCENARIOS).take(pa.array(slates.scenario)),
        "query": topic_words.take(pa.array(slates.query, mask=slates.query < 0)),
    }
    feedback = pa.array(["skip", "click"]).take(pa.array(slates.label))
    shown = {"row": row} | common | {"position": slates.position, "label": slates.label.astype(np.int8)}
    return {
        "events": pa.table(common | {"feedback": feedback}),
        "impressions": pa.table(shown),
        "truth": pa.table({"row": row, "probability": slates.probability}),
    }


def item_table(world: World) -> pa.Table:
    """One row an item."""
    count = len(world.topic)
    titles = [
        f"{colour} {BRANDS[brand]} {TOPICS[topic].name} {number}"
        for colour, brand, topic, number in zip(
            world.colour, world.brand, world.topic, range(1, count + 1), strict=True
        )
    ]
    return pa.table(
        {
            "item_id": np.arange(1, count + 1),
            "title": titles,
            "category": [CATEGORIES[TOPICS[topic].category] for topic in world.topic],
            "brand": [BRANDS[brand] for brand in world.brand],
            "price": np.round(world.price, 2),
        }
    )


def user_table(age: np.ndarray, city: np.ndarray, first_user: int) -> pa.Table:
    """One row a user of a chunk."""
    ids = np.arange(first_user + 1, first_user + 1 + len(age))
    return pa.table({"user_id": ids, "age_group": pa.array(AGE_GROUPS).take(age), "city": pa.array(CITIES).take(city)})


SCHEMA = """\
# The simulated marketplace, as 'lum prepare' reads it. truth.parquet is left out on purpose: it holds the answers.
name: market                      # name of the data set

events:                           # the behaviour log: every item shown, with what the user did
  path: events.parquet            # relative to this file
  user: user_id                   # column of the user
  item: item_id                   # column of the item
  time: time                      # column of the time, a timestamp
  condition:                      # under what circumstances an event happened
    scenario:                     # home, search or cart
      type: categorical
    query:                        # what was searched for; empty outside search
      type: categorical
    feedback:                     # click or skip
      type: categorical
      feedback: true              # the user's reaction: not known when an impression is ranked

items:                            # the item table
  path: items.parquet             # relative to this file
  id: item_id                     # column of the item
  title: title                    # for people to read
  features:
    category:                     # 24 categories; each has three topics, which only queries and titles name
      type: categorical
    brand:                        # the maker
      type: categorical
    price:                        # in the shop's currency
      type: numeric

users:                            # the user table
  path: users.parquet             # relative to this file
  id: user_id                     # column of the user
  features:
    age_group:                    # says a little about interests and the price level
      type: categorical
    city:                         # says a little about how often the user clicks
      type: categorical

impressions:                      # what the ranker learns from
  path: impressions.parquet       # relative to this file
  row: row                        # unique id of the impression
  user: user_id                   # column of the user
  item: item_id                   # column of the item
  time: time                      # column of the time
  label: label                    # 1 = clicked
  context:                        # further features, known when the impression is ranked
    position:                     # place in the slate, from 1
      type: categorical

time_fields: [hour, weekday, gap] # time as further condition fields
gap_unit: s                       # the gap since the last event counts whole seconds

holdout:                          # what retrieval holds out: the last clicked item
  field: feedback                 # a condition field
  values: [click]                 # of these values only

splits:                           # by time, as fractions of the events in order of time
  valid: 0.8                      # validation begins here
  test: 0.9                       # the test begins here
"""
