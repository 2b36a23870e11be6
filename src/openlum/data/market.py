"""The simulated marketplace: an event log and an impression log whose true click probabilities are known.

Users have drifting interests that nobody sees (`market_users.py`). They come in sessions, each in one scenario that
pulls some of these interests more than others, and each shows a slate of items. The probability of every click is known
and is written apart, in `truth.parquet`: only evaluation reads it, for the *oracle*, the score that no model can beat.

The log is written user chunk by user chunk, so memory does not grow with it.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from rich.console import Console
from rich.progress import track

from openlum.artefact import whole_directory
from openlum.config import Settings
from openlum.data.market_users import SCENARIOS, Slates, simulate_users
from openlum.data.market_world import AGE_GROUPS, BRANDS, CATEGORIES, CITIES, TOPICS, World


class MarketSettings(Settings):
    """The size and the character of the simulated marketplace."""

    users: int = Field(1000, ge=1)
    """How many users."""
    items: int = Field(1500, ge=100)
    """How many items."""
    sessions: float = Field(15.0, ge=1)
    """Sessions of a user, on average; some users have many more than others."""
    slate: int = Field(8, ge=1, le=50)
    """Items shown in a session, at most."""
    interests: int = Field(3, ge=2, le=20)
    """Interests of a user at any time."""
    days: int = Field(60, ge=2)
    """Length of the log, from 2025-01-01 on."""
    interest_days: float = Field(120.0, gt=0)
    """Days until an interest gives way to another, on average."""
    seed: int = Field(0, ge=0)
    """The same settings give the same files, byte by byte."""
    users_per_chunk: int = Field(500, ge=1)
    """Users simulated and written at a time: what memory is needed for."""


def write_market(settings: MarketSettings, out: str | Path) -> Path:
    """Simulate a marketplace and write its log into a directory, which appears whole or not at all.

    Writes `events.parquet`, `impressions.parquet`, `items.parquet`, `users.parquet`, `schema.yaml`, and `truth.parquet`
    (row id of the impression, true click probability), which the schema does not name.

    Args:
        settings: size, character and seed.
        out: the directory. It is replaced where it exists.

    Returns:
        The schema file, for `lum prepare`.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> write_market(MarketSettings(users=10, items=100, sessions=2), folder + "/market").name
        'schema.yaml'
    """
    world = World.draw(settings.items, np.random.default_rng([settings.seed, 0]))
    starts = range(0, settings.users, settings.users_per_chunk)
    with whole_directory(out) as draft:
        pq.write_table(_item_table(world), draft / "items.parquet")
        (draft / "schema.yaml").write_text(SCHEMA, encoding="utf-8")
        with ExitStack() as stack:
            writers: dict[str, pq.ParquetWriter] = {}
            rows = 0
            for first in track(starts, description="simulating users", console=Console(stderr=True), transient=True):
                count = min(settings.users_per_chunk, settings.users - first)
                crowd, slates = simulate_users(settings, world, count, np.random.default_rng([settings.seed, 1, first]))
                tables = _log_tables(slates, first, rows)
                tables["users"] = _user_table(crowd.age, crowd.city, first)
                for name, table in tables.items():
                    if name not in writers:
                        writers[name] = stack.enter_context(pq.ParquetWriter(draft / f"{name}.parquet", table.schema))
                    writers[name].write_table(table)
                rows += len(slates.user)
    return Path(out) / "schema.yaml"


def _log_tables(slates: Slates, first_user: int, first_row: int) -> dict[str, pa.Table]:
    """Events, impressions and the truth of one chunk of users."""
    topic_words = pa.array([topic.name for topic in TOPICS])
    row = np.arange(first_row, first_row + len(slates.user))
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


def _item_table(world: World) -> pa.Table:
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


def _user_table(age: np.ndarray, city: np.ndarray, first_user: int) -> pa.Table:
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
