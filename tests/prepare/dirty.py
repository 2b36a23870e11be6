"""Random logs with the faults of real logs: wrong values, types and malformed lines, in Parquet and CSV."""

import csv
import datetime as dt
import io
import random
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

START = 1_700_000_000
COLUMNS = ("user", "item", "time", "scenario", "feedback", "price")
ODD: list[Any] = [
    None, "", " ", "nan", "None", "NULL", "inf", "7", "7.0", "007", "1e5", "True", "true", "a|b", 'say "hi"', "line\nbreak",
    "nul\0", "é" * 300, "🛒", "\u202e", "-", "1970-01-01", "2025-02-30", "2025-13-01T00:00:00", "9" * 30, -1, 0, 2**31,
    2**53 + 1, 2**63 - 1, -(2**63), 1e19, 1e300, -0.0, 0.5, float("nan"), float("inf"), True, False,
]  # fmt: skip
"""Unusual values that real columns have contained."""
TYPES = [
    pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(38, 0), pa.decimal128(20, 4),
    pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.binary(), pa.binary(16), pa.bool_(), pa.null(),
    pa.date32(), pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.time32("s"),
    pa.duration("s"), pa.list_(pa.string()), pa.list_(pa.float64()), pa.struct([("a", pa.int64())]),
    pa.map_(pa.string(), pa.int64()),
]  # fmt: skip
"""Types that real columns have had."""


@dataclass(frozen=True)
class DirtyLog:
    """A log that has been written."""

    schema: Path
    """The schema file."""
    rows: int | None
    """Number of rows of the event log; None if a line may count as one row or as two."""


def clean_rows(rng: random.Random) -> list[list[Any]]:
    """Return the rows of a small log without a fault, with the columns `COLUMNS`."""
    users = [user for user in range(1, 9) for _ in range(rng.randrange(3, 9))]
    words = ["home", "search"], ["click", "skip"]
    return [
        [user, 1 + rng.randrange(6), START + rng.randrange(10**6), *(rng.choice(few) for few in words), 9.5]
        for user in users
    ]


def write_dirty_log(directory: Path, seed: int) -> DirtyLog:
    """Write a log and its schema; the same seed gives the same log."""
    rng = random.Random(seed)
    rows = clean_rows(rng)
    for _ in range(rng.choice([0, 1, 3, len(rows)])):
        rng.choice(rows)[rng.randrange(len(COLUMNS))] = rng.choice(ODD)
    in_csv = rng.random() < 0.4
    name = rng.choice(["events", "my events", "a'b", "x#y", "Ünï"]) + (".csv" if in_csv else ".parquet")
    number = len(rows)
    if in_csv:
        text, whole = _csv(rng, rows)
        (directory / name).write_bytes(text)
        number = number if whole else None  # type: ignore[assignment]
    else:
        pq.write_table(_table(rng, rows), directory / name)
    price = rng.choice(
        [{"type": "numeric"}, {"type": "numeric", "buckets": 4}, {}, {"hash_rows": 7}, {"type": "multi"}]
    )
    condition = {"scenario": {}, "feedback": {"feedback": True}, "price": price}
    events = {"path": name, "user": "user", "item": "item", "time": "time", "condition": condition}
    content = {"name": "dirty", "events": events, "max_rejected": rng.choice([0.01, 1.0, 1.0])}
    schema = directory / "schema.yaml"
    schema.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return DirtyLog(schema, number)


def _table(rng: random.Random, rows: list[list[Any]]) -> pa.Table:
    """Return the rows as an Arrow table: up to two columns of a random type, the others of the first type that fits."""
    chosen = {rng.randrange(len(COLUMNS)): rng.choice(TYPES) for _ in range(rng.choice([0, 1, 1, 2]))}
    columns = [[row[index] for row in rows] for index in range(len(COLUMNS))]
    return pa.table({name: _array(columns[index], chosen.get(index)) for index, name in enumerate(COLUMNS)})


def _array(values: list[Any], of: pa.DataType | None) -> pa.Array:
    """Return the values as a column; values that do not fit the type are missing."""
    for kind in [of] if of is not None else [None, pa.float64(), pa.string()]:
        try:
            if kind is None:
                return pa.array(values)
            return pa.array([_as(kind, value) for value in values], kind)
        except (pa.ArrowException, ValueError, TypeError, OverflowError, ArithmeticError):
            continue
    return pa.array([_text(value) for value in values], pa.string())


def _as(of: pa.DataType, value: Any) -> Any:
    """Return a value converted to a type, or None."""
    if value is None or pa.types.is_null(of):
        return None
    try:
        if pa.types.is_string(of) or pa.types.is_large_string(of) or pa.types.is_dictionary(of):
            return _text(value)
        if pa.types.is_fixed_size_binary(of):
            return (_text(value) or "").encode()[:16].ljust(16, b"x")
        if pa.types.is_binary(of):
            return (_text(value) or "").encode()
        if pa.types.is_decimal(of):
            return Decimal(str(value)).quantize(Decimal(1).scaleb(-of.scale))
        if pa.types.is_boolean(of):
            return bool(value)
        if pa.types.is_temporal(of):
            return _moment(of, int(value))
        if pa.types.is_map(of):
            return [("k", 1)]
        if pa.types.is_struct(of):
            return {"a": 1}
        if pa.types.is_list(of):
            return [value] if pa.types.is_floating(of.value_type) else [_text(value), None, "x"]
        value = float(value) if pa.types.is_floating(of) else int(value)
        pa.scalar(value, of)
    except (pa.ArrowException, ValueError, TypeError, OverflowError, ArithmeticError):
        return None
    return value


def _moment(of: pa.DataType, value: int) -> Any:
    moment = dt.datetime.fromtimestamp(value % 4_000_000_000, dt.UTC)
    if pa.types.is_date(of):
        return moment.date()
    if pa.types.is_time(of):
        return moment.time()
    if pa.types.is_duration(of):
        return dt.timedelta(seconds=value % 1000)
    return moment if of.tz else moment.replace(tzinfo=None)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _csv(rng: random.Random, rows: list[list[Any]]) -> tuple[bytes, bool]:
    """Return the rows as CSV, sometimes with malformed lines, and whether the number of rows is still known."""
    out = io.StringIO()
    delimiter, line_end = rng.choice(",;\t"), rng.choice(["\n", "\r\n", "\r"])
    # Python quotes a value for the line end that it writes, and for no other.
    quoting = csv.QUOTE_ALL if line_end == "\r" else csv.QUOTE_MINIMAL
    writer = csv.writer(out, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerow(COLUMNS)
    writer.writerows([["" if value is None else value for value in row] for row in rows])
    text = out.getvalue().encode()
    whole = True
    for _ in range(rng.choice([0, 0, 1, 2])):
        odd = rng.choice(
            [b"too,few\n", b'1,2,"open\n', b"\xff\xfe,1,2\n", b"1,2,3,4,5,6,7,8,9\n", b"\n\n", b"\0\0\0\n"]
        )
        at = rng.randrange(len(text) // 2, len(text))
        text, whole = text[:at] + odd + text[at:], False
    return (b"\xef\xbb\xbf" if rng.random() < 0.2 else b"") + text, whole
