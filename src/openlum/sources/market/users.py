"""The users of the simulated marketplace: interests that drift, sessions, slates and clicks.

Shapes: n users of a chunk, m of them in a session at a time, J interests, S slots of a slate, D width of the hidden
space, R rows of the log.
"""

from dataclasses import dataclass

import numpy as np

from openlum.sources.market.settings import MarketSettings
from openlum.sources.market.world import AGE_GROUPS, CITIES, TOPICS, World, direction, unit

SCENARIOS = ["home", "search", "cart"]
HOME, SEARCH, CART = range(3)
SCENARIO_SHARE = np.array([0.55, 0.30, 0.15])
# What fills a slot of each scenario's slate: popular items, items at random, items of an interest that it pulls.
SLOT_SHARE = np.array([[0.25, 0.25, 0.50], [0.15, 0.25, 0.60], [0.20, 0.25, 0.55]])

START = 1_735_689_600  # 2025-01-01, UTC
DAY = 86_400

# The click's logit: intercept of each scenario + the terms below.
INTERCEPT = np.array([-3.0, -3.4, -3.2])
MATCH = 5.3
QUALITY = 0.5
PRICE_MISFIT = -0.3
POSITION = -0.25  # times log2 of the position
USER_BIAS = 0.3


@dataclass
class Crowd:
    """The users of a chunk. Their interests change as time goes by, and so does what they clicked last."""

    age: np.ndarray
    """(n,) index into `AGE_GROUPS`."""
    city: np.ndarray
    """(n,) index into `CITIES`."""
    bias: np.ndarray
    """(n,) how readily each clicks."""
    price_level: np.ndarray
    """(n,) the price level that suits each."""
    topic: np.ndarray
    """(n, J) topic of each interest."""
    interest: np.ndarray
    """(n, J, D) unit length: near the centre of its topic."""
    clicked: np.ndarray
    """(n,) topic of the last clicked item, -1 before the first."""

    @classmethod
    def draw(cls, world: World, count: int, interests: int, rng: np.random.Generator) -> "Crowd":
        """Draw users."""
        age = rng.integers(len(AGE_GROUPS), size=count)
        city = rng.integers(len(CITIES), size=count)
        # The Gumbel trick: J different topics of each user, with the probabilities of the age group.
        score = world.topic_taste[age] + rng.gumbel(size=(count, len(TOPICS)))
        topic = np.argpartition(-score, interests, axis=1)[:, :interests]
        return cls(
            age=age,
            city=city,
            bias=USER_BIAS * rng.normal(size=count) + 0.2 * np.cos(city),
            price_level=0.8 * rng.normal(size=count) + 0.25 * (age - 2.5),
            topic=rng.permuted(topic, axis=1),
            interest=_near(world, topic, rng),
            clicked=np.full(count, -1),
        )

    def drift(
        self, world: World, who: np.ndarray, days: np.ndarray, mean_life: float, rng: np.random.Generator
    ) -> None:
        """Let `days` (m,) go by for the users `who` (m,): interests move a little, and some give way to new ones."""
        step = 0.08 * np.sqrt(days)[:, None, None]
        topic, interest = self.topic[who], self.interest[who]
        interest = unit(interest + step * direction(rng, topic.shape))
        ends = rng.random(topic.shape) < 1 - np.exp(-days / mean_life)[:, None]
        score = world.topic_taste[self.age[who]] + rng.gumbel(size=(len(who), len(TOPICS)))
        topic = np.where(ends, score.argmax(axis=1)[:, None], topic)
        self.topic[who] = topic
        self.interest[who] = np.where(ends[..., None], _near(world, topic, rng), interest)


@dataclass(frozen=True)
class Pull:
    """What a session is about: every interest of the user and one thought of the moment, with a weight each.

    The thought is what is searched for, or what goes with the last clicked item.
    """

    scenario: np.ndarray
    """(m,) index into `SCENARIOS`."""
    query: np.ndarray
    """(m,) the topic searched for, -1 outside search."""
    weight: np.ndarray
    """(m, J + 1)"""
    topic: np.ndarray
    """(m, J + 1)"""
    vector: np.ndarray
    """(m, J + 1, D) unit length."""

    @classmethod
    def draw(cls, world: World, crowd: Crowd, who: np.ndarray, rng: np.random.Generator) -> "Pull":
        """Draw the sessions of the users `who`, (m,)."""
        m, J = crowd.topic[who].shape
        rank = np.arange(J)
        scenario = rng.choice(len(SCENARIOS), m, p=SCENARIO_SHARE)
        scenario[(scenario == CART) & (crowd.clicked[who] < 0)] = HOME
        # Any interest may be searched for, the last ones most; one search in five is about something else.
        searched = rng.choice(J, m, p=(rank + 1) / (rank + 1).sum())
        own = rng.random(m) < 0.8
        elsewhere = rng.integers(len(TOPICS), size=m)
        query = np.where(own, crowd.topic[who, searched], elsewhere)
        thought = np.where(scenario == CART, world.complement[crowd.clicked[who]], query)
        weight = np.zeros((m, J + 1))
        weight[:, :J] = 0.75**rank  # home: the first interests most
        search, cart = scenario == SEARCH, scenario == CART
        weight[search, :J] = 0.2
        weight[search & own, searched[search & own]] = 1.0
        weight[search, J] = 0.7
        weight[cart, :J] = 0.75 ** rank[::-1]  # cart: the last interests most, and the complement
        weight[cart, J] = 1.0
        return cls(
            scenario=scenario,
            query=np.where(search, query, -1),
            weight=weight,
            topic=np.concatenate([crowd.topic[who], thought[:, None]], axis=1),
            vector=np.concatenate([crowd.interest[who], world.centre[thought][:, None]], axis=1),
        )


@dataclass(frozen=True)
class Slates:
    """Rows of the log: by user, then time, then position."""

    user: np.ndarray
    """(R,) index in the chunk."""
    time: np.ndarray
    """(R,) int64 seconds since 1970; one time a slate."""
    scenario: np.ndarray
    """(R,) index into `SCENARIOS`."""
    query: np.ndarray
    """(R,) topic searched for, -1 outside search."""
    item: np.ndarray
    """(R,) index into the items, different ones in a slate."""
    position: np.ndarray
    """(R,) place in the slate, from 1."""
    probability: np.ndarray
    """(R,) of a click."""
    label: np.ndarray
    """(R,) 1 where it was clicked."""


def simulate_users(
    settings: MarketSettings, world: World, count: int, rng: np.random.Generator
) -> tuple[Crowd, Slates]:
    """Simulate all sessions of `count` users."""
    crowd = Crowd.draw(world, count, settings.interests, rng)
    time, sessions = _session_times(settings, count, rng)
    parts = []
    for index in range(int(sessions.max())):
        who = np.flatnonzero(sessions > index)
        if index:
            days = (time[who, index] - time[who, index - 1]) / DAY
            crowd.drift(world, who, days, settings.interest_days, rng)
        parts.append(_show(world, crowd, who, time[who, index], settings.slate, rng))
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in Slates.__dataclass_fields__}
    order = np.argsort(columns["user"], kind="stable")  # the parts are in order of time and position already
    return crowd, Slates(**{name: column[order] for name, column in columns.items()})


def _session_times(settings: MarketSettings, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Times of each user's sessions, ascending and all different, (n, most), and how many there are, (n,).

    Sessions are spread over the days, with most of them around noon and in the evening.
    """
    extra = settings.sessions - 1
    sessions = 1 + rng.poisson(rng.gamma(2.0, extra / 2, count))
    shape = (count, int(sessions.max()))
    hour = np.where(rng.random(shape) < 0.4, rng.normal(12.0, 2.5, shape), rng.normal(20.0, 2.0, shape)) % 24
    second = (hour * 3600).astype(np.int64) + DAY * rng.integers(settings.days, size=shape)
    second[np.arange(shape[1]) >= sessions[:, None]] = 2 * settings.days * DAY  # never read
    second.sort(axis=1)
    rank = np.arange(shape[1])
    return START + np.maximum.accumulate(second - rank, axis=1) + rank, sessions


def _show(world: World, crowd: Crowd, who: np.ndarray, now: np.ndarray, slate: int, rng: np.random.Generator) -> Slates:
    """One session of each of the users `who` (m,) at the times `now` (m,): a slate, and what is clicked."""
    pull = Pull.draw(world, crowd, who, rng)
    item, shown = _fill_slots(world, pull, slate, rng)  # (m, S) both
    match = np.einsum("msd,mjd->msj", world.vector[item], pull.vector)
    match = (match * pull.weight[:, None]).max(axis=2)  # (m, S)
    position = np.broadcast_to(np.arange(1, slate + 1), item.shape)
    logit = (
        INTERCEPT[pull.scenario][:, None]
        + MATCH * match
        + QUALITY * world.quality[item]
        + PRICE_MISFIT * (world.price_level[item] - crowd.price_level[who][:, None]) ** 2
        + POSITION * np.log2(position)
        + crowd.bias[who][:, None]
    )
    probability = 1 / (1 + np.exp(-logit))
    label = (rng.random(item.shape) < probability) & shown
    last = slate - 1 - label[:, ::-1].argmax(axis=1)
    clicked = world.topic[item[np.arange(len(who)), last]]
    crowd.clicked[who] = np.where(label.any(axis=1), clicked, crowd.clicked[who])
    row, slot = np.nonzero(shown)
    return Slates(
        user=who[row],
        time=now[row],
        scenario=pull.scenario[row],
        query=pull.query[row],
        item=item[row, slot],
        position=position[row, slot],
        probability=probability[row, slot],
        label=label[row, slot].astype(np.int64),
    )


def _fill_slots(world: World, pull: Pull, slate: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Items of each slot and whether the slot is shown, both (m, S). No item is shown twice in a slate.

    Twice as many candidates are drawn as there are slots, and repeated ones go to the end: a slate comes out short
    where even those do not suffice. The order tells nothing about where a candidate came from.
    """
    shape = (len(pull.scenario), 2 * slate)
    draw = rng.random(shape)
    share = SLOT_SHARE[pull.scenario].cumsum(axis=1)
    popular, random = draw < share[:, :1], draw < share[:, 1:2]
    # The interest that each slot is for, drawn by weight.
    cumulative = (pull.weight**2).cumsum(axis=1)
    aim = rng.random(shape) * cumulative[:, -1:]
    interest = (aim[..., None] >= cumulative[:, None, :]).sum(axis=2)
    topic = np.where(popular, -1, np.take_along_axis(pull.topic, interest, axis=1))
    item = world.popular_items(rng, topic)
    item = np.where(random & ~popular, rng.integers(len(world.topic), size=shape), item)
    order = np.argsort(item, axis=1, kind="stable")
    ascending = np.take_along_axis(item, order, axis=1)
    repeated = np.zeros(shape, bool)
    np.put_along_axis(repeated, order[:, 1:], ascending[:, 1:] == ascending[:, :-1], axis=1)
    first = np.argsort(repeated, axis=1, kind="stable")[:, :slate]
    return np.take_along_axis(item, first, axis=1), ~np.take_along_axis(repeated, first, axis=1)


def _near(world: World, topic: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Interests (..., D) near the centres of topics (...)."""
    return unit(world.centre[topic] + 0.5 * direction(rng, topic.shape))
