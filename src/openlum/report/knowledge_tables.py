"""Tables of what `knowledge/` holds, for the terminal: some rows, and the figures of every column.

Shapes: n rows, M vectors of a row, E width of a vector.
"""

import datetime as dt
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from openlum.data.knowledge import FOLDERS, ROW, Knowledge
from openlum.errors import InputError
from openlum.report.rendering import format_count, format_number, one_line, terminal_table

NUMBERS_SHOWN = 3
"""Numbers of a vector that a table of rows shows."""
TIME = "time"
"""Name of the type of times."""


def rows_table(knowledge: Knowledge, user: str | None, rows: int) -> Table:
    """Return the first rows as a table, with a column for each row.

    Args:
        knowledge: to show.
        user: raw id; only this user's rows are shown. None for all users.
        rows: largest number of rows.

    Raises:
        InputError: there are no rows, or none of this user.
    """
    columns, found = knowledge.columns, []
    for file in knowledge.part_rows():
        table = knowledge.read_part(file, columns)
        found.append(table if user is None else table.filter(pc.equal(table["user"], user)))
        if sum(map(len, found)) >= rows:
            break
    chosen = pa.concat_tables(found)[:rows] if found else pa.table({})
    if not len(chosen):
        of_user = "" if user is None else f" of the user '{user}'"
        raise InputError(f"{knowledge.path}: has no rows{of_user}; it has {len(knowledge):,} rows in all")
    names = [str(value) for value in chosen[knowledge.key].to_pylist()]
    title = f"{len(chosen):,} of {len(knowledge):,} rows (times in UTC)"
    shown = _table(title, columns, knowledge.key, *map(one_line, names))
    for column in columns:
        if column != knowledge.key:
            shown.add_row(column, *map(_cell, chosen[column]))
    return shown


def _table(title: str, names: list[str], *columns: str) -> Table:
    """Return an empty table whose first column is wide enough for names."""
    table = terminal_table(title, *columns)
    table.columns[0].min_width = max(map(len, names))
    return table


def _cell(scalar: Any) -> str:
    """Return a value as text: of a vector, the first numbers and how many there are; of ids, the last ones."""
    value = scalar.as_py()
    if value is None:
        return "missing"
    if isinstance(value, list) and not pa.types.is_fixed_size_list(scalar.type):
        return f"… {' '.join(value[-NUMBERS_SHOWN:])} ({len(value):,})"
    if isinstance(value, list):
        first = " ".join(format_number(float(number), 2) for number in value[:NUMBERS_SHOWN])
        return f"{first} … ({len(value):,})"
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return format_number(value) if isinstance(value, float) else one_line(value)


@dataclass
class Column:
    """The figures of one column, summed part by part."""

    kind: str
    """Data type in words."""
    number: int = 0
    """Number of values; of a column of vectors, number of vectors."""
    missing: int = 0
    """Number of missing values."""
    total: float = 0.0
    """Sum of the values; of vectors, of their lengths."""
    squares: float = 0.0
    """Sum of the squares of the values."""
    lowest: Any = None
    """The smallest value."""
    highest: Any = None
    """The largest value."""

    def add(self, values: np.ndarray) -> None:
        """Add present values, (n,)."""
        if len(values):
            lowest, highest = values.min(), values.max()
            self.lowest = lowest if self.lowest is None else min(self.lowest, lowest)
            self.highest = highest if self.highest is None else max(self.highest, highest)
            self.number += len(values)
            if values.dtype.kind != "M":
                self.total += float(values.sum(dtype=np.float64))
                self.squares += float(np.square(values, dtype=np.float64).sum())

    @property
    def mean(self) -> float | None:
        """The mean of the values; None without values."""
        return self.total / self.number if self.number else None

    @property
    def std(self) -> float | None:
        """The standard deviation of the values; None without values."""
        mean = self.mean
        return None if mean is None else math.sqrt(max(self.squares / self.number - mean * mean, 0.0))


@dataclass
class Statistics:
    """The figures of all columns."""

    columns: dict[str, Column]
    """Figures by the name of the column."""
    users: int
    """Number of distinct users."""
    idle: Column
    """Seconds from the last event to the time of the row, in knowledge per user."""


def statistics(knowledge: Knowledge) -> Statistics:
    """Return the figures of all columns. One part at a time is in memory."""
    names, users = knowledge.columns, pa.array([], pa.string())
    columns: dict[str, Column] = {}
    idle = Column("seconds")
    for file in knowledge.part_rows():
        table = knowledge.read_part(file, names)
        users = pc.unique(pa.concat_arrays([users, table["user"].unique().cast(pa.string())]))
        for name in names:
            values = table[name].combine_chunks()
            column = columns.setdefault(name, Column(_kind(values.type)))
            column.missing += values.null_count
            column.add(_figures(values.drop_null(), knowledge.info.width))
        if "last_event" in names:
            since = pc.subtract(table["as_of"], table["last_event"]).combine_chunks().drop_null()
            idle.add(since.cast(pa.int64()).to_numpy() / 1e6)
    return Statistics(columns, len(users.drop_null()), idle)


def _figures(values: pa.Array, width: int) -> np.ndarray:
    """Return what is summed of present values, (n,): numbers, times, the lengths of vectors, (n M,), or the numbers of ids;
    nothing of text."""
    if pa.types.is_fixed_size_list(values.type):
        vectors = values.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
        return np.linalg.norm(vectors.reshape(-1, width), axis=1)
    if pa.types.is_list(values.type):
        return np.asarray(pc.list_value_length(values).to_numpy(zero_copy_only=False))
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return np.empty(0)
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_fixed_size_list(kind):
        return f"{kind.list_size} × {kind.value_type}".replace("halffloat", "float16")
    return TIME if pa.types.is_timestamp(kind) else "float32" if pa.types.is_float32(kind) else str(kind)


def columns_table(figures: Statistics) -> Table:
    """Return the figures of every column as a table. Those of a column of vectors are of the lengths of its vectors."""
    title = "Columns (times in UTC; of vectors, the figures of their lengths)"
    headings = ("column", "type", "missing", "mean", "std", "min", "max")
    shown = _table(title, list(figures.columns), *headings)
    for name, column in figures.columns.items():
        has_mean = column.kind != TIME and name != ROW
        values = (column.mean if has_mean else None, column.std if has_mean else None, column.lowest, column.highest)
        shown.add_row(name, column.kind, f"{column.missing:,}", *map(_figure, values))
    return shown


def _figure(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, np.datetime64):
        return f"{value.astype('datetime64[s]').item():%Y-%m-%d %H:%M:%S}"
    return format_number(float(value)) if isinstance(value, float | np.floating) else format_count(int(value))


def knowledge_figures(knowledge: Knowledge, figures: Statistics) -> dict[str, Any]:
    """Return what a whole directory is, in figures and words."""
    info, rows = knowledge.info, max(len(knowledge), 1)
    stored = sum(file.stat().st_size for file in knowledge.part_rows())
    lines: dict[str, Any] = {
        "one row per": info.form,
        "rows": len(knowledge),
        "users": figures.users,
        "questions": ", ".join(info.questions) or "none",
        "user vectors": ", ".join(info.vector_names) or "none",
        "type of vectors": info.dtype,
        f"bytes per {info.form}": round(stored / rows),
        "bytes": stored,
        "uses": info.as_of or "unknown",
        "model": info.model or "unknown",
        "dataset": info.dataset,
    }
    if figures.idle.mean is not None:
        lines["days since last event"] = figures.idle.mean / 86_400
    lines["folder"] = str(knowledge.path / FOLDERS[info.form])
    return lines
