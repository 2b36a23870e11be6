"""A sample of a table, from all over its files, without reading the rest."""

import gzip
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from openlum.data.files import csv_header, find, unreadable
from openlum.errors import InputError

MOST_FILES = 16
MOST_PLACES = 16
"""In a file, unless its row groups are so small that more of them are needed."""

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """Some rows of a table. The columns of CSV files are text."""

    path: str
    """As it was given."""
    files: int
    """How many files the table has."""
    rows: int | None
    """How many rows it has, where that is known without reading it."""
    table: pa.Table
    """The sampled rows."""

    @property
    def whole(self) -> bool:
        """Every row is in the sample."""
        return self.rows == len(self.table)


def take_sample(path: str, rows: int) -> Sample:
    """Read the first rows of places spread over a table.

    Args:
        path: Parquet or CSV: a file, a directory of them, or a pattern.
        rows: about how many to read.

    Raises:
        InputError: there is no such file, one can't be read, or there are no rows.
    """
    try:
        files = find(Path(), path)
    except InputError as error:
        raise InputError(str(error).removesuffix("; the schema names it")) from None
    chosen = _spread(files, MOST_FILES)
    share = math.ceil(rows / len(chosen))
    parts = [_parquet_rows(file, share) if file.suffix == ".parquet" else _csv_rows(file, share) for file in chosen]
    try:
        table = pa.concat_tables([part for part, _ in parts], promote_options="permissive")
    except pa.ArrowException as error:
        raise InputError(f"{path}: its files differ in their columns ({error}); write them with one schema") from None
    if not len(table):
        raise InputError(f"{path}: has no rows; expected at least one")
    counts = [count for _, count in parts if count is not None]
    known = len(counts) == len(files)
    return Sample(path, len(files), sum(counts) if known else None, table.combine_chunks())


def _spread(values: Sequence[T], most: int) -> list[T]:
    """At most so many of the values, evenly spaced, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(place * (len(values) - 1) / max(most - 1, 1))] for place in range(most)]


def _parquet_rows(file: Path, share: int) -> tuple[pa.Table, int | None]:
    """The first rows of row groups all over a file, and how many rows it has."""
    try:
        with pq.ParquetFile(file) as opened:
            total, groups = opened.metadata.num_rows, opened.num_row_groups
            if total <= share:
                return opened.read(), total
            places = _spread(range(groups), max(MOST_PLACES, math.ceil(share * groups / total)))
            each = math.ceil(share / len(places))
            batches = [batch for place in places for batch in islice(opened.iter_batches(each, row_groups=[place]), 1)]
            return pa.Table.from_batches(batches, opened.schema_arrow), total
    except (OSError, pa.ArrowException) as error:
        raise unreadable(str(file), " ".join(str(error).split())) from None


def _csv_rows(file: Path, share: int) -> tuple[pa.Table, int | None]:
    """Rows of a CSV file as text, and how many it has if these are all."""
    try:
        delimiter, columns = csv_header(file)
        rows, whole = _some_csv(file, share)
        table = csv.read_csv(
            pa.BufferReader(b"".join(rows) or b"\n"),
            csv.ReadOptions(column_names=columns),
            csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), null_values=[""], strings_can_be_null=True
            ),
        )
    except (UnicodeDecodeError, pa.ArrowException, EOFError, gzip.BadGzipFile) as error:
        why = " ".join(str(error).split())
        if "utf" in why.lower():
            raise InputError(
                f"{file}: is not UTF-8 ({why}); convert it, for example: iconv -f latin1 -t utf-8 OLD > NEW"
            ) from None
        raise unreadable(str(file), why) from None
    return table, len(table) if whole else None


def _some_csv(file: Path, share: int) -> tuple[list[bytes], bool]:
    """Rows from places all over a file, without the header, and whether these are all."""
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
        opened.readline()
        start = opened.tell()
        rows = list(islice(_csv_split(opened), share))
        if not opened.read(1):
            return rows, True
        # In the middle of a value of several lines one can't tell where a row begins: then the first rows must do.
        if file.suffix == ".gz" or any(row.count(b"\n") > 1 for row in rows):
            return rows, False
        each = math.ceil(share / MOST_PLACES)
        rows = rows[:each]
        for place in range(1, MOST_PLACES):
            opened.seek(start + (file.stat().st_size - start) * place // MOST_PLACES)
            opened.readline()
            rows += islice(opened, each)
    return rows, False


def _csv_split(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Rows of one or more lines: inside quotes a line goes on."""
    row: list[bytes] = []
    quotes = 0
    for line in lines:
        row.append(line)
        quotes += line.count(b'"')
        if quotes % 2 == 0:
            yield b"".join(row)
            row = []
    yield b"".join(row)
