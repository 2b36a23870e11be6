"""A sparse shop: most users buy a few times, the catalogue is large, and what sells depends on the season.

Items and tastes are those of the marketplace (`world.py`, `users.py`). In each visit, a user considers `CONSIDERED` items
and takes one of them, by a multinomial logit model. The event log has only the items taken. The impression log has the
item taken and a random sample of the other considered items. As the sample does not depend on what they are, the true
probability that an item of such a slate is the one taken is a softmax over the slate alone (McFadden 1978, "Modelling the
choice of residential location").

Shapes: m users who visit in a step, J interests, C considered items, S slots of a slate, D width of the hidden space, R
rows of the impression log.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from openlum.sources.market.draws import DAY, START, different_items, session_times, softmax
from openlum.sources.market.settings import WorldSettings
from openlum.sources.market.slates import Rows, concatenate, log_tables, slate_rows
from openlum.sources.market.users import Population
from openlum.sources.market.world import CATEGORIES, TOPICS, World

INTERESTS = 3
CONSIDERED = 24
SLATE = 5
POPULAR_SHARE = 0.3  # of the considered items; the others are of the user's topics
SEASON = 1.2  # log of the ratio of a category's sales at its peak to its average, about
SPREAD = 1.0  # shape of the gamma distribution of the number of events of a user

# The utility of a considered item.
MATCH = 6.0
QUALITY = 0.5
PRICE_MISFIT = -0.3


@dataclass(frozen=True)
class Shop:
    """Items and seasons: everything that does not depend on a single user."""

    market: World
    """Items, topics and tastes, as in the marketplace."""
    peak: np.ndarray
    """(categories,) day of the year at which each category sells most."""

    @classmethod
    def draw(cls, settings: WorldSettings, rng: np.random.Generator) -> "Shop":
        """Draw a shop with `settings.items` items."""
        return cls(World.draw(settings.items, rng), rng.random(len(CATEGORIES)) * 365)

    def season(self, time: np.ndarray) -> np.ndarray:
        """Return the log weight of each topic at the times (m,) in seconds since 1970: (m, topics)."""
        day = (time - START) / DAY
        phase = 2 * np.pi * (day[:, None] - self.peak) / 365
        category = np.array([topic.category for topic in TOPICS])
        return (SEASON * np.cos(phase))[:, category]


def simulate_chunk(settings: WorldSettings, shop: Shop, first: int) -> dict[str, pa.Table]:
    """Return the tables of the chunk of users that begins at `first`; row and request ids begin at 0."""
    rng = np.random.default_rng([settings.seed, 1, first])
    count = min(settings.users_per_chunk, settings.users - first)
    population = Population.draw(shop.market, count, INTERESTS, rng)
    time, visits = session_times(settings.events_per_user, settings.days, count, rng, SPREAD)
    parts = []
    for step in range(int(visits.max())):
        active = np.flatnonzero(visits > step)
        parts.append(_visit(shop, population, active, time[active, step], rng))
    return log_tables(concatenate(parts), first, condition={}, context={})


def _visit(shop: Shop, population: Population, active: np.ndarray, now: np.ndarray, rng: np.random.Generator) -> Rows:
    """Simulate one visit of each of the users `active` (m,) at the times `now` (m,) and return the rows of its slates."""
    world = shop.market
    m, J = population.topic[active].shape
    season = shop.season(now)  # (m, topics)
    # The topic of each considered item: an interest of the user (by the Gumbel trick), or any topic in proportion to its season.
    weight = np.log(0.75) * np.arange(J) + np.take_along_axis(season, population.topic[active], axis=1)
    interest = (weight[:, None] + rng.gumbel(size=(m, CONSIDERED, J))).argmax(axis=2)
    own = np.take_along_axis(population.topic[active], interest, axis=1)
    cumulative = softmax(season).cumsum(axis=1)
    seasonal = (rng.random((m, CONSIDERED, 1)) >= cumulative[:, None, :-1]).sum(axis=2)
    topic = np.where(rng.random((m, CONSIDERED)) < POPULAR_SHARE, seasonal, own)
    item, is_considered = different_items(world.popular_items(rng, topic), CONSIDERED)
    match = np.einsum("mcd,mjd->mcj", world.vector[item], population.interest[active]).max(axis=2)
    utility = (
        MATCH * match
        + QUALITY * world.quality[item]
        + PRICE_MISFIT * (world.price_level[item] - population.price_level[active][:, None]) ** 2
    )
    utility = np.where(is_considered, utility, -np.inf)
    taken = (utility + rng.gumbel(size=utility.shape)).argmax(axis=1)
    # The slate: the item taken and a random sample of the others, ordered by item.
    score = np.where(is_considered, rng.random(utility.shape), np.inf)
    score[np.arange(m), taken] = -1
    slate = np.sort(np.argsort(score, axis=1, kind="stable")[:, :SLATE], axis=1)
    utility = np.take_along_axis(utility, slate, axis=1)
    return slate_rows(
        np.isfinite(utility),
        user=active,
        time=now,
        item=np.take_along_axis(item, slate, axis=1),
        probability=softmax(utility),
        label=slate == taken[:, None],
    )


SCHEMA = """\
# A simulated sparse shop, for 'lum prepare'. truth.parquet is left out on purpose: it has the true probabilities.
name: shop                        # name of the data set

events:                           # the behaviour log: items that the user took; it has no feedback
  path: events.parquet            # relative to this file
  user: user_id                   # column of the user
  item: item_id                   # column of the item
  time: time                      # column of the time, a timestamp

items:                            # the item table
  path: items.parquet             # relative to this file
  id: item_id                     # column of the item
  title: title                    # a title for people to read
  features:
    category:                     # 24 categories; each sells best in its season
      type: categorical
    brand:                        # the manufacturer
      type: categorical
    price:                        # in the shop's currency
      type: numeric

impressions:                      # the ranker is trained on these: an item taken and items considered in the same visit
  path: impressions.parquet       # relative to this file
  row: row                        # unique id of the impression
  request: request_id             # id of the request: rows that were candidates together
  user: user_id                   # column of the user
  item: item_id                   # column of the item
  time: time                      # column of the time
  label: label                    # 1 = taken

time_fields: [hour, weekday, gap] # time as condition fields
gap_unit: s                       # unit of the gap since the last event: whole seconds

splits:                           # by time, as fractions of the time-ordered events
  valid: 0.8                      # start of the validation period
  test: 0.9                       # start of the test period
"""
