"""News: articles that are published along the time line and live for hours.

The exposure and the appeal of an article fall with its age, with a half-life of `HALF_LIFE` hours. A few articles *break*:
some hours after their publication, they are shown and clicked far more often for a while. No field of an article tells
this in advance; only recent clicks do. A request shows a slate of 10 to 20 articles, and each is clicked with a
probability of its own. The event log has only the clicks.

Shapes: V articles, n users of a chunk, m users who have a request in a step, J interests, W latest articles, S slots of a
slate, D width of the content vector, K subcategories.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from openlum.sources.market.draws import DAY, START, session_times
from openlum.sources.market.settings import WorldSettings
from openlum.sources.market.slates import Rows, concatenate, log_tables, slate_rows
from openlum.sources.market.world import WIDTH, direction, unit

_SECTIONS = {
    "politics": ("parliament", "elections", "foreign affairs"),
    "business": ("markets", "companies", "housing"),
    "sport": ("football", "tennis", "cycling"),
    "culture": ("films", "music", "theatre"),
    "science": ("space", "medicine", "climate"),
    "technology": ("phones", "software", "cars"),
    "lifestyle": ("food", "travel", "fashion"),
    "local": ("traffic", "crime", "schools"),
}
CATEGORIES = list(_SECTIONS)
SUBCATEGORIES = [(name, index) for index, names in enumerate(_SECTIONS.values()) for name in names]
PUBLISHERS = ["Courier", "Herald", "Gazette", "Observer", "Tribune", "Chronicle", "Post", "Mirror", "Echo", "Standard"]

INTERESTS = 3
CLICKS_PER_REQUEST = 1.9  # about
SMALLEST_SLATE, LARGEST_SLATE = 10, 20
LATEST = 512
"""Only this many of the latest articles can be shown."""
HALF_LIFE = 5.0
"""Hours in which the heat of an article halves. Clicks halve somewhat faster, because they need exposure and appeal."""
BREAKING_SHARE = 0.05
BREAKING_HEAT = 18.0
BREAKING_HALF_LIFE = 3.0

# Exposure is proportional to heat ** EXPOSURE. The logit of a click is the sum of the other terms.
EXPOSURE = 0.9
INTERCEPT = -3.5
MATCH = 3.6
HEAT = 0.55
QUALITY = 0.3
USER_BIAS = 0.4


@dataclass(frozen=True)
class News:
    """Articles in the order of their publication: everything that does not depend on a single user."""

    published: np.ndarray
    """(V,) int64 seconds since 1970, ascending, from one day before the log begins."""
    breaks: np.ndarray
    """(V,) second at which the article breaks; far in the future for most articles."""
    appeal: np.ndarray
    """(V,) hidden: log of the heat at publication."""
    publisher: np.ndarray
    """(V,) index into `PUBLISHERS`."""
    quality: np.ndarray
    """(publishers,) hidden quality of each publisher."""
    topic: np.ndarray
    """(V,) index into `SUBCATEGORIES`."""
    vector: np.ndarray
    """(V, D) content, near the centre of the topic."""
    centre: np.ndarray
    """(K, D) unit length: centre of each topic, near the centre of its category."""

    @classmethod
    def draw(cls, settings: WorldSettings, rng: np.random.Generator) -> "News":
        """Draw `settings.items` articles."""
        V = settings.items
        category = np.array([category for _, category in SUBCATEGORIES])
        category_centre = unit(rng.normal(size=(len(CATEGORIES), WIDTH)))
        centre = unit(category_centre[category] + 0.7 * direction(rng, (len(SUBCATEGORIES),)))
        published = START - DAY + np.sort(rng.integers((settings.days + 1) * DAY, size=V))
        delay = rng.uniform(0.5, 3.5, V) * 3600
        is_breaking = rng.random(V) < BREAKING_SHARE
        topic = rng.integers(len(SUBCATEGORIES), size=V)
        return cls(
            published=published,
            breaks=np.where(is_breaking, published + delay.astype(np.int64), np.iinfo(np.int64).max // 2),
            appeal=0.7 * rng.normal(size=V),
            publisher=rng.integers(len(PUBLISHERS), size=V),
            quality=rng.normal(size=len(PUBLISHERS)),
            topic=topic,
            vector=unit(centre[topic] + 0.7 * direction(rng, (V,))).astype(np.float32),
            centre=centre.astype(np.float32),
        )

    def log_heat(self, article: np.ndarray, now: np.ndarray) -> np.ndarray:
        """Return the log of the heat of articles (m, W) at the times `now` (m,); -inf before the publication."""
        age = (now[:, None] - self.published[article]) / 3600
        since = np.maximum((now[:, None] - self.breaks[article]) / 3600, 0)
        burst = BREAKING_HEAT * 0.5 ** (since / BREAKING_HALF_LIFE) * (now[:, None] >= self.breaks[article])
        heat = np.exp(self.appeal[article]) * (0.5 ** (np.maximum(age, 0) / HALF_LIFE) + burst)
        return np.where(age >= 0, np.log(heat), -np.inf)


@dataclass(frozen=True)
class Readers:
    """The users of a chunk."""

    bias: np.ndarray
    """(n,) click propensity, a term of the logit."""
    interest: np.ndarray
    """(n, J, D) unit length: each interest, near the centre of a topic."""

    @classmethod
    def draw(cls, news: News, count: int, rng: np.random.Generator) -> "Readers":
        """Return `count` random users."""
        topic = np.argpartition(rng.random((count, len(SUBCATEGORIES))), INTERESTS, axis=1)[:, :INTERESTS]
        interest = unit(news.centre[topic] + 0.4 * direction(rng, topic.shape))
        return cls(bias=USER_BIAS * rng.normal(size=count), interest=interest)


def simulate_chunk(settings: WorldSettings, news: News, first: int) -> dict[str, pa.Table]:
    """Return the tables of the chunk of users that begins at `first`; row and request ids begin at 0."""
    rng = np.random.default_rng([settings.seed, 1, first])
    count = min(settings.users_per_chunk, settings.users - first)
    readers = Readers.draw(news, count, rng)
    requests_per_user = max(settings.events_per_user / CLICKS_PER_REQUEST, 1.0)
    time, requests = session_times(requests_per_user, settings.days, count, rng)
    parts = []
    for step in range(int(requests.max())):
        active = np.flatnonzero(requests > step)
        parts.append(_request(news, readers, active, time[active, step], rng))
    return log_tables(concatenate(parts), first, condition={}, context={})


def _request(news: News, readers: Readers, active: np.ndarray, now: np.ndarray, rng: np.random.Generator) -> Rows:
    """Simulate one request of each of the users `active` (m,) at the times `now` (m,) and return the rows of its slates."""
    m = len(active)
    latest = min(LATEST, len(news.published))
    end = np.maximum(np.searchsorted(news.published, now, side="right"), latest)
    article = end[:, None] - latest + np.arange(latest)  # (m, W)
    # The Gumbel trick draws different articles with these weights; -inf is an article that is not yet published.
    score = EXPOSURE * news.log_heat(article, now) + rng.gumbel(size=article.shape)
    slots = min(LARGEST_SLATE, latest)
    shown = np.argpartition(-score, slots - 1, axis=1)[:, :slots]
    shown = rng.permuted(shown, axis=1)
    is_shown = np.isfinite(np.take_along_axis(score, shown, axis=1))
    is_shown &= np.arange(slots) < rng.integers(SMALLEST_SLATE, LARGEST_SLATE + 1, m)[:, None]
    article = np.take_along_axis(article, shown, axis=1)  # (m, S)
    match = np.einsum("msd,mjd->msj", news.vector[article], readers.interest[active]).max(axis=2)
    logit = (
        INTERCEPT
        + MATCH * match
        + HEAT * np.maximum(news.log_heat(article, now), -10)
        + QUALITY * news.quality[news.publisher[article]]
        + readers.bias[active][:, None]
    )
    probability = 1 / (1 + np.exp(-logit))
    label = rng.random(article.shape) < probability
    return slate_rows(is_shown, user=active, time=now, item=article, probability=probability, label=label)


def item_table(news: News) -> pa.Table:
    """Return the item table, one row per article."""
    V = len(news.topic)
    names = [name for name, _ in SUBCATEGORIES]
    content = pa.FixedSizeListArray.from_arrays(pa.array(news.vector.ravel()), WIDTH)
    return pa.table(
        {
            "item_id": np.arange(1, V + 1),
            "title": [
                f"{PUBLISHERS[p]}: {names[k]} {i}"
                for i, (p, k) in enumerate(zip(news.publisher, news.topic, strict=True), 1)
            ],
            "category": [CATEGORIES[SUBCATEGORIES[topic][1]] for topic in news.topic],
            "subcategory": [names[topic] for topic in news.topic],
            "publisher": [PUBLISHERS[publisher] for publisher in news.publisher],
            "content": content,
        }
    )


SCHEMA = f"""\
# Simulated news, for 'lum prepare'. truth.parquet is left out on purpose: it has the true click probabilities.
name: news                        # name of the data set

events:                           # the behaviour log: clicks; it has no feedback
  path: events.parquet            # relative to this file
  user: user_id                   # column of the user
  item: item_id                   # column of the article
  time: time                      # column of the time, a timestamp

items:                            # the articles
  path: items.parquet             # relative to this file
  id: item_id                     # column of the article
  title: title                    # a title for people to read
  features:
    category:                     # the section of the paper
      type: categorical
    subcategory:                  # the topic
      type: categorical
    publisher:                    # the paper
      type: categorical
    content:                      # an embedding of the text
      type: vector
      width: {WIDTH}                   # number of elements

impressions:                      # the ranker is trained on these: articles that were candidates of one request
  path: impressions.parquet       # relative to this file
  row: row                        # unique id of the impression
  request: request_id             # id of the request: rows that were candidates together
  user: user_id                   # column of the user
  item: item_id                   # column of the article
  time: time                      # column of the time
  label: label                    # 1 = clicked

time_fields: [hour, weekday, gap] # time as condition fields
gap_unit: s                       # unit of the gap since the last event: whole seconds

splits:                           # by time, as fractions of the time-ordered events
  valid: 0.8                      # start of the validation period
  test: 0.9                       # start of the test period
"""
