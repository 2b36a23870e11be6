"""Settings of the simulated logs: the marketplace, and the worlds `shop`, `news` and `travel`."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from openlum.config import Settings, parse_settings
from openlum.errors import InputError

ROWS_PER_CHUNK = 100_000
"""About how many events are simulated at a time with the settings of `market_of_size`."""


class MarketSettings(Settings):
    """Size of the simulated marketplace and behaviour of its users."""

    users: int = Field(1000, ge=1, le=10**9)
    """Number of users."""
    items: int = Field(1500, ge=100, le=10**8)
    """Number of items."""
    sessions: float = Field(15.0, ge=1, le=100_000)
    """Average number of sessions per user; some users have many more than others."""
    slate: int = Field(8, ge=1, le=50)
    """Largest number of items that a session shows."""
    interests: int = Field(3, ge=2, le=20)
    """Number of interests that a user has at any time."""
    days: int = Field(60, ge=2, le=3650)
    """Length of the log in days, from 2025-01-01 on."""
    interest_days: float = Field(120.0, gt=0, le=1e6)
    """Average number of days until a new interest replaces an interest."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Random seed. The same settings give the same files, byte for byte."""
    users_per_chunk: int = Field(500, ge=1, le=10**7)
    """Users that are simulated and written at a time. More users need more memory."""


WorldName = Literal["market", "shop", "news", "travel"]


class WorldSettings(Settings):
    """Kind and size of a simulated log other than the marketplace's."""

    world: Literal["shop", "news", "travel"]
    """`shop` (few events per user, many items), `news` (articles that live for hours) or `travel` (lists of hotels)."""
    users: int = Field(ge=1, le=10**9)
    """Number of users."""
    events_per_user: float = Field(ge=1, le=100_000)
    """Average number of events per user; some users have many more than others."""
    items: int = Field(ge=100, le=10**8)
    """Number of items."""
    days: int = Field(ge=2, le=3650)
    """Length of the log in days, from 2025-01-01 on."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Random seed. The same settings give the same files, byte for byte."""
    users_per_chunk: int = Field(500, ge=1, le=10**7)
    """Users that are simulated and written at a time. More users need more memory."""


@dataclass(frozen=True)
class DefaultSize:
    """The size of a world if the user names none."""

    users: int
    """Number of users."""
    events_per_user: float
    """Average number of events per user."""
    items: int
    """Number of items."""
    days: int
    """Length of the log in days."""


SIZES: dict[WorldName, DefaultSize] = {
    "market": DefaultSize(users=1000, events_per_user=100, items=1500, days=60),
    "shop": DefaultSize(users=6000, events_per_user=7, items=12_000, days=360),
    "news": DefaultSize(users=2000, events_per_user=14, items=2200, days=10),
    "travel": DefaultSize(users=1500, events_per_user=110, items=1200, days=120),
}


def world_of_size(
    world: WorldName,
    users: int | None = None,
    events: int | None = None,
    items: int | None = None,
    days: int | None = None,
    seed: int = 0,
) -> MarketSettings | WorldSettings:
    """Return the settings of a world with about this many events; a number that is not given is the default of the world.

    Args:
        world: `market`, `shop`, `news` or `travel`.
        users: number of users.
        events: approximate number of events, at least one per user; by default in proportion to the users.
        items: number of items; in the marketplace, see `market_of_size`.
        days: length of the log in days.
        seed: random seed; the same sizes and seed give the same files.

    Raises:
        InputError: a number is too small.
    """
    size = SIZES[world]
    users = size.users if users is None else users
    events = round(users * size.events_per_user) if events is None else events
    days = size.days if days is None else days
    if world == "market":
        return market_of_size(users, events, items, days, seed)
    _check_events(users, events)
    events_per_user = events / max(users, 1)
    settings = {
        "world": world,
        "users": users,
        "events_per_user": max(events_per_user, 1.0),
        "items": size.items if items is None else items,
        "days": days,
        "seed": seed,
        "users_per_chunk": max(int(ROWS_PER_CHUNK / 4 / max(events_per_user, 1)), 1),
    }
    return parse_settings(settings, WorldSettings, where=f"size of the world '{world}'")


def market_of_size(users: int, events: int, items: int | None = None, days: int = 60, seed: int = 0) -> MarketSettings:
    """Return the settings of a marketplace with about this many events.

    Each user has at least one session, and a session shows a slate of up to 8 items. So the number of events decides the
    number of sessions per user. With fewer than 8 events per user, the slates are shorter instead.

    Args:
        users: number of users.
        events: approximate number of events, at least one per user.
        items: number of items; by default half the number of users, but at least 1,500.
        days: length of the log in days.
        seed: random seed; the same sizes and seed give the same files.

    Raises:
        InputError: a number is too small.
    """
    _check_events(users, events)
    events_per_user = events / max(users, 1)
    slate = int(min(MarketSettings().slate, events_per_user))
    settings = {
        "users": users,
        "items": max(1500, users // 2) if items is None else items,
        "days": days,
        "seed": seed,
        "slate": max(slate, 1),
        "sessions": max(events_per_user / max(slate, 1), 1.0),
        "users_per_chunk": max(int(ROWS_PER_CHUNK / max(events_per_user, 1)), 1),
    }
    return parse_settings(settings, MarketSettings, where="size of the market")


def _check_events(users: int, events: int) -> None:
    """Raise an `InputError` if there is less than one event per user."""
    if users >= 1 and events < users:
        raise InputError(
            f"--events {events:,}: expected at least one event per user, so at least {users:,} for --users {users:,}"
        )
