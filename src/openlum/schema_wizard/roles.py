"""Guesses of the user, item, time, label and row columns, from the names of columns first and then from their values."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from openlum.file_format import TimeUnit
from openlum.prepare.time_expression import parse_compact
from openlum.schema_wizard.column_profile import ColumnProfile
from openlum.schema_wizard.name_hints import (
    ITEM,
    LABEL,
    OTHER_TIME_WORDS,
    ROW,
    TIME,
    TIME_WORDS,
    TITLE,
    USER,
    has_word,
    rank_among,
    reaction_of_name,
    resembles,
)

YEAR_1900, YEAR_1990, YEAR_2100 = -2_208_988_800, 631_152_000, 4_102_444_800
SMALLEST_COMPACT = 19_000_101
UNITS: dict[TimeUnit, float] = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}
DAY = 86_400


@dataclass(frozen=True)
class Role:
    """The column of a role."""

    column: str | None
    """Name of the column; None if it could not be guessed."""
    choices: Sequence[str] = ()
    """The columns that the user may choose from if it could not be guessed."""


def user_or_item_role(
    profiles: Sequence[ColumnProfile], entity: Literal["user", "item"], shared: Iterable[str] = ()
) -> Role:
    """Return the user column or the item column of a log.

    Args:
        profiles: the log's columns that have no role yet.
        entity: whether to return the user column or the item column.
        shared: columns that also identify the rows of the user table or item table.
    """
    typical_names = USER if entity == "user" else ITEM
    possible = [profile for profile in profiles if profile.kind in ("integer", "text")]
    in_both = [profile for profile in possible if profile.name in set(shared)]
    join_keys = [profile for profile in in_both if time_unit(profile) is None]
    similar = [profile for profile in possible if resembles(profile.name, typical_names)]
    best = (
        _best_by_name(in_both, typical_names)
        or _only_one(join_keys)
        or _best_by_name(possible, typical_names)
        or _only_one(similar)
    )
    if best:
        return Role(best.name)
    most_distinct_first = sorted(possible, key=lambda profile: -profile.distinct)
    return Role(None, [profile.name for profile in most_distinct_first if profile.distinct > 1])


def id_role(profiles: Sequence[ColumnProfile], entity: Literal["user", "item"], log_column: str | None) -> Role:
    """Return the id column of the user table or item table.

    Args:
        profiles: the columns of the table.
        entity: which table it is.
        log_column: the column of the user or item in the event log.
    """
    possible = [profile for profile in profiles if profile.kind in ("integer", "text")]
    typical_names = USER if entity == "user" else ITEM
    unique = [profile for profile in possible if profile.is_unique]
    best = (
        next((profile for profile in possible if profile.name == log_column), None)
        or _best_by_name(possible, typical_names)
        or _best_by_name(possible, ["id"])
        or _only_one(unique)
    )
    return Role(best.name) if best else Role(None, [profile.name for profile in unique or possible])


def time_role(profiles: Sequence[ColumnProfile]) -> Role:
    """Return the time column of a log. Columns with the time of day are preferred to columns of dates."""
    possible = [profile for profile in profiles if time_unit(profile)]
    with_time_of_day = [profile for profile in possible if not are_whole_days(profile)]
    for group in (with_time_of_day, possible):
        named_as_time = [
            profile
            for profile in group
            if has_word(profile.name, TIME_WORDS) and not has_word(profile.name, OTHER_TIME_WORDS)
        ]
        if best := _best_by_name(group, TIME) or _only_one(named_as_time) or _only_one(group):
            return Role(best.name)
    named = [profile for profile in profiles if has_word(profile.name, TIME_WORDS | {"day"})]
    return Role(None, [profile.name for profile in possible or named or profiles])


def label_role(profiles: Sequence[ColumnProfile]) -> Role:
    """Return the label column of an impression log: a column of 0 and 1."""
    possible = [profile for profile in profiles if _is_binary(profile)]
    reactions = [profile for profile in possible if reaction_of_name(profile.name)]
    best = _best_by_name(possible, LABEL) or _only_one(reactions) or _only_one(possible)
    return Role(best.name) if best else Role(None, [profile.name for profile in possible or profiles])


def row_column(profiles: Sequence[ColumnProfile]) -> str | None:
    """Return the column of row ids: integers, none of them missing or repeated."""
    possible = [
        profile for profile in profiles if profile.kind == "integer" and profile.is_unique and not profile.missing
    ]
    best = _best_by_name(possible, ROW)
    return best.name if best else None


def title_column(profiles: Sequence[ColumnProfile]) -> str | None:
    """Return the column of titles."""
    best = _best_by_name([profile for profile in profiles if profile.kind == "text"], TITLE)
    return best.name if best else None


def time_unit(profile: ColumnProfile) -> TimeUnit | None:
    """Return the unit of a column of times; `s` for timestamps, None for values that are no times since 1990."""
    if profile.kind == "timestamp":
        return "s"
    if profile.kind not in ("integer", "number"):
        return None
    low, high = np.quantile(profile.numbers, [0.02, 0.98])
    for name, per_second in UNITS.items():
        if low / per_second >= YEAR_1990 and high / per_second < YEAR_2100:
            return name
    if profile.kind == "integer" and low >= SMALLEST_COMPACT:
        dates = _compact_dates(profile)
        if np.isfinite(dates).all() and dates.min() >= YEAR_1900 and dates.max() < YEAR_2100:
            return "yyyymmdd"
    return None


def seconds_since_1970(profile: ColumnProfile) -> np.ndarray:
    """Return the times of a column in seconds since 1970."""
    unit = time_unit(profile) or "s"
    if unit == "yyyymmdd":
        return _compact_dates(profile)
    return profile.numbers / (1 if profile.kind == "timestamp" else UNITS[unit])


def _compact_dates(profile: ColumnProfile) -> np.ndarray:
    """Return the seconds since 1970 of numbers such as 20251231, NaN for numbers that are no dates."""
    different, index = np.unique(profile.numbers, return_inverse=True)
    times = []
    for number in different:  # most columns of other numbers fail at once
        times.append(parse_compact(f"{number:.0f}"))
        if times[-1] is None:
            return np.full(len(profile.numbers), np.nan)
    return np.array(times, float)[index]


def are_whole_days(profile: ColumnProfile) -> bool:
    """Return whether all times of a column are midnight."""
    return bool((seconds_since_1970(profile) % DAY == 0).all()) and profile.rows > 1


def find_profile(profiles: Sequence[ColumnProfile], column: str | None) -> ColumnProfile | None:
    """Return the profile of a column; None if there is no such column."""
    return next((profile for profile in profiles if profile.name == column), None)


def _is_binary(profile: ColumnProfile) -> bool:
    if profile.kind == "boolean":
        return not profile.stored_as_text
    return profile.kind == "integer" and profile.distinct <= 2 and set(np.unique(profile.numbers)) <= {0.0, 1.0}


def _best_by_name(profiles: Sequence[ColumnProfile], typical_names: Sequence[str]) -> ColumnProfile | None:
    """Return the column whose name comes first among the typical names."""
    ranked = [(rank, profile) for profile in profiles if (rank := rank_among(profile.name, typical_names)) is not None]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _only_one(profiles: Sequence[ColumnProfile]) -> ColumnProfile | None:
    """Return the profile if there is exactly one."""
    return profiles[0] if len(profiles) == 1 else None
