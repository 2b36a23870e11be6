"""The users and the time of knowledge per user, as callers give them."""

import csv
import math
import re
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
    if isinstance(as_of, str) and re.fullmatch(r"-?\d+([.]\d+)?", as_of):
        second = math.floor(seconds("as_of", float(as_of)))
    elif isinstance(as_of, str):
        try:
            second = parse_time(as_of, time.min) // 1_000_000
        except ValueError as error:
            raise InputError(f"as_of: {error}; or 'now', or seconds since 1970") from None
    else:
        second = math.floor(seconds("as_of", as_of))
    if second <= first_event:
        raise InputError(
            f"as_of: {shown(as_of)} is {utc_text(second)}, and no event lies before it; the first event is at "
            f"{utc_text(first_event)}"
        )
    return second


def utc_text(second: int) -> str:
    """Return a second since 1970 as ISO 8601 text in UTC."""
    return f"{pa.scalar(second, pa.timestamp('s')).cast(pa.string()).as_py().replace(' ', 'T')}Z"


def _file_ids(file: Path) -> list[Any]:
    try:
        if file.suffix == ".parquet":
            return _column(pq.read_table(file), str(file))
        lines = file.read_text(encoding="utf-8-sig").splitlines()
        header = next(csv.reader(lines[:1], delimiter=_delimiter(lines[0])), []) if lines else []
        if USER in header:
            text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), include_columns=[USER])
            parsing = pyarrow.csv.ParseOptions(delimiter=_delimiter(lines[0]))
            return _column(pyarrow.csv.read_csv(file, parse_options=parsing, convert_options=text), str(file))
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise InputError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None
    if len(header) > 1:
        raise InputError(f"{file}: no column '{USER}'; the columns are {', '.join(header)}")
    return [line.strip() for line in lines if line.strip()]


def _delimiter(header: str) -> str:
    """Return the delimiter of a CSV file with this first line."""
    return max(",;\t", key=header.count)


def _column(table: pa.Table, name: str) -> list[Any]:
    if USER not in table.column_names:
        raise InputError(f"{name}: no column '{USER}'; the columns are {', '.join(table.column_names)}")
    values: list[Any] = table[USER].to_pylist()
    return values
