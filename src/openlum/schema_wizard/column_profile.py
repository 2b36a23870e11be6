"""Profile of one sampled column: kind, range, frequent and missing values."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openlum.data.canonical import LIST_MARK, canonical_text
from openlum.file_format import DateOrder
from openlum.prepare.time_expression import DAY_FIRST, ORDERED, parse_time

Kind = Literal["empty", "boolean", "integer", "number", "text", "timestamp", "list", "nested"]

# Text that is read as a number or a timestamp. A text with a leading zero is a code and no number.
NUMBER = r"^[-+]?(0|[1-9]\d*)?(\.\d*)?([eE][-+]?\d+)?$"
TIMESTAMP = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?\s?(Z|UTC|[-+]\d{2}(:?\d{2})?)?$"
TO_THE_SECOND = r"^(.{10}(?:.\d{2}:\d{2}(?::\d{2})?)?).*$"
MIN_VALID_FRACTION = 0.995
"""A text column has a kind if at least this fraction of its values fits; `prepare` rejects the rows of the other values."""
MAX_ELEMENTS = 1_000_000
"""How many elements of a list column are counted at most."""
EXAMPLE_LENGTH = 40
"""Longest example value, in characters."""


@dataclass(frozen=True)
class ColumnProfile:
    """What a sample shows of a column. The values of a list column are the elements of its lists."""

    name: str
    """Name of the column."""
    kind: Kind
    """Kind of the values. Numbers and timestamps may be stored as text; floats without a fraction are integers."""
    rows: int
    """Rows in the sample."""
    missing: float = 0.0
    """Fraction of the rows that are null or empty text."""
    invalid_example: str = ""
    """An example value that does not have the column's kind (for text: the kind of most values), if there is one."""
    invalid: float = 0.0
    """Fraction of the rows with such a value."""
    distinct: int = 0
    """Number of distinct values."""
    frequent: list[str] = field(default_factory=list)
    """The most frequent values as text."""
    numbers: np.ndarray = field(default_factory=lambda: np.empty(0))
    """integer, number: the values as float64; timestamp: seconds since 1970."""
    lengths: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """list: the length of each list."""
    has_fractions: bool = False
    """list: the elements are numbers with a fraction."""
    stored_as_text: bool = False
    """The file has the values as text."""
    date_order: DateOrder | Literal["???"] | None = None
    """timestamp: the order of day and month where both are numbers before the year; `???` if both orders are possible."""
    date_example: str = ""
    """timestamp: the value that shows the order, or any value if none does."""

    @property
    def filled_rows(self) -> float:
        """Number of rows with a value."""
        return self.rows * (1 - self.missing)

    @property
    def is_unique(self) -> bool:
        """Whether no value is repeated."""
        return self.distinct >= self.filled_rows > 1

    @property
    def words_per_value(self) -> float:
        """Average number of words in the frequent values."""
        return sum(len(value.split()) for value in self.frequent) / max(len(self.frequent), 1)

    def description(self) -> str:
        """Return the profile in words, for a comment."""
        if self.kind in ("empty", "nested"):
            return "no value" if self.kind == "empty" else "nested"
        name = {"boolean": "true or false", "integer": "integers", "number": "numbers"}
        parts = [name.get(self.kind, self.kind)]
        if self.kind == "list":
            low, high = int(self.lengths.min()), int(self.lengths.max())
            kind = "vectors" if self.has_fractions else "lists"
            parts[0] = f"{kind} of length {low}" + (f" to {high}" if high > low else "")
        elif self.kind == "timestamp":
            parts[0] = f"{iso_date(self.numbers.min())} to {iso_date(self.numbers.max())}"
        elif len(self.numbers):
            parts[0] += f" {_format_number(self.numbers.min())} to {_format_number(self.numbers.max())}"
        if not self.has_fractions:
            parts.append(f"{self.distinct:,} distinct value{'s' if self.distinct != 1 else ''}")
        if self.missing:
            parts.append(f"{_format_percent(self.missing)} missing")
        if self.invalid_example and self.kind == "text":
            parts.append(
                f"most look like numbers or dates but {_format_percent(self.invalid)} do not, "
                f"such as {self.invalid_example!r}"
            )
        elif self.invalid_example:
            parts.append(f"{_format_percent(self.invalid)} invalid, such as {self.invalid_example!r}")
        if self.frequent and self.kind in ("text", "list") and not self.has_fractions:
            parts.append(f"e.g. {_shorten(self.frequent[0])}")
        return ", ".join(parts)


def profile_column(name: str, column: pa.ChunkedArray) -> ColumnProfile:
    """Return the profile of a column from its sampled values."""
    rows = len(column)
    array = column.combine_chunks()
    arrow_type = array.type
    if pa.types.is_dictionary(arrow_type):
        return profile_column(name, column.cast(arrow_type.value_type))
    if pa.types.is_string_view(arrow_type) or pa.types.is_large_string(arrow_type):
        return profile_column(name, column.cast(pa.string()))
    if pa.types.is_string(arrow_type):
        array = array.filter(pc.not_equal(array, ""))
    values = array.drop_null()
    profile: dict[str, Any] = {"name": name, "rows": rows, "missing": 1 - len(values) / rows}
    if not len(values):
        return ColumnProfile(kind="empty", **profile)
    if pa.types.is_string(arrow_type):
        return _profile_text(values, profile)
    if pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type) or pa.types.is_fixed_size_list(arrow_type):
        return _profile_lists(values, profile)
    if pa.types.is_boolean(arrow_type):
        return ColumnProfile(kind="boolean", **profile, **_count_values(values))
    if pa.types.is_date(arrow_type) or pa.types.is_timestamp(arrow_type):
        zone = arrow_type.tz if pa.types.is_timestamp(arrow_type) else None
        micros = values.cast(pa.timestamp("us", zone), safe=False)
        numbers = micros.cast(pa.int64()).to_numpy() / 1e6
        return ColumnProfile(kind="timestamp", **profile, **_count_values(values), numbers=numbers)
    if pa.types.is_integer(arrow_type) or pa.types.is_floating(arrow_type) or pa.types.is_decimal(arrow_type):
        return _profile_numbers(values, profile)
    return ColumnProfile(kind="nested", **profile)


def iso_date(second: float) -> str:
    """Return the date of a time in seconds since 1970, as YYYY-MM-DD."""
    return datetime.fromtimestamp(float(np.clip(second, -6e10, 2.5e11)), UTC).date().isoformat()


def _profile_numbers(values: pa.Array, profile: dict[str, Any]) -> ColumnProfile:
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    finite = np.isfinite(numbers)
    if not finite.all():
        invalid = float((~finite).sum() / profile["rows"])
        profile |= {"invalid_example": str(numbers[~finite][0]), "invalid": invalid}
        numbers, values = numbers[finite], values.filter(pa.array(finite))
    if not len(numbers):
        return ColumnProfile(kind="empty", **profile)
    kind: Kind = "integer" if (numbers == np.floor(numbers)).all() else "number"
    return ColumnProfile(kind=kind, **profile, **_count_values(values), numbers=numbers)


def _profile_text(values: pa.Array, profile: dict[str, Any]) -> ColumnProfile:
    """Return the profile of a text column, whose texts may be written numbers, timestamps or lists."""
    profile = profile | {"stored_as_text": True}
    for pattern in (NUMBER, TIMESTAMP):
        fits = pc.match_substring_regex(values, pattern)
        fraction = fits.true_count / len(values)
        candidate = dict(profile)
        if 0.5 < fraction < 1:
            invalid_values = values.filter(pc.invert(fits))
            candidate |= {
                "invalid_example": _shorten(invalid_values[0].as_py()),
                "invalid": (1 - fraction) * len(values) / profile["rows"],
            }
        if fraction >= MIN_VALID_FRACTION:
            valid = values.filter(fits)
            if pattern == NUMBER:
                return _profile_numbers(pc.cast(valid, pa.float64()), candidate)
            try:
                times = pc.cast(pc.replace_substring_regex(valid, TO_THE_SECOND, r"\1"), pa.timestamp("s"))
            except pa.ArrowInvalid:
                continue  # the pattern also fits dates that do not exist, such as 30 February
            numbers = times.cast(pa.int64()).to_numpy()
            return ColumnProfile(kind="timestamp", **candidate, **_count_values(valid), numbers=numbers)
        profile = candidate
    if times := _profile_spelled_times(values, profile):
        return times
    if pc.mean(pc.match_substring(values, LIST_MARK)).as_py() > 0.05:
        return _profile_lists(pc.split_pattern(values, LIST_MARK), profile)
    return ColumnProfile(kind="text", **profile, **_count_values(values))


def _profile_spelled_times(values: pa.Array, profile: dict[str, Any]) -> ColumnProfile | None:
    """Return the profile of a column of times that are not ISO 8601, such as 01-Jan-1995; None if it has no such times."""
    encoded = values.dictionary_encode()
    texts, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    numbers = np.bincount(codes)
    probe = texts[:: max(1, len(texts) // 200)]
    if (
        sum(parse_time(text, "dmy") is not None or parse_time(text, "mdy") is not None for text in probe)
        < len(probe) / 2
    ):
        return None
    parsed = {order: [parse_time(text, order) for text in texts] for order in ORDERED}
    fits = {order: np.array([time is not None for time in times]) for order, times in parsed.items()}
    valid = {order: mask for order, mask in fits.items() if numbers[mask].sum() >= MIN_VALID_FRACTION * numbers.sum()}
    if not valid:
        return None
    order = next(iter(valid))
    ordered = [index for index, text in enumerate(texts) if re.match(DAY_FIRST, text.strip())]
    shown, example = None, ""
    if ordered:
        certain = [index for index in ordered if fits["dmy"][index] != fits["mdy"][index]]
        shown = order if len(valid) == 1 else "???"
        example = texts[(certain or ordered)[0]]
    mask = valid[order]
    invalid = numbers[~mask].sum()
    if invalid:
        profile = profile | {
            "invalid_example": _shorten(texts[int(np.flatnonzero(~mask)[0])]),
            "invalid": float(invalid / profile["rows"]),
        }
    seconds = np.array([time or 0.0 for time in parsed[order]])[codes][mask[codes]]
    most = np.argsort(-numbers, kind="stable")[:50]
    return ColumnProfile(
        kind="timestamp",
        **profile,
        distinct=int(mask.sum()),
        frequent=[texts[index] for index in most],
        numbers=seconds,
        date_order=shown,
        date_example=example,
    )


def _profile_lists(values: pa.Array, profile: dict[str, Any]) -> ColumnProfile:
    lengths = pc.list_value_length(values).to_numpy()
    counted = values[: max(1, int((lengths.cumsum() <= MAX_ELEMENTS).sum()))]
    has_elements = lengths[: len(counted)].sum()
    elements = profile_column(profile["name"], pa.chunked_array([pc.list_flatten(counted)])) if has_elements else None
    if elements is None or elements.kind == "nested":
        return ColumnProfile(kind="empty" if elements is None else "nested", **profile)
    return ColumnProfile(
        kind="list",
        **profile,
        distinct=elements.distinct,
        frequent=elements.frequent,
        lengths=lengths,
        has_fractions=elements.kind == "number",
    )


def _count_values(values: pa.Array) -> dict[str, Any]:
    """Return the number of distinct values and the 50 most frequent ones as text."""
    counts = pc.value_counts(values)
    top = pc.select_k_unstable(counts.field("counts"), min(50, len(counts)), [("", "descending")])
    frequent = [canonical_text(value) or "" for value in counts.field("values").take(top).to_pylist()]
    return {"distinct": len(counts), "frequent": frequent}


def _format_number(number: float) -> str:
    return f"{number:.0f}" if number == np.floor(number) and abs(number) < 1e15 else f"{number:.4g}"


def _format_percent(fraction: float) -> str:
    return "under 0.1%" if fraction < 0.001 else f"{fraction:.1%}"


def _shorten(value: str) -> str:
    value = re.sub(r"\s+", " ", value)
    return value if len(value) <= EXAMPLE_LENGTH else value[: EXAMPLE_LENGTH - 3] + "..."
