"""What a column of a file holds, and how it becomes text, numbers, times or lists of one type.

Every conversion keeps missing values (null, empty text) and tells where a value is no such thing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import ibis

from openlum.data.canonical import LIST_MARK
from openlum.prepare.text import LARGEST_FLOAT, inexact, text
from openlum.schema import Feature

Kind = Literal["identity", "categorical", "multi", "numeric", "vector", "time", "moment", "label", "row", "title"]

SECOND = 1_000_000
"""Times are compared in microseconds."""
DAY = 86_400 * SECOND
TICKS = {"s": SECOND, "ms": 1_000, "us": 1}
_LARGEST = 1e37  # fits into float32
_FARTHEST = 9e15  # microseconds; as a float still exact, and centuries away

_EXPECTED = {
    "identity": "a single value (text or a number)",
    "categorical": "a single value (text or a number)",
    "multi": f"a list of values (in CSV: joined by '{LIST_MARK}')",
    "numeric": "a finite number",
    "vector": "a list of {size} finite numbers",
    "time": "a timestamp",
    "moment": "a timestamp, or a number of the schema's 'time_unit' since 1970",
    "label": "0 or 1",
    "row": "a whole number",
    "title": "a single value (text or a number)",
}


@dataclass(frozen=True)
class Column:
    """A column that the schema names.

    Attributes:
        role: what it is to us: `user`, `time`, `condition.rating`.
        name: what it is called in the file.
        kind: what it must hold; `identity` is the id of a user or an item, `moment` the time of a row, `time` a feature.
        size: multi: values kept; vector: its width; moment: microseconds in its unit.
        minimum: numeric: the least value allowed.
        maximum: numeric: the greatest value allowed.
    """

    role: str
    name: str
    kind: Kind = "categorical"
    size: int = 0
    minimum: float | None = None
    maximum: float | None = None

    @property
    def expected(self) -> str:
        """In words, for messages."""
        return _EXPECTED[self.kind].format(size=self.size)

    @property
    def is_key(self) -> bool:
        """A row without it is refused."""
        return "." not in self.role and self.role not in ("title", "label")


@dataclass(frozen=True)
class Converted:
    """A column of one type.

    Attributes:
        value: text, list of text, float64, list of float32, or microseconds as int64; time features are days since 1970, and
            identities are of the file's type, for their text, `text`, is made of the different ones alone.
        faults: where a value cannot be used, each with the reason in words.
        cut: where a list is longer than what is kept of it.
    """

    value: Any
    faults: tuple[tuple[Any, str], ...] = ()
    cut: Any = None


def feature_columns(kind: str, features: Mapping[str, Feature]) -> list[Column]:
    """The columns of features: roles KIND.FIELD."""
    return [
        Column(
            role=f"{kind}.{name}",
            name=feature.column or name,
            kind=feature.type,
            size=feature.width or feature.max_values,
            minimum=feature.minimum,
            maximum=feature.maximum,
        )
        for name, feature in features.items()
    ]


def convert(raw: Any, column: Column) -> Converted:
    """Convert one column of a table that the engine reads.

    Raises:
        TypeError: the column's type in the file can hold nothing of the kind.
    """
    value, wrong, cut = _convert(raw, column)
    faults = [] if wrong is None else [(wrong, f"{column.name}: not {column.expected}")]
    if column.minimum is not None:
        faults.append((value < column.minimum, f"{column.name}: less than {column.minimum:g}"))
    if column.maximum is not None:
        faults.append((value > column.maximum, f"{column.name}: more than {column.maximum:g}"))
    return Converted(value, tuple(faults), cut)


def _convert(raw: Any, column: Column) -> tuple[Any, Any, Any]:
    """The converted column, where it is neither that nor missing (None: nowhere), and where a list is cut."""
    of = raw.type()
    scalar = of.is_string() or of.is_numeric() or of.is_boolean()
    moment = of.is_timestamp() or of.is_date()
    match column.kind:
        case "identity" if _is_single(of):
            return _identity(raw), None, None
        case "title" if of.is_string():
            return raw.nullif(""), None, None
        case "categorical" | "title" if _is_single(of):
            return text(raw), None, None
        case "multi" if of.is_string() or (of.is_array() and _is_single(of.value_type)):
            values = raw.split(LIST_MARK) if of.is_string() else raw
            values = values.map(text).filter(lambda value: value.notnull())
            return values[: column.size], None, values.length() > column.size
        case "numeric" if scalar:
            return *_number(raw), None
        case "vector" if of.is_string() or (of.is_array() and of.value_type.is_numeric()):
            return *_vector(raw, column.size), None
        case "time" if moment or of.is_string():
            micros, wrong = _moment(raw, 1)
            return micros / float(DAY), wrong, None
        case "moment" if (moment or scalar) and not of.is_boolean():
            return *_moment(raw, column.size), None
        case "label" if scalar:
            if of.is_string():  # pandas writes True and False
                truth = text(raw)
                raw = ibis.cases((truth == "true", "1"), (truth == "false", "0"), else_=raw)
            value, wrong = _number(raw)
            return value, wrong | ~value.isin([0.0, 1.0]), None
        case "row" if of.is_integer() or of.is_decimal() or of.is_floating() or of.is_string():
            raw = raw.strip() if of.is_string() else raw
            written = text(raw)
            whole = ibis.ifelse(written.re_search("^-?[0-9]+$"), written.try_cast("int64"), ibis.null("int64"))
            value = ibis.ifelse(inexact(raw), ibis.null("int64"), whole)
            return value, written.notnull() & value.isnull(), None
    raise TypeError(f"column '{column.name}': expected {column.expected}, found the type {of}")


def _is_single(of: Any) -> bool:
    """Whether a type of the engine is that of one value which has a text."""
    moment = of.is_timestamp() or of.is_date()
    return moment or of.is_string() or of.is_numeric() or of.is_boolean() or of.is_binary() or of.is_uuid()


def _identity(raw: Any) -> Any:
    """An id in the type of its file, null where it is missing; a float is never -0, which some engines tell from 0."""
    if raw.type().is_floating():
        return ibis.cases((raw.abs() > LARGEST_FLOAT, ibis.null(raw.type())), (raw == 0, 0), else_=raw).cast(raw.type())
    if raw.type().is_string():
        return raw.nullif("")
    return text(raw) if raw.type().is_binary() else raw


def _number(raw: Any) -> tuple[Any, Any]:
    """float64, null where it is missing or not finite; and where it is there but not finite."""
    present = raw.nullif("") if raw.type().is_string() else raw
    value = present.try_cast("float64")
    usable = value.notnull() & ~value.isnan() & (value.abs() <= _LARGEST)
    return ibis.ifelse(usable, value, ibis.null("float64")), present.notnull() & ~usable.fill_null(False)


def _vector(raw: Any, width: int) -> tuple[Any, Any]:
    values = raw.split(LIST_MARK).map(lambda v: v.try_cast("float64")) if raw.type().is_string() else raw
    values = values.cast("array<float64>")
    broken = values.filter(lambda v: v.isnull() | v.isnan() | (v.abs() > _LARGEST))
    kept = values.map(lambda v: v.clip(-_LARGEST, _LARGEST))
    return kept.cast("array<float32>"), raw.notnull() & ((values.length() != width) | (broken.length() > 0))


def _moment(raw: Any, ticks: int) -> tuple[Any, Any]:
    """Microseconds since 1970; and where it is there but no time."""
    if raw.type().is_timestamp() or raw.type().is_date():
        return epoch_us(raw.cast("timestamp")), None
    number, wrong = _number(raw)
    time = (number * ticks).clip(-_FARTHEST, _FARTHEST).round().cast("int64")
    if not raw.type().is_string():
        return time, wrong
    # With a time zone the cast heeds an offset in the text; text without one is UTC, as the engine's session is.
    written = epoch_us(raw.try_cast("timestamp('UTC')").cast("timestamp"))
    return ibis.coalesce(time, written), wrong & written.isnull()


@ibis.udf.scalar.builtin(signature=(("timestamp",), "int64"))
def epoch_us(moment: Any) -> Any:
    """Microseconds since 1970: DuckDB's function of that name; `SparkEngine` defines one."""
