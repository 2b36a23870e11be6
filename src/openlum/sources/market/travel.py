"""Travel: searches for hotels. Most clicks are on a hotel that the user has clicked before.

A user makes trips to a few favourite destinations and to others. A trip is several searches for the same destination and
number of nights, until the user books or gives up. Each search shows a slate of hotels of the destination, among them
those that the user clicked earlier. The user clicks one of them or none, by a multinomial logit model, and books some of
the hotels clicked. The event log has every hotel shown.

Shapes: V hotels, K destinations, H hotels of a destination, n users of a chunk, m users who search in a step, T trips, Q
searches of a trip, M kept clicks, S slots of a slate, D width of the hidden space.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from openlum.sources.market.draws import DAY, session_times, softmax, strictly_ascending
from openlum.sources.market.settings import WorldSettings
from openlum.sources.market.slates import Rows, concatenate, log_tables, slate_rows
from openlum.sources.market.world import direction, unit

DESTINATIONS = [
    "Amsterdam", "Athens", "Barcelona", "Berlin", "Bordeaux", "Bruges", "Budapest", "Copenhagen", "Dublin", "Edinburgh",
    "Geneva", "Hamburg", "Helsinki", "Innsbruck", "Lisbon", "London", "Madrid", "Malaga", "Milan", "Naples",
    "Nice", "Oslo", "Palermo", "Paris", "Porto", "Prague", "Rome", "Seville", "Venice", "Vienna",
]  # fmt: skip
COUNTRIES = ["AT", "BE", "CH", "DE", "DK", "ES", "FR", "IT", "NL", "PT", "SE", "UK"]
KINDS = ["hotel", "apartment", "guest house", "resort", "hostel"]
FEEDBACK = ["skip", "click", "booking"]

SLATE = 10
FAVOURITES = 2
FAVOURITE_SHARE = 0.6  # of the trips; the others go to any destination
LONGEST_STAY = 14  # nights
MOST_SEARCHES = 8  # of a trip
SEARCHES_PER_TRIP = 3.0  # about, with the searches after a booking left out
TRIP_DAYS = 4  # the searches of a trip are made within this many days
KEPT_CLICKS = 12  # of each user, to know which hotels the user has clicked before
LISTED_AGAIN = 0.95  # probability that a slate lists a hotel of the destination that the user clicked before

# The utility of a hotel; that of no click is 0.
INTERCEPT = -2.2
STYLE = 3.0
PRICE_MISFIT = -0.4
QUALITY = 0.5
POPULARITY = 0.3
POSITION = -0.3  # multiplied by log2 of the position
CLICKED_BEFORE = 1.6
CLICKED_LAST = 1.0
# The logit of a booking after a click.
BOOKING = -1.9
BOOKING_CLICKED_BEFORE = 1.0


@dataclass(frozen=True)
class Travel:
    """Hotels, destinations and tastes: everything that does not depend on a single user."""

    destination: np.ndarray
    """(V,) index into `DESTINATIONS`."""
    stars: np.ndarray
    """(V,) 1 to 5."""
    kind: np.ndarray
    """(V,) index into `KINDS`."""
    price: np.ndarray
    """(V,) per night, log-normal; grows with the stars and depends on the destination."""
    price_level: np.ndarray
    """(V,) standardised log price within the destination."""
    quality: np.ndarray
    """(V,) hidden, standard normal; the rating is a noisy view of it."""
    rating: np.ndarray
    """(V,) average rating by guests, 1 to 10."""
    popularity: np.ndarray
    """(V,) hidden: log of the weight with which a hotel is listed."""
    style: np.ndarray
    """(V, D) hidden, unit length."""
    hotels: np.ndarray
    """(K, H) hotels of each destination; -1 fills up the shorter rows."""
    taste: np.ndarray
    """(countries, K) log preference of each country for each destination."""

    @classmethod
    def draw(cls, settings: WorldSettings, rng: np.random.Generator) -> "Travel":
        """Draw `settings.items` hotels, spread evenly over the destinations."""
        V, K = settings.items, len(DESTINATIONS)
        destination = rng.permutation(np.arange(V) % K)
        by_destination = np.argsort(destination, kind="stable")
        start = np.searchsorted(destination[by_destination], np.arange(K + 1))
        column = start[:-1, None] + np.arange(np.diff(start).max())
        hotels = np.where(column < start[1:, None], by_destination[np.minimum(column, V - 1)], -1)
        price_level = rng.normal(size=V)
        quality = rng.normal(size=V)
        kind = rng.choice(len(KINDS), V, p=[0.5, 0.2, 0.15, 0.1, 0.05])
        kind_style = direction(rng, (len(KINDS),))
        return cls(
            destination=destination,
            stars=np.clip(np.round(3 + 0.9 * price_level + 0.5 * rng.normal(size=V)), 1, 5).astype(np.int64),
            kind=kind,
            price=np.exp(4.5 + 0.25 * rng.normal(size=K)[destination] + 0.5 * price_level),
            price_level=price_level,
            quality=quality,
            rating=np.clip(7.5 + 0.8 * quality + 0.5 * rng.normal(size=V), 1, 10),
            popularity=0.8 * rng.normal(size=V) + 0.3 * quality,
            style=unit(0.6 * kind_style[kind] + direction(rng, (V,))).astype(np.float32),
            hotels=hotels,
            taste=0.8 * rng.normal(size=K) + 0.5 * rng.normal(size=(len(COUNTRIES), K)),
        )


@dataclass
class Travellers:
    """The users of a chunk. Their trip and their clicks change over time."""

    country: np.ndarray
    """(n,) index into `COUNTRIES`."""
    bias: np.ndarray
    """(n,) click propensity, a term of the utility."""
    price_level: np.ndarray
    """(n,) preferred price level."""
    style: np.ndarray
    """(n, D) unit length: preferred style."""
    favourite: np.ndarray
    """(n, FAVOURITES) favourite destinations."""
    destination: np.ndarray
    """(n,) destination of the present trip."""
    nights: np.ndarray
    """(n,) nights of the present trip."""
    has_booked: np.ndarray
    """(n,) whether the user has booked a hotel for the present trip."""
    clicked: np.ndarray
    """(n, M) hotels clicked, the last one first; -1 before the first click."""

    @classmethod
    def draw(cls, travel: Travel, count: int, rng: np.random.Generator) -> "Travellers":
        """Return `count` random users."""
        country = rng.integers(len(COUNTRIES), size=count)
        score = travel.taste[country] + rng.gumbel(size=(count, len(DESTINATIONS)))
        return cls(
            country=country,
            bias=0.4 * rng.normal(size=count),
            price_level=0.8 * rng.normal(size=count),
            style=unit(direction(rng, (count,))),
            favourite=np.argsort(-score, axis=1)[:, :FAVOURITES],
            destination=np.zeros(count, np.int64),
            nights=np.ones(count, np.int64),
            has_booked=np.zeros(count, bool),
            clicked=np.full((count, KEPT_CLICKS), -1),
        )

    def begin_trip(self, travel: Travel, active: np.ndarray, rng: np.random.Generator) -> None:
        """Draw destination and nights of a new trip of the users `active` (m,)."""
        m = len(active)
        score = travel.taste[self.country[active]] + rng.gumbel(size=(m, len(DESTINATIONS)))
        favourite = self.favourite[active, rng.integers(FAVOURITES, size=m)]
        is_favourite = rng.random(m) < FAVOURITE_SHARE
        self.destination[active] = np.where(is_favourite, favourite, score.argmax(axis=1))
        self.nights[active] = np.minimum(1 + rng.geometric(0.35, m), LONGEST_STAY)
        self.has_booked[active] = False


def simulate_chunk(settings: WorldSettings, travel: Travel, first: int) -> dict[str, pa.Table]:
    """Return the tables of the chunk of users that begins at `first`; row and request ids begin at 0."""
    rng = np.random.default_rng([settings.seed, 1, first])
    count = min(settings.users_per_chunk, settings.users - first)
    travellers = Travellers.draw(travel, count, rng)
    trips_per_user = max(settings.events_per_user / SLATE / SEARCHES_PER_TRIP, 1.0)
    time, searches = _search_times(trips_per_user, settings.days, count, rng)
    parts = []
    for trip in range(searches.shape[1]):
        travellers.begin_trip(travel, np.flatnonzero(searches[:, trip]), rng)
        for search in range(MOST_SEARCHES):
            active = np.flatnonzero((searches[:, trip] > search) & ~travellers.has_booked)
            if len(active):
                parts.append(_search(travel, travellers, active, time[active, trip, search], rng))
    rows = concatenate(parts)
    tables = log_tables(
        rows,
        first,
        condition={"destination": pa.array(DESTINATIONS).take(pa.array(rows["destination"])), "nights": rows["nights"]},
        context={"position": rows["position"]},
        feedback=pa.array(FEEDBACK).take(pa.array(rows["label"] + rows["is_booked"].astype(np.int64))),
    )
    users = {
        "user_id": np.arange(first + 1, first + 1 + count),
        "country": pa.array(COUNTRIES).take(travellers.country),
    }
    return tables | {"users": pa.table(users)}


def _search_times(
    trips_per_user: float, days: int, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the times of all searches (n, T, Q), ascending and different, and the searches of each trip (n, T).

    The first search of a trip is at the time of a session, the others follow within `TRIP_DAYS` and before the next trip.
    """
    begin, trips = session_times(trips_per_user, days, count, rng)
    n, T = begin.shape
    end = np.minimum(np.concatenate([begin[:, 1:], begin[:, -1:] + TRIP_DAYS * DAY], axis=1), begin + TRIP_DAYS * DAY)
    # Searches come soon after one another: most offsets are small.
    offset = np.sort(rng.random((n, T, MOST_SEARCHES)) ** 3, axis=2)
    offset[..., 0] = 0
    time = begin[..., None] + (offset * (end - begin)[..., None]).astype(np.int64)
    searches = np.minimum(1 + rng.poisson(rng.gamma(2.0, 1.6, (n, T))), MOST_SEARCHES)
    searches[np.arange(T) >= trips[:, None]] = 0
    return strictly_ascending(time.reshape(n, -1)).reshape(time.shape), searches


def _search(
    travel: Travel, travellers: Travellers, active: np.ndarray, now: np.ndarray, rng: np.random.Generator
) -> Rows:
    """Simulate one search of each of the users `active` (m,) at the times `now` (m,) and return the rows of its slates."""
    m = len(active)
    user = np.arange(m)
    hotel = travel.hotels[travellers.destination[active]]  # (m, H)
    clicked = travellers.clicked[active]  # (m, M)
    # The Gumbel trick draws different hotels by popularity; hotels that the user clicked before come first.
    score = travel.popularity[hotel] + rng.gumbel(size=hotel.shape)
    is_known = (hotel[..., None] == clicked[:, None]).any(axis=2)
    score = np.where(is_known & (rng.random(hotel.shape) < LISTED_AGAIN), score + 100, score)
    score = np.where(hotel < 0, -np.inf, score)
    slots = min(SLATE, hotel.shape[1])
    column = np.argpartition(-score, slots - 1, axis=1)[:, :slots]
    # The positions follow popularity, with much noise.
    shown = np.take_along_axis(hotel, column, axis=1)
    order = np.argsort(-(travel.popularity[shown] + 1.5 * rng.gumbel(size=shown.shape)), axis=1)
    column = np.take_along_axis(column, order, axis=1)
    hotel = np.take_along_axis(hotel, column, axis=1)  # (m, S)
    is_shown = np.isfinite(np.take_along_axis(score, column, axis=1))
    is_known = np.take_along_axis(is_known, column, axis=1)
    position = np.cumsum(is_shown, axis=1)
    utility = (
        INTERCEPT
        + STYLE * np.einsum("msd,md->ms", travel.style[hotel], travellers.style[active])
        + PRICE_MISFIT * (travel.price_level[hotel] - travellers.price_level[active][:, None]) ** 2
        + QUALITY * travel.quality[hotel]
        + POPULARITY * travel.popularity[hotel]
        + POSITION * np.log2(np.maximum(position, 1))
        + CLICKED_BEFORE * is_known
        + CLICKED_LAST * (hotel == clicked[:, :1])
        + travellers.bias[active][:, None]
    )
    utility = np.concatenate([np.where(is_shown, utility, -np.inf), np.zeros((m, 1))], axis=1)  # the last is no click
    choice = (utility + rng.gumbel(size=utility.shape)).argmax(axis=1)
    label = np.arange(slots) == choice[:, None]
    chosen_is_known = is_known[user, np.minimum(choice, slots - 1)]
    booking = 1 / (1 + np.exp(-(BOOKING + BOOKING_CLICKED_BEFORE * chosen_is_known)))
    has_booked = (rng.random(m) < booking) & (choice < slots)
    travellers.has_booked[active] = has_booked
    has_clicked = active[choice < slots]
    clicks = np.roll(travellers.clicked[has_clicked], 1, axis=1)
    clicks[:, 0] = hotel[user, np.minimum(choice, slots - 1)][choice < slots]
    travellers.clicked[has_clicked] = clicks
    return slate_rows(
        is_shown,
        user=active,
        time=now,
        item=hotel,
        destination=travellers.destination[active],
        nights=travellers.nights[active],
        position=position,
        probability=softmax(utility)[:, :-1],
        label=label.astype(np.int64),
        is_booked=label & has_booked[:, None],
    )


def item_table(travel: Travel) -> pa.Table:
    """Return the item table, one row per hotel."""
    V = len(travel.destination)
    return pa.table(
        {
            "item_id": np.arange(1, V + 1),
            "title": [
                f"{DESTINATIONS[destination]} {KINDS[kind]} {number}"
                for number, (destination, kind) in enumerate(zip(travel.destination, travel.kind, strict=True), 1)
            ],
            "city": [DESTINATIONS[destination] for destination in travel.destination],
            "kind": [KINDS[kind] for kind in travel.kind],
            "stars": travel.stars,
            "price": np.round(travel.price, 2),
            "rating": np.round(travel.rating, 1),
        }
    )


SCHEMA = """\
# Simulated searches for hotels, for 'lum prepare'. truth.parquet is left out on purpose: it has the true click probabilities.
name: travel                      # name of the data set

events:                           # the behaviour log: every hotel shown, with the user's reaction
  path: events.parquet            # relative to this file
  user: user_id                   # column of the user
  item: item_id                   # column of the hotel
  time: time                      # column of the time, a timestamp
  condition:                      # the circumstances of an event
    destination:                  # the city of the search
      type: categorical
    nights:                       # the number of nights of the search
      type: categorical
    feedback:                     # skip, click or booking
      type: categorical
      feedback: true              # the user's reaction: unknown when an impression is ranked

items:                            # the hotels
  path: items.parquet             # relative to this file
  id: item_id                     # column of the hotel
  title: title                    # a title for people to read
  features:
    city:                         # where the hotel is
      type: categorical
    kind:                         # hotel, apartment, ...
      type: categorical
    stars:                        # 1 to 5
      type: categorical
    price:                        # per night
      type: numeric
    rating:                       # average rating by guests
      type: numeric

users:                            # the user table
  path: users.parquet             # relative to this file
  id: user_id                     # column of the user
  features:
    country:                      # related to the destinations
      type: categorical

impressions:                      # the ranker is trained on these: hotels that were candidates of one search
  path: impressions.parquet       # relative to this file
  row: row                        # unique id of the impression
  request: request_id             # id of the request: rows that were candidates together
  user: user_id                   # column of the user
  item: item_id                   # column of the hotel
  time: time                      # column of the time
  label: label                    # 1 = clicked or booked
  context:                        # further features, known when the impression is ranked
    position:                     # position in the slate, from 1
      type: categorical

time_fields: [hour, weekday, gap] # time as further condition fields
gap_unit: s                       # unit of the gap since the last event: whole seconds

holdout:                          # retrieval holds out the last clicked hotel
  field: feedback                 # a condition field
  values: [click, booking]        # only events with these values are held out

splits:                           # by time, as fractions of the time-ordered events
  valid: 0.8                      # start of the validation period
  test: 0.9                       # start of the test period
"""
