"""What a sample tells about a column."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openlum.data.canonical import LIST_MARK, canonical

Kind = Literal["empty", "boolean", "integer", "number", "text", "moment", "list", "nested"]

# Text that is read as a number or a moment; a leading zero belongs to a code.
NUMBER = r"^[-+]?(0|[1-9]\d*)?(\.\d*)?([eE][-+]?\d+)?$"
MOMENT = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?\s?(Z|UTC|[-+]\d{2}(:?\d{2})?)?$"
TO_THE_SECOND = r"^(.{10}(?:.\d{2}:\d{2}(?::\d{2})?)?).*$"
NEARLY_ALL = 0.995
"""Of the values, for the others to be taken for dirt: `prepare` refuses their rows."""
MOST_ELEMENTS = 1_000_000
"""Of lists, that are counted."""
SHOWN = 40
"""Characters of an example."""


@dataclass(frozen=True)
class Facts:
    """What was seen in a column; the values of a list column are those in its lists."""

    name: str
    """The column."""
    kind: Kind
    """What it holds; numbers and moments may be written as text, and floats without a fraction are integers."""
    rows: int
    """Rows looked at."""
    missing: float = 0.0
    """Part of the rows that is null or empty text."""
    refused: str = ""
    """An example of the values, if there are, that are not of the kind; text: not of the kind that most look like."""
    refused_part: float = 0.0
    """Part of the rows with such a value."""
    distinct: int = 0
    """Different values."""
    common: list[str] = field(default_factory=list)
    """The most frequent values as text."""
    numbers: np.ndarray = field(default_factory=lambda: np.empty(0))
    """integer, number: the values as float64; moment: seconds since 1970."""
    lengths: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """list: how long each is."""
    of_numbers: bool = False
    """list: of fractional numbers."""
    as_text: bool = False
    """In the file it is text."""

    @property
    def filled(self) -> float:
        """How many rows have a value."""
        return self.rows * (1 - self.missing)

    @property
    def unique(self) -> bool:
        """No value is there twice."""
        return self.distinct >= self.filled > 1

    @property
    def words(self) -> float:
        """Words of a frequent value, on average."""
        return sum(len(value.split()) for value in self.common) / max(len(self.common), 1)

    def described(self) -> str:
        """In words, for a comment."""
        if self.kind in ("empty", "nested"):
            return "no value" if self.kind == "empty" else "nested"
        name = {"boolean": "true or false", "integer": "integers", "number": "numbers"}
        parts = [name.get(self.kind, self.kind)]
        if self.kind == "list":
            low, high = int(self.lengths.min()), int(self.lengths.max())
            parts[0] = f"{'vectors' if self.of_numbers else 'lists'} of {low}" + (f" to {high}" if high > low else "")
        elif self.kind == "moment":
            parts[0] = f"{day(self.numbers.min())} to {day(self.numbers.max())}"
        elif len(self.numbers):
            parts[0] += f" {_shown(self.numbers.min())} to {_shown(self.numbers.max())}"
        if not self.of_numbers:
            parts.append(f"{self.distinct:,} distinct value{'s' if self.distinct != 1 else ''}")
        if self.missing:
            parts.append(f"{_percent(self.missing)} missing")
        if self.refused and self.kind == "text":
            parts.append(
                f"most look like numbers or dates, {_percent(self.refused_part)} not, such as {self.refused!r}"
            )
        elif self.refused:
            parts.append(f"{_percent(self.refused_part)} such as {self.refused!r}")
        if self.common and self.kind in ("text", "list") and not self.of_numbers:
            parts.append(f"e.g. {_example(self.common[0])}")
        return ", ".join(parts)


def look(name: str, column: pa.ChunkedArray) -> Facts:
    """Look at the values of a column."""
    rows = len(column)
    array = column.combine_chunks()
    of = array.type
    if pa.types.is_dictionary(of):
        return look(name, column.cast(of.value_type))
    if pa.types.is_string_view(of) or pa.types.is_large_string(of):
        return look(name, column.cast(pa.string()))
    if pa.types.is_string(of):
        array = array.filter(pc.not_equal(array, ""))
    values = array.drop_null()
    seen: dict[str, Any] = {"name": name, "rows": rows, "missing": 1 - len(values) / rows}
    if not len(values):
        return Facts(kind="empty", **seen)
    if pa.types.is_string(of):
        return _look_at_text(values, seen)
    if pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        return _look_at_lists(values, seen)
    if pa.types.is_boolean(of):
        return Facts(kind="boolean", **seen, **_counted(values))
    if pa.types.is_date(of) or pa.types.is_timestamp(of):
        micros = values.cast(pa.timestamp("us", of.tz if pa.types.is_timestamp(of) else None), safe=False)
        return Facts(kind="moment", **seen, **_counted(values), numbers=micros.cast(pa.int64()).to_numpy() / 1e6)
    if pa.types.is_integer(of) or pa.types.is_floating(of) or pa.types.is_decimal(of):
        return _look_at_numbers(values, seen)
    return Facts(kind="nested", **seen)


def day(second: float) -> str:
    """The date of a second since 1970."""
    return datetime.fromtimestamp(float(np.clip(second, 0, 4e9)), UTC).date().isoformat()


def _look_at_numbers(values: pa.Array, seen: dict[str, Any]) -> Facts:
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    finite = np.isfinite(numbers)
    if not finite.all():
        part = float((~finite).sum() / seen["rows"])
        seen |= {"refused": str(numbers[~finite][0]), "refused_part": part}
        numbers, values = numbers[finite], values.filter(pa.array(finite))
    if not len(numbers):
        return Facts(kind="empty", **seen)
    kind: Kind = "integer" if (numbers == np.floor(numbers)).all() else "number"
    return Facts(kind=kind, **seen, **_counted(values), numbers=numbers)


def _look_at_text(values: pa.Array, seen: dict[str, Any]) -> Facts:
    """Text may be written numbers, moments or lists."""
    seen = seen | {"as_text": True}
    for pattern in (NUMBER, MOMENT):
        fits = pc.match_substring_regex(values, pattern)
        part = fits.true_count / len(values)
        found = dict(seen)
        if 0.5 < part < 1:
            odd = values.filter(pc.invert(fits))
            found |= {"refused": _example(odd[0].as_py()), "refused_part": (1 - part) * len(values) / seen["rows"]}
        if part >= NEARLY_ALL:
            kept = values.filter(fits)
            if pattern == NUMBER:
                return _look_at_numbers(pc.cast(kept, pa.float64()), found)
            try:
                moments = pc.cast(pc.replace_substring_regex(kept, TO_THE_SECOND, r"\1"), pa.timestamp("s"))
            except pa.ArrowInvalid:
                continue  # there is no 30th of February
            return Facts(kind="moment", **found, **_counted(kept), numbers=moments.cast(pa.int64()).to_numpy())
        seen = found
    if pc.mean(pc.match_substring(values, LIST_MARK)).as_py() > 0.05:
        return _look_at_lists(pc.split_pattern(values, LIST_MARK), seen)
    return Facts(kind="text", **seen, **_counted(values))


def _look_at_lists(values: pa.Array, seen: dict[str, Any]) -> Facts:
    lengths = pc.list_value_length(values).to_numpy()
    some = values[: max(1, int((lengths.cumsum() <= MOST_ELEMENTS).sum()))]
    inner = look(seen["name"], pa.chunked_array([pc.list_flatten(some)])) if lengths[: len(some)].sum() else None
    if inner is None or inner.kind == "nested":
        return Facts(kind="empty" if inner is None else "nested", **seen)
    return Facts(
        kind="list",
        **seen,
        distinct=inner.distinct,
        common=inner.common,
        lengths=lengths,
        of_numbers=inner.kind == "number",
    )


def _counted(values: pa.Array) -> dict[str, Any]:
    counts = pc.value_counts(values)
    top = pc.select_k_unstable(counts.field("counts"), min(50, len(counts)), [("", "descending")])
    common = [canonical(value) or "" for value in counts.field("values").take(top).to_pylist()]
    return {"distinct": len(counts), "common": common}


def _shown(number: float) -> str:
    return f"{number:.0f}" if number == np.floor(number) and abs(number) < 1e15 else f"{number:.4g}"


def _percent(part: float) -> str:
    return "under 0.1%" if part < 0.001 else f"{part:.1%}"


def _example(value: str) -> str:
    value = re.sub(r"\s+", " ", value)
    return value if len(value) <= SHOWN else value[: SHOWN - 3] + "..."
