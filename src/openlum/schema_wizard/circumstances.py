"""Columns that are called like a reaction but are circumstances of the event, which are known before the item is shown."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openlum.schema_wizard.column_profile import ColumnProfile
from openlum.schema_wizard.fields import MAX_CODES, has_actions, reaction_of_column
from openlum.schema_wizard.name_hints import LABEL, RATINGS, rank_among, split_words
from openlum.schema_wizard.roles import Role, find_profile, label_role, seconds_since_1970, time_unit
from openlum.schema_wizard.table_profile import TableProfile

MIN_PAIRS = 30
"""At least this many pairs of neighbouring rows are needed to see whether a value lasts."""
LASTING = 0.6
"""A value lasts if this part of the neighbours agree that chance does not explain (Cohen's kappa)."""
SESSION = 3600
"""Rows of a user within this many seconds are neighbours."""
BINS = 10
MAX_DISTANCE = 0.5
"""A column tells the label if its distributions for label 0 and 1 differ by more than this (total variation, 0 to 1)."""


def find_circumstances(
    table: TableProfile, roles: Mapping[str, Role], impressions: TableProfile | None = None
) -> dict[str, str]:
    """Return the columns of a log that are no reaction although they are called so, each with the reason in words.

    Args:
        table: the log.
        roles: its columns of `user`, `item` and `time`.
        impressions: the impression log, if it is another table than the log.
    """
    used = {role.column for role in roles.values()}
    candidates = [p for p in table.columns if p.name not in used and reaction_of_column(p) and not _is_certain(p)]
    neighbours = _neighbours(table, roles) if candidates else None
    label = _label(impressions, roles) if impressions and candidates else None
    reasons = {}
    for profile in candidates:
        values = table.sample.table[profile.name]
        kappa, agreeing = _agreement(values, neighbours)
        if impressions and find_profile(impressions.columns, profile.name):
            if profile.name != label and not (label and _tells_label(impressions, profile.name, label)):
                reasons[profile.name] = "no feedback: it is a column of the impressions too, so it is known beforehand"
        elif kappa >= LASTING:
            reasons[profile.name] = (
                f"guess: no feedback, since {agreeing:.0%} of a user's rows have the value of the row before"
            )
    return reasons


def _is_certain(profile: ColumnProfile) -> bool:
    """Return whether a column is certainly a reaction: by its whole name, or by the names of actions in it."""
    is_rating = set(split_words(profile.name)) <= RATINGS
    return rank_among(profile.name, LABEL) is not None or is_rating or has_actions(profile)


def _neighbours(table: TableProfile, roles: Mapping[str, Role]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the rows of each pair of successive rows of a user; None if the user or the time is not known."""
    time = find_profile(table.columns, roles["time"].column)
    if roles["user"].column is None or time is None or time_unit(time) is None:
        return None
    user = value_codes(table.sample.table[roles["user"].column])
    seconds = seconds_since_1970(time)
    if len(seconds) != len(user):  # some times are missing, so the rows are not known
        seconds = np.zeros(len(user))
    order = np.lexsort((seconds, user))
    first, second = order[:-1], order[1:]
    near = (user[first] == user[second]) & (seconds[second] - seconds[first] <= SESSION)
    return first[near], second[near]


def _agreement(values: pa.ChunkedArray, neighbours: tuple[np.ndarray, np.ndarray] | None) -> tuple[float, float]:
    """Return Cohen's kappa and the fraction of neighbours with equal values; 0 if there are too few neighbours."""
    if neighbours is None or len(neighbours[0]) < MIN_PAIRS:
        return 0.0, 0.0
    codes = value_codes(values)
    first, second = codes[neighbours[0]], codes[neighbours[1]]
    agreeing = float((first == second).mean())
    chance = float(
        (np.bincount(first) / len(first)) @ np.bincount(second, minlength=first.max() + 1)[: first.max() + 1]
    )
    chance /= len(second)
    return ((agreeing - chance) / (1 - chance) if chance < 1 else 0.0), agreeing


def _label(impressions: TableProfile, roles: Mapping[str, Role]) -> str | None:
    return label_role(impressions.columns_except(*(role.column for role in roles.values()))).column


def _tells_label(impressions: TableProfile, column: str, label: str) -> bool:
    """Return whether the values of a column differ so much between the labels that it must be known after them."""
    labels, values = impressions.sample.table[label], impressions.sample.table[column]
    known = pc.is_valid(labels)
    positive = np.isin(pc.cast(labels.filter(known), pa.string()).to_pylist(), ["1", "1.0", "true", "True"])
    if positive.all() or not positive.any():
        return False
    codes = value_codes(values)[known.to_numpy()]
    if len(np.unique(codes)) > MAX_CODES:
        profile = find_profile(impressions.columns, column)
        if profile is None or len(profile.numbers) != len(codes):
            return False
        numbers = profile.numbers[known.to_numpy()]
        codes = np.searchsorted(np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1]), numbers)
    counts = [np.bincount(codes[mask], minlength=codes.max() + 1) / mask.sum() for mask in (positive, ~positive)]
    return float(np.abs(counts[0] - counts[1]).sum() / 2) > MAX_DISTANCE


def value_codes(values: pa.ChunkedArray) -> np.ndarray:
    """Return a number for each value, missing values included."""
    encoded = values.combine_chunks().dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy(zero_copy_only=False)
