"""The users and the time of knowledge per user, as callers give them."""

import csv
import math
import re
from collections.abc import Sequence
from datetime import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from openlum.arguments.frames import is_frame, to_arrow
from openlum.arguments.values import as_path, check_single, shown
from openlum.data.canonical import canonical_text
from openlum.errors import InputError
from openlum.file_format import parse_time
from openlum.model.request import seconds

ALL = "all"
"""Stands for all users of the dataset."""
NOW = "now"
"""Stands for the second after the last event of the dataset."""
USER = "user"
"""The column with the ids."""


def read_user_ids(users: Any) -> list[str] | None:
    """Return the distinct ids of users in their order, as canonical text; None for all users.

    Args:
        users: `all`, a file, a list of ids, or a frame with a column `user`. A file is Parquet or CSV with a column `user`, or
            text with one id in a line.

    Raises:
        InputError: the file cannot be read or has no such column, an id is missing, or there is none.
    """
    if isinstance(users, str) and users == ALL:
        return None
    if is_frame(users):
        values = _column(to_arrow("users", users), "users")
    elif isinstance(users, str | Path):
        values = _file_ids(as_path("users", users))
    elif hasattr(users, "__len__"):
        values = users.tolist() if hasattr(users, "tolist") else list(users)
    else:
        raise InputError(f"users: expected 'all', a file, a list of ids or a frame, found {shown(users)}")
    ids: dict[str, None] = {}
    for index, value in enumerate(values):
        check_single(f"users: element {index}", "" if value is None else value)
        text = canonical_text(value)
        if text is None:
            raise InputError(f"users: element {index} is {shown(value)}; expected an id")
        ids[text] = None
    if not ids:
        raise InputError("users: there is no id; pass 'all' for all users of the dataset")
    return list(ids)


def as_of_second(as_of: Any, first_event: int, last_event: int) -> int:
    """Return the second since 1970 before which events count.

    Args:
        as_of: `now`, a date or time (ISO 8601 text or of Python, NumPy or pandas; UTC without a time zone), or seconds since
            1970, also as text. A date is its first second.
        first_event: second of the first event of the dataset.
        last_event: second of its last event.

    Raises:
        InputError: it is no time, or no event lies before it.
    """
    if isinstance(as_of, str) and as_of == NOW:
        return last_event + 1
    second = given_second("as_of", as_of, "'now', or seconds since 1970")
    if second <= first_event:
        raise InputError(
            f"as_of: {shown(as_of)} is {utc_text(second)}, and no event lies before it; the first event is at "
            f"{utc_text(first_event)}"
        )
    return second


def given_second(name: str, value: Any, others: str = "seconds since 1970") -> int:
    """Return the second since 1970 of a time in one of the forms of `as_of_second`, except `now`.

    Args:
        name: of the argument or the column, for messages.
        value: the time.
        others: the forms besides ISO 8601 text, for messages.

    Raises:
        InputError: the value is no time.
    """
    if isinstance(value, str) and not re.fullmatch(r"-?\d+([.]\d+)?", value):
        try:
            return parse_time(value, time.min) // 1_000_000
        except ValueError as error:
            raise InputError(f"{name}: {error}; or {others}") from None
    return math.floor(seconds(name, float(value) if isinstance(value, str) else value))


def utc_text(second: int) -> str:
    """Return a second since 1970 as ISO 8601 text in UTC."""
    return f"{pa.scalar(second, pa.timestamp('s')).cast(pa.string()).as_py().replace(' ', 'T')}Z"


def _file_ids(file: Path) -> list[Any]:
    try:
        if file.suffix == ".parquet":
            return _column(pq.read_table(file), str(file))
        lines = file.read_text(encoding="utf-8-sig").splitlines()
        header, _ = csv_header(lines)
        if USER in header:
            return _column(read_text_csv(file), str(file))
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise InputError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None
    if len(header) > 1:
        raise InputError(f"{file}: no column '{USER}'; the columns are {', '.join(header)}")
    return [line.strip() for line in lines if line.strip()]


def read_text_csv(file: Path) -> pa.Table:
    """Return the table in a CSV file with a header. All columns are text."""
    header, delimiter = csv_header(file.read_text(encoding="utf-8-sig").splitlines())
    types = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()))
    return pyarrow.csv.read_csv(
        file, parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter), convert_options=types
    )


def csv_header(lines: Sequence[str]) -> tuple[list[str], str]:
    """Return the columns in the first of the lines of a CSV file, and the delimiter."""
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    return next(csv.reader(lines[:1], delimiter=delimiter), []), delimiter


def _column(table: pa.Table, name: str) -> list[Any]:
    if USER not in table.column_names:
        raise InputError(f"{name}: no column '{USER}'; the columns are {', '.join(table.column_names)}")
    values: list[Any] = table[USER].to_pylist()
    return values
