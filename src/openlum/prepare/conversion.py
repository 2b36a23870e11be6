"""Conversion of the columns of files to text, numbers, times or lists of one type.

Every conversion keeps missing values (null, empty text) and reports where a value is not of the expected kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import ibis

from openlum.data.canonical import LIST_MARK
from openlum.file_format import DateOrder, TimeUnit
from openlum.prepare.canonical_expression import LARGEST_FLOAT, canonical_expression, is_inexact
from openlum.prepare.time_expression import (
    DAY_FIRST,
    NEEDS_DATE_ORDER,
    epoch_us,
    is_ordered_date,
    time_of_number,
    time_of_text,
)
from openlum.schema import Feature

Kind = Literal["identity", "categorical", "multi", "numeric", "vector", "time", "row_time", "label", "row", "title"]

SECOND = 1_000_000
"""A second in microseconds, the unit in which times are compared."""
DAY = 86_400 * SECOND
TICKS = {"s": SECOND, "ms": 1_000, "us": 1, "ns": 0.001}
"""Microseconds in each time unit of the schema that counts from 1970."""
_WITH_DECIMALS = ("numeric", "categorical", "label", "row_time")
_LARGEST_NUMBER = 1e37  # fits into float32
_LATEST_TIME = 9 * 10**15  # microseconds; still exact as a float, and centuries in the future

_EXPECTED = {
    "identity": "a single value (text or a number)",
    "categorical": "a single value (text or a number)",
    "multi": f"a list of values (in CSV: joined by '{LIST_MARK}')",
    "numeric": "a finite number",
    "vector": "a list of {size} finite numbers",
    "time": "a timestamp",
    "row_time": "a timestamp, or a number of the schema's 'time_unit' since 1970",
    "label": "0 or 1",
    "row": "a whole number",
    "title": "a single value (text or a number)",
}


@dataclass(frozen=True)
class Column:
    """A column that the schema names.

    Attributes:
        role: the name in the dataset, such as `user`, `time` or `condition.rating`.
        name: the name in the file.
        kind: the kind of values that it must hold. `identity` is the id of a user or an item, `row_time` the time of a row, and
            `time` a feature.
        size: multi: how many values are kept; vector: the width.
        minimum: numeric: the smallest accepted value.
        maximum: numeric: the largest accepted value.
        time_unit: time, row_time: the unit of numbers; None if numbers are no times.
        spellings: time, row_time: patterns of the spellings of times besides ISO 8601 that occur in the column.
        date_order: time, row_time: the order of day and month in dates of numbers.
        decimal_comma: numbers in text have a decimal comma.
    """

    role: str
    name: str
    kind: Kind = "categorical"
    size: int = 0
    minimum: float | None = None
    maximum: float | None = None
    time_unit: TimeUnit | None = None
    spellings: tuple[str, ...] = ()
    date_order: DateOrder | None = None
    decimal_comma: bool = False

    @property
    def expected(self) -> str:
        """The expected values in words, for messages."""
        return _EXPECTED[self.kind].format(size=self.size)

    @property
    def is_key(self) -> bool:
        """Whether a row is rejected if its value is missing."""
        return "." not in self.role and self.role not in ("title", "label", "request")


@dataclass(frozen=True)
class Converted:
    """A converted column.

    Attributes:
        value: text, a list of text, float64, a list of float32, or int64 microseconds. Time features are days since 1970.
            Identities keep the type of the file: their canonical text is computed later, from the distinct values alone.
        faults: conditions under which a value cannot be used, each with the reason in words.
        cut: where a list is longer than the number of values that are kept.
    """

    value: Any
    faults: tuple[tuple[Any, str], ...] = ()
    cut: Any = None


def feature_columns(kind: str, features: Mapping[str, Feature]) -> list[Column]:
    """Return the columns of features, with the roles KIND.FIELD."""
    return [
        Column(
            role=f"{kind}.{name}",
            name=feature.column or name,
            kind=feature.type,
            size=feature.width or feature.max_values,
            minimum=feature.minimum,
            maximum=feature.maximum,
            time_unit=feature.time_unit,
            date_order=feature.date_order,
        )
        for name, feature in features.items()
    ]


def convert(raw: Any, column: Column) -> Converted:
    """Convert one column of a table that the engine reads.

    Raises:
        TypeError: the column's type in the file cannot hold values of the expected kind.
    """
    if column.decimal_comma and column.kind in _WITH_DECIMALS and raw.type().is_string():
        raw = _with_decimal_point(raw)
    value, invalid, cut = _convert(raw, column)
    faults = [] if invalid is None else [(invalid, f"{column.name}: not {column.expected}")]
    if DAY_FIRST in column.spellings and column.date_order is None:
        faults.insert(0, (is_ordered_date(raw), f"{column.name}: {NEEDS_DATE_ORDER}"))
    if column.minimum is not None:
        faults.append((value < column.minimum, f"{column.name}: less than {column.minimum:g}"))
    if column.maximum is not None:
        faults.append((value > column.maximum, f"{column.name}: more than {column.maximum:g}"))
    return Converted(value, tuple(faults), cut)


def _convert(raw: Any, column: Column) -> tuple[Any, Any, Any]:
    """Return the converted column, where a present value is invalid (None: nowhere), and where a list is cut."""
    raw_type = raw.type()
    scalar = raw_type.is_string() or raw_type.is_numeric() or raw_type.is_boolean()
    is_time = raw_type.is_timestamp() or raw_type.is_date()
    match column.kind:
        case "identity" if _is_scalar(raw_type):
            return _identity(raw), None, None
        case "title" if raw_type.is_string():
            return raw.nullif(""), None, None
        case "categorical" | "title" if _is_scalar(raw_type):
            return canonical_expression(raw), None, None
        case "multi" if raw_type.is_string() or (raw_type.is_array() and _is_scalar(raw_type.value_type)):
            values = raw.split(LIST_MARK) if raw_type.is_string() else raw
            values = values.map(canonical_expression).filter(lambda value: value.notnull())
            return values[: column.size], None, values.length() > column.size
        case "numeric" if scalar:
            return *_number(raw), None
        case "vector" if raw_type.is_string() or (raw_type.is_array() and raw_type.value_type.is_numeric()):
            return *_vector(raw, column.size), None
        case "time" if is_time or raw_type.is_string() or (raw_type.is_numeric() and column.time_unit):
            microseconds, invalid = _time(raw, column)
            return microseconds / float(DAY), invalid, None
        case "row_time" if (is_time or scalar) and not raw_type.is_boolean():
            return *_time(raw, column), None
        case "label" if scalar:
            if raw_type.is_string():  # pandas writes True and False
                truth = canonical_expression(raw)
                raw = ibis.cases((truth == "true", "1"), (truth == "false", "0"), else_=raw)
            value, invalid = _number(raw)
            wrong = ~value.isin([0.0, 1.0])
            return value, wrong if invalid is None else invalid | wrong, None
        case "row" if raw_type.is_integer() or raw_type.is_decimal() or raw_type.is_floating() or raw_type.is_string():
            raw = raw.strip() if raw_type.is_string() else raw
            text = canonical_expression(raw)
            whole = ibis.ifelse(text.re_search("^-?[0-9]+$"), text.try_cast("int64"), ibis.null("int64"))
            value = ibis.ifelse(is_inexact(raw), ibis.null("int64"), whole)
            return value, text.notnull() & value.isnull(), None
    unit = ", or a number with 'time_unit'" if column.kind == "time" else ""
    raise TypeError(f"column '{column.name}': expected {column.expected}{unit}, but the column has the type {raw_type}")


def _is_scalar(column_type: Any) -> bool:
    """Return whether values of an Ibis type are scalars with a canonical text."""
    is_time = column_type.is_timestamp() or column_type.is_date()
    is_plain = column_type.is_string() or column_type.is_numeric() or column_type.is_boolean()
    return is_time or is_plain or column_type.is_binary() or column_type.is_uuid()


def _identity(raw: Any) -> Any:
    """Return ids in the type of their file, null where missing; -0.0 becomes 0.0, because some engines tell them apart."""
    if raw.type().is_floating():
        return ibis.cases((raw.abs() > LARGEST_FLOAT, ibis.null(raw.type())), (raw == 0, 0), else_=raw).cast(raw.type())
    if raw.type().is_string():
        return raw.nullif("")
    return canonical_expression(raw) if raw.type().is_binary() else raw


def _number(raw: Any) -> tuple[Any, Any]:
    """Return float64 (null where missing or not finite), and where a value is present but not a finite number (None: nowhere)."""
    if raw.type().is_integer():
        return raw.cast("float64"), None
    present = raw.nullif("") if raw.type().is_string() else raw
    value = present.try_cast("float64")
    usable = value.abs() <= _LARGEST_NUMBER  # engines order NaN above every number
    return ibis.ifelse(usable, value, ibis.null("float64")), present.notnull() & ~usable.fill_null(False)


def _vector(raw: Any, width: int) -> tuple[Any, Any]:
    """Return a list of float32, and where a value is present but not a list of `width` finite numbers."""
    values = raw.split(LIST_MARK).map(lambda v: v.try_cast("float64")) if raw.type().is_string() else raw
    values = values.cast("array<float64>")
    invalid = values.filter(lambda v: v.isnull() | v.isnan() | (v.abs() > _LARGEST_NUMBER))
    clipped = values.map(lambda v: v.clip(-_LARGEST_NUMBER, _LARGEST_NUMBER))
    return clipped.cast("array<float32>"), raw.notnull() & ((values.length() != width) | (invalid.length() > 0))


def _time(raw: Any, column: Column) -> tuple[Any, Any]:
    """Return microseconds since 1970, and where a value is present but not a time."""
    if raw.type().is_timestamp() or raw.type().is_date():
        return epoch_us(raw.cast("timestamp")), None
    if column.time_unit is None:
        number, present = ibis.null("int64"), raw.nullif("").notnull()
    elif column.time_unit == "yyyymmdd":
        number = time_of_number(canonical_expression(raw))
        present = (raw.nullif("") if raw.type().is_string() else raw).notnull()
    else:
        ticks = TICKS[column.time_unit]
        if raw.type().is_integer() and isinstance(ticks, int):
            return _clip(raw, _LATEST_TIME // ticks).cast("int64") * ticks, None
        number, invalid = _number(raw)
        number = _clip(number * ticks, float(_LATEST_TIME)).round().cast("int64")
        present = invalid | number.notnull()
    patterns = [pattern for pattern in column.spellings if column.date_order or pattern != DAY_FIRST]
    time = ibis.coalesce(number, time_of_text(raw, patterns)) if raw.type().is_string() else number
    return time, present & time.isnull()


def _with_decimal_point(raw: Any) -> Any:
    """Return text with a decimal point in numbers that have a decimal comma, perhaps with points between thousands."""
    return ibis.cases(
        (raw.re_search(r"^[-+]?\d{1,3}([.]\d{3})+(,\d*)?$"), raw.replace(".", "").replace(",", ".")),
        (raw.re_search(r"^[-+]?\d*,\d+$"), raw.replace(",", ".")),
        else_=raw,
    )


def _clip(number: Any, limit: float) -> Any:
    """Return a number between -limit and limit; null stays null. Ibis's `clip` repeats its argument eight times."""
    return ibis.cases((number > limit, limit), (number < -limit, -limit), else_=number)
