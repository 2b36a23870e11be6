"""A sample of a table, read from places all over its files without reading the rest."""

import gzip
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openlum.errors import InputError
from openlum.prepare.engines.column_names import check_names
from openlum.prepare.inputs.csv_rows import (
    BLOCK,
    FAULT,
    MAX_NOT_UTF8_SHARE,
    READ_ERRORS,
    CsvFile,
    not_utf8,
    open_csv,
    read_block,
)
from openlum.prepare.inputs.files import one_line, unreadable
from openlum.prepare.inputs.paths import find_files, is_parquet, partition_columns
from openlum.schema_wizard.csv_guess import CsvGuess, guess_csv, with_decimal_point

MAX_FILES = 16
"""How many files of a table are sampled at most."""
MAX_PLACES = 16
"""How many places of a file are sampled at most, unless its row groups are so small that more are needed."""

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """Some rows of a table. The columns of CSV files are text."""

    path: str
    """Path of the table, as the user wrote it."""
    files: int
    """Number of files of the table."""
    rows: int | None
    """Number of rows of the table; None if it is not known without reading the table."""
    table: pa.Table
    """The sampled rows."""
    csv: CsvGuess = field(default_factory=CsvGuess)
    """The format of its CSV files."""

    @property
    def is_complete(self) -> bool:
        """Whether every row of the table is in the sample."""
        return self.rows == len(self.table)


def take_sample(path: str, rows: int) -> Sample:
    """Return a sample of a table: the first rows of places that are spread over its files.

    Args:
        path: Parquet or CSV: a file, a directory of files, or a pattern.
        rows: about how many rows to read.

    Raises:
        InputError: there is no such file, a file cannot be read, or the table has no rows.
    """
    try:
        files = find_files(Path(), path)
    except InputError as error:
        raise InputError(f"{error}; check the path on the command line") from None
    sampled_files = _spread(files, MAX_FILES)
    rows_per_file = math.ceil(rows / len(sampled_files))
    guess = _guess_of_files(files)
    parts = [_sample_file(file, rows_per_file, guess) for file in sampled_files]
    if not any(len(part) for part, _ in parts):
        raise InputError(f"{path}: has no rows; expected at least one")
    try:
        # A file without rows says nothing about types.
        table = pa.concat_tables([part for part, _ in parts if len(part)], promote_options="permissive")
    except pa.ArrowException as error:
        raise InputError(f"{path}: its files have different columns ({error}); write them with one schema") from None
    counts = [count for _, count in parts if count is not None]
    total = sum(counts) if len(counts) == len(files) else None
    guess, table = with_decimal_point(guess, table)
    return Sample(path, len(files), total, table.combine_chunks(), guess)


def _guess_of_files(files: Sequence[Path]) -> CsvGuess:
    """Return the format of the CSV files among some files: of the first that has more than an empty line."""
    for file in files:
        if not is_parquet(file) and file.stat().st_size > 2:
            return guess_csv(file)
    return CsvGuess()


def _spread(values: Sequence[T], limit: int) -> list[T]:
    """Return at most `limit` of the values, evenly spaced, with the first and the last among them."""
    if len(values) <= limit:
        return list(values)
    return [values[round(n * (len(values) - 1) / max(limit - 1, 1))] for n in range(limit)]


def _sample_file(file: Path, limit: int, guess: CsvGuess) -> tuple[pa.Table, int | None]:
    """Return about `limit` rows of a file, with the columns of its directories, and its number of rows where it is known."""
    table, count = _sample_parquet(file, limit) if is_parquet(file) else _sample_csv(file, limit, guess)
    check_names(str(file), table.column_names, table.column_names)
    for index, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if column.null_count == len(column):  # a column without a value may be of any type
            table = table.set_column(index, name, pa.nulls(len(column)))
    for name, value in partition_columns(file).items():
        if name not in table.column_names:
            table = table.append_column(name, pa.array([value] * len(table), pa.string()))
    return table, count


def _sample_parquet(file: Path, limit: int) -> tuple[pa.Table, int | None]:
    """Return the first rows of row groups all over a file, and its number of rows."""
    try:
        with pq.ParquetFile(file) as opened:
            total, groups = opened.metadata.num_rows, opened.num_row_groups
            if total <= limit:
                return opened.read(), total
            sampled_groups = _spread(range(groups), max(MAX_PLACES, math.ceil(limit * groups / total)))
            rows_per_group = math.ceil(limit / len(sampled_groups))
            batches = [
                batch
                for group in sampled_groups
                for batch in islice(opened.iter_batches(rows_per_group, row_groups=[group]), 1)
            ]
            return pa.Table.from_batches(batches, opened.schema_arrow), total
    except (OSError, pa.ArrowException) as error:
        raise unreadable(str(file), " ".join(str(error).split())) from None


def _sample_csv(file: Path, limit: int, guess: CsvGuess) -> tuple[pa.Table, int | None]:
    """Return rows of a CSV file as text, without malformed lines, and its number of rows if these are all."""
    try:
        with open_csv(file, guess.csv_format) as opened:
            text, is_complete = _sample_lines(opened, file, limit)
    except READ_ERRORS as error:
        raise unreadable(str(file), one_line(error)) from None
    columns = opened.dialect.columns
    parts = list(read_block(text, opened.dialect, columns, line=2))
    not_utf8_rows, total = sum(part.not_utf8 for part in parts), sum(len(part.table) for part in parts)
    if not_utf8_rows > MAX_NOT_UTF8_SHARE * total:
        raise not_utf8(file, f"{not_utf8_rows:,} of {total:,} sampled lines")
    empty = pa.table({column: pa.array([], pa.string()) for column in columns})
    valid = [part.table.filter(pc.is_null(part.table[FAULT])).select(columns) for part in parts]
    return pa.concat_tables([empty, *valid]), total if is_complete else None


def _sample_lines(opened: CsvFile, file: Path, limit: int) -> tuple[bytes, bool]:
    """Return rows from places all over a file, without the header, and whether these are all rows."""
    # Latin-1 maps every byte to one character and back, so no byte changes. The line ends are kept too.
    if not opened.is_raw:
        read_ahead = io.TextIOWrapper(io.BytesIO(opened.read_ahead), "latin-1", newline="")
        rows = list(islice(_split_rows(read_ahead), limit))
        is_complete = not read_ahead.read(1) and not opened.file.read(1)
        return "".join(rows if is_complete else rows[:-1]).encode("latin-1"), is_complete
    lines = io.TextIOWrapper(opened.file, "latin-1", newline="")
    lines.seek(opened.start)
    rows = list(islice(_split_rows(lines), limit))
    if not lines.read(1):
        return "".join(rows).encode("latin-1"), True
    # If a row spans several lines, the start of a row cannot be recognised in the middle of the file, and a gzip file
    # has no random access: then the sample is the first rows.
    if isinstance(opened.file, gzip.GzipFile) or any(set("\r\n") & set(row.rstrip("\r\n")) for row in rows):
        return "".join(rows).encode("latin-1"), False
    rows_per_place = math.ceil(limit / MAX_PLACES)
    rows = rows[:rows_per_place]
    for n in range(1, MAX_PLACES):
        lines.seek(opened.start + (file.stat().st_size - opened.start) * n // MAX_PLACES)
        lines.readline()
        rows += islice(lines, rows_per_place)
    return "".join(rows).encode("latin-1"), False


def _split_rows(lines: Iterable[str]) -> Iterator[str]:
    """Yield rows of one or more lines: a row does not end inside quotes."""
    row: list[str] = []
    quotes = size = 0
    for line in lines:
        row.append(line)
        quotes, size = quotes + line.count('"'), size + len(line)
        if quotes % 2 == 0 or size > BLOCK:
            yield "".join(row)
            row, quotes, size = [], 0, 0
    yield "".join(row)
