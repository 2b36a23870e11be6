"""What a column of a file holds, and how it becomes text, numbers, times or lists of one type.

Every conversion keeps missing values (nulls, NaN, empty text) and stops at values that are no such thing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ibis
import ibis.expr.types as ir

from openlum.data.engine import ROW, Engine
from openlum.errors import InputError
from openlum.schema import Feature

Kind = Literal["categorical", "multi", "numeric", "vector", "time", "label", "row"]

SECOND = 1_000_000
"""Times are compared in microseconds."""
TICKS = {"s": SECOND, "ms": 1_000, "us": 1}
LIST_MARK = "|"
"""Stands between the values of a list in CSV."""
_LARGEST = 1e37  # fits into float32
_FARTHEST = 9e15  # microseconds; as a float still exact, and centuries away

_EXPECTED = {
    "categorical": "a single value (text or a number)",
    "multi": f"a list of values (in CSV: joined by '{LIST_MARK}')",
    "numeric": "a finite number",
    "vector": "a list of {size} finite numbers",
    "time": "a timestamp, or a number of the schema's 'time_unit' since 1970",
    "label": "0 or 1",
    "row": "a whole number",
}


@dataclass(frozen=True)
class Column:
    """A column that the schema names.

    Attributes:
        role: what it is to us: `user`, `time`, `condition.rating`.
        name: what it is called in the file.
        kind: what it must hold.
        size: multi: values kept; vector: its width; time: microseconds in its unit.
    """

    role: str
    name: str
    kind: Kind = "categorical"
    size: int = 0

    @property
    def expected(self) -> str:
        """In words, for messages."""
        return _EXPECTED[self.kind].format(size=self.size)


def feature_columns(kind: str, features: Mapping[str, Feature]) -> list[Column]:
    """The columns of features: roles KIND.FIELD."""
    sizes = {"multi": lambda f: f.max_values, "vector": lambda f: f.width}
    return [
        Column(f"{kind}.{name}", f.column or name, f.type, sizes.get(f.type, lambda f: 0)(f))
        for name, f in features.items()
    ]


def typed(engine: Engine, path: Path, raw: ir.Table, columns: Sequence[Column]) -> ir.Table:
    """Convert the columns of a table that `Engine.read` read from `path`.

    Raises:
        InputError: a column holds something else than it must; the message shows the first such value.
    """
    pairs = {column: _convert(path, raw[column.role], column) for column in columns}
    wrong = {column: pair[1] for column, pair in pairs.items() if pair[1] is not None}
    if wrong:
        counts = engine.rows(raw.aggregate(**{c.role: w.fill_null(False).sum() for c, w in wrong.items()}))[0]
        for column, where in wrong.items():
            if counts[column.role]:
                _report(engine, path, raw, column, where, counts[column.role])
    return raw.select(ROW, **{column.role: pair[0] for column, pair in pairs.items()})


def _report(engine: Engine, path: Path, raw: ir.Table, column: Column, wrong: Any, count: int) -> None:
    first = raw.filter(wrong).order_by(ROW).select(ROW, found=raw[column.role]).limit(1)
    row = engine.rows(first)[0]
    others = f" (and {count - 1:,} more rows)" if count > 1 else ""
    raise InputError(
        f"{path}: row {row[ROW]}, column '{column.name}': expected {column.expected}, "
        f"found {row['found']!r}{others}; mend the file or name another column in the schema"
    )


def _convert(path: Path, raw: Any, column: Column) -> tuple[Any, Any]:
    """The converted column, and where it is neither that nor missing (None: nowhere)."""
    of = raw.type()
    scalar = of.is_string() or of.is_numeric() or of.is_boolean()
    moment = of.is_timestamp() or of.is_date()
    match column.kind:
        case "categorical" if scalar or moment:
            return text(raw), None
        case "multi" if of.is_array() and not of.value_type.is_nested():
            return raw.map(text).filter(lambda value: value.notnull())[: column.size], None
        case "multi" if of.is_string():
            return raw.split(LIST_MARK).map(text).filter(lambda value: value.notnull())[: column.size], None
        case "numeric" if scalar:
            return _number(raw)
        case "vector" if of.is_string() or (of.is_array() and of.value_type.is_numeric()):
            return _vector(raw, column.size)
        case "time" if moment:
            return raw.cast("timestamp").epoch_seconds().cast("int64") * SECOND + _fraction(raw), None
        case "time" if scalar and not of.is_boolean():
            return _time(raw, column.size)
        case "label" if scalar:
            value, wrong = _number(raw)
            return value, wrong | ~value.isin([0.0, 1.0])
        case "row" if scalar:
            value, wrong = _number(raw)
            return value.try_cast("int64"), wrong | (value != value.floor()) | (value.abs() >= _FARTHEST)
    raise InputError(f"{path}: column '{column.name}': expected {column.expected}, found the type {of}")


def text(raw: Any) -> Any:
    """Any scalar as text: whole floats without '.0'; NaN and empty text are missing."""
    if raw.type().is_decimal():
        raw = raw.cast("float64")
    if raw.type().is_floating():
        whole = ibis.ifelse(raw == raw.floor(), raw.try_cast("int64").cast("string"), ibis.null("string"))
        return ibis.ifelse(raw.isnan(), ibis.null("string"), ibis.coalesce(whole, raw.cast("string")))
    return raw.cast("string").nullif("")


def _number(raw: Any) -> tuple[Any, Any]:
    value = (raw.nullif("") if raw.type().is_string() else raw).try_cast("float64")
    missing = raw.isnull() | (raw == "") if raw.type().is_string() else raw.isnull()
    finite = ibis.ifelse(value.isnan() | value.isinf(), ibis.null("float64"), value)
    return finite, ~missing & (value.isnull() | (~value.isnan() & (value.abs() > _LARGEST)))


def _vector(raw: Any, width: int) -> tuple[Any, Any]:
    values = raw.split(LIST_MARK).map(lambda v: v.try_cast("float64")) if raw.type().is_string() else raw
    values = values.cast("array<float64>")
    broken = values.filter(lambda v: v.isnull() | v.isnan() | (v.abs() > _LARGEST))
    kept = values.map(lambda v: v.clip(-_LARGEST, _LARGEST))
    return kept.cast("array<float32>"), raw.notnull() & ((values.length() != width) | (broken.length() > 0))


def _time(raw: Any, ticks: int) -> tuple[Any, Any]:
    number, wrong = _number(raw)
    time = (number * ticks).clip(-_FARTHEST, _FARTHEST).round().cast("int64")
    if not raw.type().is_string():
        return time, wrong
    # With a time zone the cast heeds an offset in the text; text without one is UTC, as the engine's session is.
    moment = raw.try_cast("timestamp('UTC')")
    written = moment.epoch_seconds().cast("int64") * SECOND + _fraction(moment)
    return ibis.coalesce(time, written), wrong & written.isnull()


def _fraction(moment: Any) -> Any:
    return moment.cast("timestamp").microsecond().cast("int64")
