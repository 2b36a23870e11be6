"""The files of a table: inspected before anything is computed, with one type for each column, and CSV converted to Parquet."""

import difflib
import itertools
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from openlum.errors import InputError
from openlum.file_format import DEFAULT_CSV, CsvFormat
from openlum.prepare.engines.column_names import check_names
from openlum.prepare.inputs.column_types import common_types, fits, is_empty, plain_type
from openlum.prepare.inputs.csv_rows import FAULT_TYPES, READ_ERRORS, header_hint, open_csv
from openlum.prepare.inputs.paths import find_files_of_schema, is_parquet, partition_columns

UNKNOWN = "???"
"""What `lum schema` writes in place of a column that it could not guess."""


@dataclass(frozen=True)
class DataFile:
    """One file of a table."""

    path: str
    """The path of the user's file."""
    parquet: str
    """The file that the engine reads: the user's file itself, or the Parquet file made from it."""
    rows: int
    """The number of rows."""
    types: dict[str, pa.DataType]
    """The required columns that are in the file, with their types; null where all values are missing."""
    partition: dict[str, str | None]
    """The required columns that the file's directories define, with their values."""


@dataclass(frozen=True)
class TableFiles:
    """The files of one table, ordered by their names."""

    name: str
    """The path as written in the schema, for messages."""
    files: list[DataFile]
    types: dict[str, pa.DataType]
    """The type of each required column over all files; null where it has no value in any file."""
    malformed: int
    """The number of malformed lines in CSV files; they count as rows."""

    @property
    def rows(self) -> int:
        """The number of rows in all files."""
        return sum(file.rows for file in self.files)

    @property
    def starts(self) -> list[int]:
        """For each file, the number of rows in the files before it."""
        return [0, *itertools.accumulate(file.rows for file in self.files)][:-1]

    def layouts(self) -> list[list[int]]:
        """Return the numbers of the files that have rows, in groups of files with the same columns in the same types."""
        groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
        for number, file in enumerate(self.files):
            if file.rows:
                key = tuple(sorted((name, str(column_type)) for name, column_type in file.types.items()))
                groups.setdefault(key, []).append(number)
        return list(groups.values())


def find_table_files(
    root: Path,
    path: str,
    columns: Sequence[str],
    scratch: Path,
    reserved: Collection[str] = (),
    csv_format: CsvFormat = DEFAULT_CSV,
) -> TableFiles:
    """Find the files of a table and check that they fit together.

    Args:
        root: the directory that a relative `path` starts from.
        path: the path of the table, as written in the schema.
        columns: names that every file with rows, or its directories, must have.
        scratch: directory for Parquet files made from CSV.
        reserved: names, in lower case, that no column may have.
        csv_format: the format of CSV files.

    Raises:
        InputError: a file is missing, damaged or lacks a column; two files have different types for a column; or there are no
            rows.
    """
    required = list(dict.fromkeys(columns))
    files, malformed = [], 0
    for number, file in enumerate(find_files_of_schema(root, path)):
        readable, malformed_lines = str(file), 0
        if not is_parquet(file):
            readable = str(scratch / f"{number}.parquet")
            malformed_lines = _csv_to_parquet(file, csv_format, required, Path(readable))
        files.append(_inspect(str(file), os.path.abspath(readable), required, reserved, internal=malformed_lines > 0))
        malformed += malformed_lines
    if not any(file.rows for file in files):
        raise InputError(f"{root / path}: has no rows; expected at least one row")
    types = {column: _one_type(files, column) for column in required}
    return TableFiles(path, files, types, malformed)


def read_error(file: DataFile) -> str:
    """Return in words why a file cannot be read to its end; empty if it can."""
    try:
        with pq.ParquetFile(file.parquet) as opened:
            for batch in opened.iter_batches():
                batch.validate(full=True)
    except MemoryError:
        raise
    except (OSError, pa.ArrowException) as error:
        return one_line(error)
    return ""


def column_names(file: Path, csv_format: CsvFormat = DEFAULT_CSV) -> list[str]:
    """Return the names of a file's columns.

    Raises:
        InputError: the file cannot be read.
    """
    if not is_parquet(file):
        with open_csv(file, csv_format) as opened:
            return opened.dialect.columns
    try:
        return list(pq.read_schema(file).names)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(str(file), one_line(error)) from None


def check_columns(file: str, required: Sequence[str], present: Sequence[str]) -> None:
    """Raise an `InputError` if a file lacks a required column; the message names the most similar column."""
    for column in required:
        if column == UNKNOWN:
            raise InputError(
                f"{file}: the schema has {UNKNOWN} in place of a column that 'lum schema' could not guess; replace it by one of "
                f"{', '.join(present)}"
            )
        if column not in present:
            same = [name for name in present if name.lower() == column.lower()]
            near = same or difflib.get_close_matches(column, present, n=1)
            hint = f"did you mean '{near[0]}'? The file" if near else "the file"
            raise InputError(
                f"{file}: no column '{column}'; {hint} has the columns {', '.join(present)}{header_hint(present)}"
            )


def check_type(file: str, column: str, column_type: pa.DataType) -> None:
    """Raise an `InputError` for decimals of more than 38 digits, which DuckDB reads as floats."""
    column_type = column_type.value_type if pa.types.is_list(column_type) else column_type
    if pa.types.is_decimal(column_type) and column_type.precision > 38:
        raise InputError(
            f"{file}: column '{column}' has the type {column_type}; at most 38 digits are supported: write it as text"
        )


def unreadable(file: str, reason: str) -> InputError:
    """Return the error for a damaged file."""
    return InputError(f"{file}: cannot be read ({reason}); repair the file or write it again")


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line."""
    return " ".join(str(error).split("\n\n")[0].split()) or type(error).__name__


def _inspect(path: str, readable: str, required: list[str], reserved: Collection[str], internal: bool) -> DataFile:
    """Return the description of a file and its required columns; `internal` adds the columns for malformed lines."""
    try:
        with pq.ParquetFile(readable) as opened:
            schema, rows = opened.schema_arrow, opened.metadata.num_rows
    except MemoryError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, one_line(error)) from None
    directories = partition_columns(path)
    in_file = [column for column in required if column in schema.names]
    in_directories = {
        column: directories[column] for column in required if column in directories and column not in in_file
    }
    if rows:
        check_columns(path, required, [*schema.names, *in_directories])
    check_names(path, schema.names, in_file, reserved)
    types = {column: plain_type(schema.field(column).type) if rows else pa.null() for column in in_file}
    for column, column_type in types.items():
        check_type(path, column, column_type)
    return DataFile(path, readable, rows, types | (FAULT_TYPES if internal else {}), in_directories)


def _one_type(files: Sequence[DataFile], column: str) -> pa.DataType:
    """Return the type of a column over all files; in a file without values of the column, its type becomes null.

    Raises:
        InputError: two files have different types.
    """
    typed = [file for file in files if column in file.types]
    text = [pa.string()] * any(file.partition.get(column) is not None for file in files)
    for ignore_empty in (False, True):
        if ignore_empty:
            for file in typed:
                if is_empty(file.parquet, column):
                    file.types[column] = pa.null()
        for column_type in common_types([*(file.types[column] for file in typed), *text]):
            if all(_same(file, column, column_type) for file in typed):
                return column_type
    first, other = _two_that_differ(files, column)
    raise InputError(
        f"{other.path}: column '{column}' is {other.types.get(column, 'text')}, but {first.types.get(column, 'text')} in "
        f"{first.path}; write the files with one schema"
    )


def _same(file: DataFile, column: str, column_type: pa.DataType) -> bool:
    return file.types[column] in (column_type, pa.null()) or fits(file.parquet, column, column_type)


def _two_that_differ(files: Sequence[DataFile], column: str) -> tuple[DataFile, DataFile]:
    """Return the first file with values in a column, and the first file whose type is different."""
    filled = [file for file in files if file.rows and not pa.types.is_null(file.types.get(column, pa.string()))]
    kinds = [file.types.get(column, pa.string()) for file in filled]
    return filled[0], next(file for file, column_type in zip(filled, kinds, strict=True) if column_type != kinds[0])


def _csv_to_parquet(file: Path, csv_format: CsvFormat, columns: Sequence[str], out: Path) -> int:
    """Write the rows of a CSV file as Parquet, as text and in their order; returns the number of malformed lines."""
    malformed = 0
    try:
        with open_csv(file, csv_format) as opened:
            in_file = [column for column in columns if column in opened.dialect.columns]
            check_columns(str(file), columns, [*opened.dialect.columns, *partition_columns(file)])
            out.parent.mkdir(parents=True, exist_ok=True)
            schema = pa.schema([*((column, pa.string()) for column in in_file), *FAULT_TYPES.items()])
            with pq.ParquetWriter(out, schema) as writer:
                for rows in opened.rows(in_file):
                    writer.write_table(rows.table)
                    malformed += rows.malformed
    except READ_ERRORS as error:
        raise unreadable(str(file), one_line(error)) from None
    return malformed
