"""The simulated worlds by name: how to draw each, and how to simulate its users."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from openlum.sources.market import news, shop, tables, travel
from openlum.sources.market.settings import MarketSettings, WorldSettings
from openlum.sources.market.users import simulate_users
from openlum.sources.market.world import World

AnySettings = MarketSettings | WorldSettings


@dataclass(frozen=True)
class WorldKind:
    """One kind of simulated log. `Any` is what `draw` returns: everything that does not depend on a single user."""

    schema: str
    """Text of the schema file."""
    draw: Callable[[Any, np.random.Generator], Any]
    """(settings, random generator) to the world."""
    item_table: Callable[[Any], pa.Table]
    """World to item table."""
    simulate_chunk: Callable[[Any, Any, int], dict[str, pa.Table]]
    """(settings, world, first user) to the tables of a chunk of users; row and request ids begin at 0."""


def _market_chunk(settings: MarketSettings, world: World, first: int) -> dict[str, pa.Table]:
    """Return the tables of the chunk of users that begins at `first`; row ids begin at 0."""
    count = min(settings.users_per_chunk, settings.users - first)
    population, slates = simulate_users(settings, world, count, np.random.default_rng([settings.seed, 1, first]))
    return tables.log_tables(slates, first) | {"users": tables.user_table(population.age, population.city, first)}


WORLDS = {
    "market": WorldKind(
        tables.SCHEMA, lambda settings, rng: World.draw(settings.items, rng), tables.item_table, _market_chunk
    ),
    "shop": WorldKind(shop.SCHEMA, shop.Shop.draw, lambda world: tables.item_table(world.market), shop.simulate_chunk),
    "news": WorldKind(news.SCHEMA, news.News.draw, news.item_table, news.simulate_chunk),
    "travel": WorldKind(travel.SCHEMA, travel.Travel.draw, travel.item_table, travel.simulate_chunk),
}


def world_kind(settings: AnySettings) -> WorldKind:
    """Return the kind of log that the settings describe."""
    return WORLDS[settings.world if isinstance(settings, WorldSettings) else "market"]


def draw_world(settings: AnySettings) -> Any:
    """Return the world of the settings: the same settings give the same world in every process."""
    return world_kind(settings).draw(settings, np.random.default_rng([settings.seed, 0]))


def most_events(settings: AnySettings) -> float:
    """Return about how many events a log of these settings has, or how many it has at most."""
    if isinstance(settings, WorldSettings):
        return settings.users * settings.events_per_user
    return settings.users * settings.sessions * settings.slate
