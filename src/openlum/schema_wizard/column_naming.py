"""Names for the columns of a file without a header, guessed from their values."""

from collections.abc import Sequence
from dataclasses import replace

from openlum.schema_wizard.column_profile import ColumnProfile
from openlum.schema_wizard.name_hints import Table
from openlum.schema_wizard.roles import are_whole_days, time_unit

MIN_IDS = 10
"""Ids have at least this many distinct values in a log, if it has so many rows."""
HIGHEST_RATING = 10


def name_columns(profiles: Sequence[ColumnProfile], table: Table) -> list[str]:
    """Return a name for each column: of its likely role, or column_1, column_2 and so on.

    In a log, the user comes before the item. In an item or user table, the first column without a repetition is the id.
    """
    names = [f"column_{number}" for number in range(1, len(profiles) + 1)]

    def first(role: str, candidates: Sequence[int]) -> None:
        """Give a role to the first candidate that has no role yet."""
        free = [index for index in candidates if names[index].startswith("column_")]
        if free:
            names[free[0]] = role

    times = [index for index, profile in enumerate(profiles) if time_unit(profile)]
    with_time_of_day = [index for index in times if not are_whole_days(profiles[index])]
    scalars = [index for index, profile in enumerate(profiles) if profile.kind in ("integer", "text")]
    if table in ("items", "users"):
        first(f"{table[:-1]}_id", [index for index in scalars if profiles[index].is_unique])
        if table == "items":
            texts = [index for index in scalars if profiles[index].kind == "text"]
            first("title", [index for index in texts if profiles[index].distinct > 0.5 * profiles[index].filled_rows])
        first("date", times)
        return names
    first("timestamp", with_time_of_day or times)
    ids = [index for index in scalars if index not in times]
    for role in ("user_id", "item_id"):
        first(role, [index for index in ids if _may_be_ids(profiles[index])])
    if table == "impressions":
        first("label", [index for index, profile in enumerate(profiles) if set(profile.numbers) == {0.0, 1.0}])
    first("rating", [index for index, profile in enumerate(profiles) if _may_be_ratings(profile)])
    return names


def with_names(profiles: Sequence[ColumnProfile], names: Sequence[str]) -> list[ColumnProfile]:
    """Return the profiles under other names."""
    return [replace(profile, name=name) for profile, name in zip(profiles, names, strict=True)]


def _may_be_ids(profile: ColumnProfile) -> bool:
    return profile.distinct >= min(MIN_IDS, profile.rows / 2) and not profile.missing


def _may_be_ratings(profile: ColumnProfile) -> bool:
    """Return whether a column has a few numbers from 0 to 10, whole or half, and more than two."""
    if profile.kind not in ("integer", "number") or profile.distinct < 3:
        return False
    return (
        profile.numbers.min() >= 0 and profile.numbers.max() <= HIGHEST_RATING and not (profile.numbers * 2 % 1).any()
    )
