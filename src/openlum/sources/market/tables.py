"""The tables of the simulated marketplace, and the schema that describes them."""

from typing import Any

import numpy as np
import pyarrow as pa

from openlum.sources.market.users import SCENARIOS, Slates
from openlum.sources.market.world import AGE_GROUPS, BRANDS, CATEGORIES, CITIES, TOPICS, World


def log_tables(slates: Slates, first_user: int) -> dict[str, pa.Table]:
    """Return events, impressions and true click probabilities of one chunk of users; row ids begin at 0."""
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
    impressions = {"row": row} | common | {"position": slates.position, "label": slates.label.astype(np.int8)}
    return {
        "events": pa.table(common | {"feedback": feedback}),
        "impressions": pa.table(impressions),
        "truth": pa.table({"row": row, "probability": slates.probability}),
    }


def item_table(world: World) -> pa.Table:
    """Return the item table, one row per item."""
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
    """Return the user table of a chunk, one row per user."""
    ids = np.arange(first_user + 1, first_user + 1 + len(age))
    return pa.table({"user_id": ids, "age_group": pa.array(AGE_GROUPS).take(age), "city": pa.array(CITIES).take(city)})


SCHEMA = """\
# The simulated marketplace, for 'lum prepare'. truth.parquet is left out on purpose: it has the true click probabilities.
name: market                      # name of the data set

events:                           # the behaviour log: every item shown, with the user's reaction
  path: events.parquet            # relative to this file
  user: user_id                   # column of the user
  item: item_id                   # column of the item
  time: time                      # column of the time, a timestamp
  condition:                      # the circumstances of an event
    scenario:                     # home, search or cart
      type: categorical
    query:                        # the topic that the user searched for; empty outside search
      type: categorical
    feedback:                     # click or skip
      type: categorical
      feedback: true              # the user's reaction: unknown when an impression is ranked

items:                            # the item table
  path: items.parquet             # relative to this file
  id: item_id                     # column of the item
  title: title                    # a title for people to read
  features:
    category:                     # 24 categories of three topics each; only queries and titles name topics
      type: categorical
    brand:                        # the manufacturer
      type: categorical
    price:                        # in the shop's currency
      type: numeric

users:                            # the user table
  path: users.parquet             # relative to this file
  id: user_id                     # column of the user
  features:
    age_group:                    # weakly related to interests and price level
      type: categorical
    city:                         # weakly related to the user's click rate
      type: categorical

impressions:                      # the ranker is trained on these
  path: impressions.parquet       # relative to this file
  row: row                        # unique id of the impression
  user: user_id                   # column of the user
  item: item_id                   # column of the item
  time: time                      # column of the time
  label: label                    # 1 = clicked
  context:                        # further features, known when the impression is ranked
    position:                     # position in the slate, from 1
      type: categorical

time_fields: [hour, weekday, gap] # time as further condition fields
gap_unit: s                       # unit of the gap since the last event: whole seconds

holdout:                          # retrieval holds out the last clicked item
  field: feedback                 # a condition field
  values: [click]                 # only events with these values are held out

splits:                           # by time, as fractions of the time-ordered events
  valid: 0.8                      # start of the validation period
  test: 0.9                       # start of the test period
"""
