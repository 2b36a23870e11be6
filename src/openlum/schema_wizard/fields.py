"""The proposed field of a column: its type and settings, and whether it should be used at all."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from openlum.data.canonical import LIST_MARK
from openlum.schema_wizard.column_profile import MIN_VALID_FRACTION, ColumnProfile
from openlum.schema_wizard.name_hints import (
    ACTIONS,
    AMOUNTS,
    CLOCK,
    CODES,
    OTHER_TIME_WORDS,
    ROW,
    TIME_WORDS,
    TRANSIENT,
    Table,
    has_word,
    rank_among,
    reaction_of_name,
    split_words,
)
from openlum.schema_wizard.roles import time_unit

MAX_CODES = 50
"""Integers with at most this many distinct values are codes rather than amounts."""
MANY_CATEGORIES = 1_000
"""Categorical columns with more distinct values than this get a hint at rare values."""
MIN_ROWS_FOR_UNIQUENESS = 50
"""Minimum number of rows at which 'all values are different' is meaningful."""
MAX_LIST_VALUES = 50
"""Largest `max_values` that is proposed for a list."""


@dataclass(frozen=True)
class ProposedField:
    """A proposed field."""

    name: str
    """Name of the field in the schema."""
    profile: ColumnProfile
    """Profile of its column."""
    settings: dict[str, Any]
    """Key to value, the type first."""
    comments: dict[str, str] = field(default_factory=dict)
    """Key to a comment. A key that is not in `settings` is an alternative, which is written commented out: 'VALUE  # REASON'."""
    reason_commented_out: str = ""
    """Reason to write the field as a comment; empty if the field is active."""

    @property
    def feedback(self) -> bool:
        """Whether the field is the user's reaction."""
        return bool(self.settings.get("feedback"))


def propose_fields(
    columns: Sequence[ColumnProfile], table: Table, circumstances: Mapping[str, str] = MappingProxyType({})
) -> list[ProposedField]:
    """Return a field with a unique name for each column of one of the tables.

    Args:
        columns: the columns that have no other role.
        table: which table it is.
        circumstances: columns of a log that are no reaction although they are called so, each with the reason.
    """
    fields: dict[str, ProposedField] = {}
    for profile in columns:
        name = base_name = _field_name(profile.name, table)
        while name in fields:
            name = f"{base_name}_{len(fields)}"
        fields[name] = _propose_field(profile, table, name, circumstances.get(profile.name, ""))
    return list(fields.values())


def _propose_field(profile: ColumnProfile, table: Table, name: str, no_reaction: str) -> ProposedField:
    settings, comments = _encoding(profile)
    if name != profile.name:
        settings["column"] = profile.name
        comments["column"] = "the column; its name is in use or has characters that a field's name cannot have"
    reaction = reaction_of_column(profile) if table in ("events", "impressions") and not no_reaction else None
    if no_reaction:
        comments["type"] = no_reaction
    if table == "events" and reaction:
        if (
            profile.kind == "number"
            and profile.distinct <= MAX_CODES
            and has_word(profile.name, {"rating", "score", "stars", "overall"})
        ):
            settings = {"type": "categorical"} | {k: v for k, v in settings.items() if k == "column"}
        settings["feedback"] = True
        comments["feedback"] = f"guess: {reaction}, which is unknown when an item is ranked"
    elif table == "events" and has_word(profile.name, {"duration", "seconds", "percent"}):
        comments["type"] = "if this is how long the user stayed, add 'feedback: true'"
    reason_commented_out = _reason_useless(profile, settings["type"])
    if not reason_commented_out and table in ("events", "impressions"):
        reason_commented_out = _reason_tied_to_row(profile)
    if (
        not reason_commented_out
        and settings.get("feedback")
        and profile.kind == "text"
        and profile.distinct > MAX_CODES
    ):
        reason_commented_out = f"guess: {reaction}, but in too many values to predict each of them"
    if not reason_commented_out and table == "impressions" and reaction:
        reason_commented_out = f"guess: {reaction}, which would leak the label"
    return ProposedField(name, profile, settings, comments, reason_commented_out)


def _encoding(profile: ColumnProfile) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the settings of a field, the type first, and comments on them."""
    match profile.kind:
        case "timestamp" if profile.date_order:
            return {"type": "time", "date_order": profile.date_order}, {"date_order": date_order_reason(profile)}
        case "timestamp":
            return {"type": "time"}, {}
        case "integer" if (unit := time_unit(profile)) and has_word(
            profile.name, TIME_WORDS | OTHER_TIME_WORDS | CLOCK
        ):
            return {"type": "time", "time_unit": unit}, {"time_unit": "guess from the size of the numbers"}
        case "list":
            return _list_encoding(profile)
        case "number":
            return _numeric_encoding(profile)
        case "integer" if not _are_codes(profile):
            return _numeric_encoding(profile)
    comments = {}
    if separator := _list_separator(profile):
        comments["type"] = (
            f"if these are lists joined by '{separator}', join them by '{LIST_MARK}' or write Parquet lists to use multi"
        )
    if profile.distinct > MANY_CATEGORIES:
        comments["min_count"] = "5  # values that occur less often become unknown"
        comments["hash_rows"] = f"{_hash_rows(profile.distinct)}  # values are hashed to this many ids, no vocabulary"
    return {"type": "categorical"}, comments


def date_order_reason(profile: ColumnProfile) -> str:
    """Return in words what shows the order of day and month in a column of dates."""
    if profile.date_order == "???":
        return f"choose dmy or mdy: {profile.date_example} and all other values can be read either way"
    words = {"dmy": "day before month", "mdy": "month before day"}[profile.date_order or "dmy"]
    return f"{words}, as {profile.date_example} shows"


def _are_codes(profile: ColumnProfile) -> bool:
    """Return whether the integers of a column are codes and not amounts."""
    if has_word(profile.name, AMOUNTS) and not has_word(profile.name, {"id", "type", "code"}):
        return profile.distinct <= 5
    return profile.distinct <= MAX_CODES or has_word(profile.name, CODES)


def _numeric_encoding(profile: ColumnProfile) -> tuple[dict[str, Any], dict[str, str]]:
    deviation = profile.numbers.std()
    skewness = ((profile.numbers - profile.numbers.mean()) ** 3).mean() / deviation**3 if deviation else 0.0
    if profile.distinct > MAX_CODES and abs(skewness) > (1 if has_word(profile.name, AMOUNTS) else 2):
        comments = {"buckets": "the values are very skewed; without buckets, they are standardised"}
        return {"type": "numeric", "buckets": 20}, comments
    is_dense = profile.kind == "integer" and profile.distinct > 0.9 * (np.ptp(profile.numbers) + 1)
    may_be_codes = is_dense and not has_word(profile.name, AMOUNTS)
    return {"type": "numeric"}, {"type": "if these are codes and not amounts: categorical"} if may_be_codes else {}


def _list_encoding(profile: ColumnProfile) -> tuple[dict[str, Any], dict[str, str]]:
    lengths = profile.lengths
    if profile.has_fractions:
        return {"type": "vector", "width": int(lengths.max())}, {}
    max_values = int(np.clip(np.quantile(lengths, 0.99, method="higher"), 1, MAX_LIST_VALUES))
    comments = {"max_values": f"99 % of the rows have no more values; the longest list has {lengths.max()}"}
    if lengths.min() == lengths.max() > 8:
        comments["type"] = f"if this is an embedding: type: vector, width: {max_values}"
    elif profile.distinct > MANY_CATEGORIES:
        comments["min_count"] = "5  # values that occur less often become unknown"
    return {"type": "multi", "max_values": max_values}, comments


def _list_separator(profile: ColumnProfile) -> str | None:
    """Return the comma or semicolon that seems to separate the values of lists written as text; None if neither does."""
    texts = [value for value in profile.frequent if profile.kind == "text" and not value.startswith(("[", "("))]
    separators = (mark for mark in ",;" if sum(mark in value for value in texts) > 0.1 * len(texts))
    return next(separators, None)


def _reason_useless(profile: ColumnProfile, field_type: str) -> str:
    """Return why a column cannot be used as it is; empty if it can."""
    nearly_unique = profile.distinct > 0.9 * profile.filled_rows and profile.filled_rows >= MIN_ROWS_FOR_UNIQUENESS
    if profile.kind == "empty":
        return "the column has no value"
    if profile.kind == "nested":
        return "`lum prepare` does not read nested types; write the parts as separate columns"
    if not profile.name or profile.name.lower().startswith(("unnamed", "__index")):
        return "the number of the row"
    if profile.kind == "list":
        if profile.has_fractions and profile.lengths.min() != profile.lengths.max():
            return "vectors need lists of one length; these lists have different lengths"
        return ""
    if profile.distinct == 1:
        return f"the only value is {profile.frequent[0]!r}" if profile.frequent else "there is only one value"
    if field_type == "numeric" and profile.invalid > 1 - MIN_VALID_FRACTION:
        return f"rows with {profile.invalid_example!r} are rejected: write null instead, or leave the value empty"
    if profile.kind == "text":
        is_varied = profile.distinct > 0.2 * profile.filled_rows and profile.distinct > MAX_CODES
        if profile.words_per_value >= 5 and is_varied:
            return "free text: compute an embedding and add it as a vector"
        if profile.invalid_example and profile.distinct > MAX_CODES and not _list_separator(profile):
            return "to use it as numbers or dates, write null instead of the other values, or leave them empty"
        return "nearly every row has a different value" if nearly_unique else ""
    if nearly_unique and profile.is_unique and _are_codes(profile):
        return "every row has a different value"
    return ""


def _reason_tied_to_row(profile: ColumnProfile) -> str:
    """Return why a column says nothing about later events or impressions; empty if it may."""
    if profile.kind == "timestamp" or has_word(profile.name, CLOCK):
        return "the time fields below already encode the time"
    is_unique = profile.is_unique and profile.filled_rows >= MIN_ROWS_FOR_UNIQUENESS
    is_row_id = rank_among(profile.name, ROW) is not None or has_word(profile.name, CODES)
    if profile.kind == "integer" and is_unique and is_row_id:
        return "every row has a different value"
    if has_word(profile.name, TRANSIENT):
        is_key = split_words(profile.name)[-1] in {"id", "key"}
        if is_key or profile.distinct > 0.1 * profile.filled_rows:
            return "an id that does not recur"
    return ""


def reaction_of_column(profile: ColumnProfile) -> str | None:
    """Return which kind of user reaction a column seems to hold, in words; None if it seems to hold none."""
    if profile.kind in ("timestamp", "list", "nested", "empty"):
        return None
    if reaction := reaction_of_name(profile.name):
        return reaction
    return "the user's action, by its values" if has_actions(profile) else None


def has_actions(profile: ColumnProfile) -> bool:
    """Return whether the values of a column are names of actions."""
    spellings = {word for value in profile.frequent for word in (value.lower(), value.lower().removesuffix("s"))}
    spellings = {re.sub(r"[^a-z]", "", word) for word in spellings}
    is_short_text = profile.kind == "text" and profile.distinct <= MAX_CODES
    return is_short_text and len(spellings & ACTIONS) * 2 >= min(profile.distinct, 4)


def _field_name(column: str, table: Table) -> str:
    """Return a name that a schema accepts. It becomes part of a file name."""
    allowed = "".join(
        character if character.isalpha() or character.isdecimal() or character in "_ .-" else "?"
        for character in column
    )
    name = re.sub(r"\?+", "_", allowed).strip() or "unnamed"
    reserved = {"item", "time", "hour", "weekday", "gap"} if table in ("events", "impressions") else set()
    return f"{name}_column" if name in reserved else name


def _hash_rows(distinct: int) -> int:
    """Return a power of two that is at least 8 times the number of distinct values in the sample, at most 2**22."""
    return int(min(2 ** np.ceil(np.log2(distinct * 8)), 2**22))
