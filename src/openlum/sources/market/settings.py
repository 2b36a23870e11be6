"""The size and the character of a simulated marketplace."""

from pydantic import Field

from openlum.config import Settings, parse_settings
from openlum.errors import InputError

ROWS_PER_CHUNK = 100_000
"""About how many events `market_of_size` lets be simulated at a time."""


class MarketSettings(Settings):
    """The size and the character of the simulated marketplace."""

    users: int = Field(1000, ge=1, le=10**9)
    """How many users."""
    items: int = Field(1500, ge=100, le=10**8)
    """How many items."""
    sessions: float = Field(15.0, ge=1, le=100_000)
    """Sessions of a user, on average; some users have many more than others."""
    slate: int = Field(8, ge=1, le=50)
    """Items shown in a session, at most."""
    interests: int = Field(3, ge=2, le=20)
    """Interests of a user at any time."""
    days: int = Field(60, ge=2, le=3650)
    """Length of the log, from 2025-01-01 on."""
    interest_days: float = Field(120.0, gt=0, le=1e6)
    """Days until an interest gives way to another, on average."""
    seed: int = Field(0, ge=0, lt=2**63)
    """The same settings give the same files, byte by byte."""
    users_per_chunk: int = Field(500, ge=1, le=10**7)
    """Users simulated and written at a time: what memory is needed for."""


def market_of_size(users: int, events: int, items: int | None = None, days: int = 60, seed: int = 0) -> MarketSettings:
    """Settings of a marketplace with about this many events.

    Every user has at least one session and every session a slate of up to 8 items, so events become sessions per user;
    below 8 events a user they make the slate shorter instead.

    Args:
        users: how many users.
        events: about how many events; at least one a user.
        items: how many items; by default half as many as users, and at least 1,500.
        days: length of the log.
        seed: the same sizes and seed give the same files.

    Raises:
        InputError: a number is too small.
    """
    if users >= 1 and events < users:
        raise InputError(f"--events {events:,}: every user has at least one event; give at least {users:,}, as --users")
    per_user = events / max(users, 1)
    slate = int(min(MarketSettings().slate, per_user))
    wanted = {
        "users": users,
        "items": max(1500, users // 2) if items is None else items,
        "days": days,
        "seed": seed,
        "slate": max(slate, 1),
        "sessions": max(per_user / max(slate, 1), 1.0),
        "users_per_chunk": max(int(ROWS_PER_CHUNK / max(per_user, 1)), 1),
    }
    return parse_settings(wanted, MarketSettings, where="size of the market")
