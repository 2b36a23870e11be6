"""The users of the simulated marketplace: their drifting interests, sessions, slates and clicks.

Shapes: n users of a chunk, m users who have a session in a step, J interests, S slots of a slate, D width of the hidden
space, R rows of the log.
"""

from dataclasses import dataclass

import numpy as np

from openlum.sources.market.draws import DAY, different_items, session_times
from openlum.sources.market.settings import MarketSettings
from openlum.sources.market.world import AGE_GROUPS, CITIES, TOPICS, World, direction, unit

SCENARIOS = ["home", "search", "cart"]
HOME, SEARCH, CART = range(3)
SCENARIO_SHARE = np.array([0.55, 0.30, 0.15])
# How the slots of each scenario's slate are filled: with popular items, random items, or items of the session's topics.
SLOT_SHARE = np.array([[0.25, 0.25, 0.50], [0.15, 0.25, 0.60], [0.20, 0.25, 0.55]])

# The logit of a click is the intercept of the scenario plus the terms below.
INTERCEPT = np.array([-3.0, -3.4, -3.2])
MATCH = 5.3
QUALITY = 0.5
PRICE_MISFIT = -0.3
POSITION = -0.25  # multiplied by log2 of the position
USER_BIAS = 0.3


@dataclass
class Population:
    """The users of a chunk. Their interests and their last clicks change over time."""

    age: np.ndarray
    """(n,) index into `AGE_GROUPS`."""
    city: np.ndarray
    """(n,) index into `CITIES`."""
    bias: np.ndarray
    """(n,) click propensity, a term of the logit."""
    price_level: np.ndarray
    """(n,) preferred price level."""
    topic: np.ndarray
    """(n, J) topic of each interest."""
    interest: np.ndarray
    """(n, J, D) unit length: each interest, near the centre of its topic."""
    clicked: np.ndarray
    """(n,) topic of the last clicked item, -1 before the first."""

    @classmethod
    def draw(cls, world: World, count: int, interests: int, rng: np.random.Generator) -> "Population":
        """Return `count` random users."""
        age = rng.integers(len(AGE_GROUPS), size=count)
        city = rng.integers(len(CITIES), size=count)
        # The Gumbel trick draws J different topics for each user, with the probabilities of the age group.
        score = world.topic_taste[age] + rng.gumbel(size=(count, len(TOPICS)))
        topic = np.argpartition(-score, interests, axis=1)[:, :interests]
        return cls(
            age=age,
            city=city,
            bias=USER_BIAS * rng.normal(size=count) + 0.2 * np.cos(city),
            price_level=0.8 * rng.normal(size=count) + 0.25 * (age - 2.5),
            topic=rng.permuted(topic, axis=1),
            interest=_draw_interests(world, topic, rng),
            clicked=np.full(count, -1),
        )

    def drift(
        self, world: World, active: np.ndarray, days: np.ndarray, mean_life: float, rng: np.random.Generator
    ) -> None:
        """Move the interests of the users `active` (m,) by `days` (m,): they shift a little, and some are replaced."""
        step = 0.08 * np.sqrt(days)[:, None, None]
        topic, interest = self.topic[active], self.interest[active]
        interest = unit(interest + step * direction(rng, topic.shape))
        ends = rng.random(topic.shape) < 1 - np.exp(-days / mean_life)[:, None]
        score = world.topic_taste[self.age[active]] + rng.gumbel(size=(len(active), len(TOPICS)))
        topic = np.where(ends, score.argmax(axis=1)[:, None], topic)
        self.topic[active] = topic
        self.interest[active] = np.where(ends[..., None], _draw_interests(world, topic, rng), interest)


@dataclass(frozen=True)
class SessionIntent:
    """What the user wants in a session: the user's interests and one session topic, each with a weight.

    The session topic is the topic that the user searches for, or the complement of the last clicked item's topic.
    """

    scenario: np.ndarray
    """(m,) index into `SCENARIOS`."""
    query: np.ndarray
    """(m,) topic of the search query; -1 outside search."""
    weight: np.ndarray
    """(m, J + 1) weight of each interest and of the session topic, which is last."""
    topic: np.ndarray
    """(m, J + 1) topic of each interest, and the session topic."""
    vector: np.ndarray
    """(m, J + 1, D) unit length: each interest, and the centre of the session topic."""

    @classmethod
    def draw(
        cls, world: World, population: Population, active: np.ndarray, rng: np.random.Generator
    ) -> "SessionIntent":
        """Return a random session of each of the users `active` (m,)."""
        m, J = population.topic[active].shape
        rank = np.arange(J)
        scenario = rng.choice(len(SCENARIOS), m, p=SCENARIO_SHARE)
        scenario[(scenario == CART) & (population.clicked[active] < 0)] = HOME
        # A search is about one of the user's interests, most often the last one. One search in five is about a random topic.
        searched = rng.choice(J, m, p=(rank + 1) / (rank + 1).sum())
        is_interest = rng.random(m) < 0.8
        random_topic = rng.integers(len(TOPICS), size=m)
        query = np.where(is_interest, population.topic[active, searched], random_topic)
        session_topic = np.where(scenario == CART, world.complement[population.clicked[active]], query)
        weight = np.zeros((m, J + 1))
        weight[:, :J] = 0.75**rank  # home: the first interests have the largest weights
        search, cart = scenario == SEARCH, scenario == CART
        weight[search, :J] = 0.2
        weight[search & is_interest, searched[search & is_interest]] = 1.0
        weight[search, J] = 0.7
        weight[cart, :J] = 0.75 ** rank[::-1]  # cart: the last interests and the complement
        weight[cart, J] = 1.0
        return cls(
            scenario=scenario,
            query=np.where(search, query, -1),
            weight=weight,
            topic=np.concatenate([population.topic[active], session_topic[:, None]], axis=1),
            vector=np.concatenate([population.interest[active], world.centre[session_topic][:, None]], axis=1),
        )


@dataclass(frozen=True)
class Slates:
    """Rows of the log, ordered by user, time and position."""

    user: np.ndarray
    """(R,) index of the user in the chunk."""
    time: np.ndarray
    """(R,) int64 seconds since 1970, the same for all rows of a slate."""
    scenario: np.ndarray
    """(R,) index into `SCENARIOS`."""
    query: np.ndarray
    """(R,) topic of the search query; -1 outside search."""
    item: np.ndarray
    """(R,) index of the item; the items of a slate are different."""
    position: np.ndarray
    """(R,) position in the slate, from 1."""
    probability: np.ndarray
    """(R,) true probability of a click."""
    label: np.ndarray
    """(R,) 1 if the item was clicked, else 0."""


def simulate_users(
    settings: MarketSettings, world: World, count: int, rng: np.random.Generator
) -> tuple[Population, Slates]:
    """Simulate all sessions of `count` users and return the users and the rows of the log."""
    population = Population.draw(world, count, settings.interests, rng)
    time, sessions = session_times(settings.sessions, settings.days, count, rng)
    parts = []
    for step in range(int(sessions.max())):
        active = np.flatnonzero(sessions > step)
        if step:
            days = (time[active, step] - time[active, step - 1]) / DAY
            population.drift(world, active, days, settings.interest_days, rng)
        parts.append(_simulate_sessions(world, population, active, time[active, step], settings.slate, rng))
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in Slates.__dataclass_fields__}
    order = np.argsort(columns["user"], kind="stable")  # the rows of a user are ordered by time and position already
    return population, Slates(**{name: column[order] for name, column in columns.items()})


def _simulate_sessions(
    world: World, population: Population, active: np.ndarray, now: np.ndarray, slate: int, rng: np.random.Generator
) -> Slates:
    """Simulate one session of each of the users `active` (m,) at the times `now` (m,) and return its slates and clicks."""
    intent = SessionIntent.draw(world, population, active, rng)
    item, is_shown = _fill_slots(world, intent, slate, rng)  # (m, S) both
    match = np.einsum("msd,mjd->msj", world.vector[item], intent.vector)
    match = (match * intent.weight[:, None]).max(axis=2)  # (m, S)
    position = np.broadcast_to(np.arange(1, slate + 1), item.shape)
    logit = (
        INTERCEPT[intent.scenario][:, None]
        + MATCH * match
        + QUALITY * world.quality[item]
        + PRICE_MISFIT * (world.price_level[item] - population.price_level[active][:, None]) ** 2
        + POSITION * np.log2(position)
        + population.bias[active][:, None]
    )
    probability = 1 / (1 + np.exp(-logit))
    label = (rng.random(item.shape) < probability) & is_shown
    last = slate - 1 - label[:, ::-1].argmax(axis=1)
    clicked = world.topic[item[np.arange(len(active)), last]]
    population.clicked[active] = np.where(label.any(axis=1), clicked, population.clicked[active])
    row, slot = np.nonzero(is_shown)
    return Slates(
        user=active[row],
        time=now[row],
        scenario=intent.scenario[row],
        query=intent.query[row],
        item=item[row, slot],
        position=position[row, slot],
        probability=probability[row, slot],
        label=label[row, slot].astype(np.int64),
    )


def _fill_slots(
    world: World, intent: SessionIntent, slate: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the item of each slot and whether the slot is shown, both (m, S). A slate shows no item twice.

    Twice as many candidates are drawn as there are slots, and repeated candidates are moved to the end. If there are
    fewer different candidates than slots, the slate is shorter. The order of the candidates does not depend on how they
    were drawn.
    """
    shape = (len(intent.scenario), 2 * slate)
    draw = rng.random(shape)
    share = SLOT_SHARE[intent.scenario].cumsum(axis=1)
    popular, random = draw < share[:, :1], draw < share[:, 1:2]
    # The interest or session topic of each slot, drawn in proportion to the squared weight.
    cumulative = (intent.weight**2).cumsum(axis=1)
    threshold = rng.random(shape) * cumulative[:, -1:]
    interest = (threshold[..., None] >= cumulative[:, None, :]).sum(axis=2)
    topic = np.where(popular, -1, np.take_along_axis(intent.topic, interest, axis=1))
    item = world.popular_items(rng, topic)
    item = np.where(random & ~popular, rng.integers(len(world.topic), size=shape), item)
    return different_items(item, slate)


def _draw_interests(world: World, topic: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return random interests (..., D) near the centres of topics (...)."""
    return unit(world.centre[topic] + 0.5 * direction(rng, topic.shape))
