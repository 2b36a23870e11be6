"""A sample of a table, from all over its files, without reading the rest."""

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openlum.errors import InputError
from openlum.prepare.engines.column_names import check_names
from openlum.prepare.inputs.csv_rows import BLOCK, DAMAGE, FAULT, FOREIGN, CsvFile, not_utf8, open_csv, read_block
from openlum.prepare.inputs.files import one_line, unreadable
from openlum.prepare.inputs.paths import find, partition

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
    parts = [_rows(file, share) for file in chosen]
    if not any(len(part) for part, _ in parts):
        raise InputError(f"{path}: has no rows; expected at least one")
    try:
        # A file without rows says nothing about types.
        table = pa.concat_tables([part for part, _ in parts if len(part)], promote_options="permissive")
    except pa.ArrowException as error:
        raise InputError(f"{path}: its files differ in their columns ({error}); write them with one schema") from None
    counts = [count for _, count in parts if count is not None]
    known = len(counts) == len(files)
    return Sample(path, len(files), sum(counts) if known else None, table.combine_chunks())


def _spread(values: Sequence[T], most: int) -> list[T]:
    """At most so many of the values, evenly spaced, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(place * (len(values) - 1) / max(most - 1, 1))] for place in range(most)]


def _rows(file: Path, share: int) -> tuple[pa.Table, int | None]:
    """Rows of a file, with the columns of its directories, and how many it has, where that is known."""
    read = _parquet_rows if file.name.lower().endswith(".parquet") else _csv_rows
    table, count = read(file, share)
    check_names(str(file), table.column_names, table.column_names)
    for place, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if column.null_count == len(column):  # without a value it may be of any type
            table = table.set_column(place, name, pa.nulls(len(column)))
    for name, value in partition(file).items():
        if name not in table.column_names:
            table = table.append_column(name, pa.array([value] * len(table), pa.string()))
    return table, count


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
    """Rows of a CSV file as text, and how many it has if these are all; malformed lines are left out."""
    try:
        with open_csv(file) as opened:
            text, whole = _some_csv(opened, file, share)
    except DAMAGE as error:
        raise unreadable(str(file), one_line(error)) from None
    columns = opened.dialect.columns
    parts = list(read_block(text, opened.dialect, columns, line=2))
    foreign, total = sum(part.not_utf8 for part in parts), sum(len(part.table) for part in parts)
    if foreign > FOREIGN * total:
        raise not_utf8(file, f"{foreign:,} of {total:,} lines looked at")
    empty = pa.table({column: pa.array([], pa.string()) for column in columns})
    good = [part.table.filter(pc.is_null(part.table[FAULT])).select(columns) for part in parts]
    return pa.concat_tables([empty, *good]), total if whole else None


def _some_csv(opened: CsvFile, file: Path, share: int) -> tuple[bytes, bool]:
    """Rows from places all over a file, without the header, and whether these are all."""
    # Latin-1 stands for bytes here: what it decodes it encodes again. Lines end as they do.
    lines = io.TextIOWrapper(opened.file, "latin-1", newline="")
    lines.seek(opened.start)
    rows = list(islice(_csv_split(lines), share))
    if not lines.read(1):
        return "".join(rows).encode("latin-1"), True
    # In the middle of a value of several lines one can't tell where a row begins: then the first rows must do.
    if file.name.lower().endswith(".gz") or any(set("\r\n") & set(row.rstrip("\r\n")) for row in rows):
        return "".join(rows).encode("latin-1"), False
    each = math.ceil(share / MOST_PLACES)
    rows = rows[:each]
    for place in range(1, MOST_PLACES):
        lines.seek(opened.start + (file.stat().st_size - opened.start) * place // MOST_PLACES)
        lines.readline()
        rows += islice(lines, each)
    return "".join(rows).encode("latin-1"), False


def _csv_split(lines: Iterable[str]) -> Iterator[str]:
    """Rows of one or more lines: inside quotes a line goes on."""
    row: list[str] = []
    quotes = size = 0
    for line in lines:
        row.append(line)
        quotes, size = quotes + line.count('"'), size + len(line)
        if quotes % 2 == 0 or size > BLOCK:
            yield "".join(row)
            row, quotes, size = [], 0, 0
    yield "".join(row)
