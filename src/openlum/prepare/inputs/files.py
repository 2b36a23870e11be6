"""The files of a table: looked at before anything is computed, brought to one type a column, and CSV turned into Parquet."""

import difflib
import itertools
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from openlum.errors import InputError
from openlum.prepare.engines.column_names import check_names
from openlum.prepare.inputs.column_types import common_types, fits, is_empty, plain_type
from openlum.prepare.inputs.csv_rows import DAMAGE, FAULT_TYPES, open_csv
from openlum.prepare.inputs.paths import find, partition


@dataclass(frozen=True)
class DataFile:
    """One file of a table."""

    path: str
    """As the team has it."""
    parquet: str
    """What the engine reads: the file itself, or the Parquet made of it."""
    rows: int
    """How many it has."""
    types: dict[str, pa.DataType]
    """The wanted columns that are in the file, with the type there; null where all of its values are missing."""
    partition: dict[str, str | None]
    """The wanted columns that the file's directories have, with their values."""


@dataclass(frozen=True)
class Source:
    """The files of one table, in the order of their names."""

    name: str
    """The path as the schema has it, for messages."""
    files: list[DataFile]
    types: dict[str, pa.DataType]
    """The type of each wanted column over all files; null where it has no value at all."""
    malformed: int
    """Malformed lines of CSV, which are rows too."""

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(file.rows for file in self.files)

    @property
    def starts(self) -> list[int]:
        """How many rows lie in the files before each."""
        return [0, *itertools.accumulate(file.rows for file in self.files)][:-1]

    def layouts(self) -> list[list[int]]:
        """The numbers of the files that have rows, those with the same types in the same columns together."""
        groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
        for number, file in enumerate(self.files):
            if file.rows:
                key = tuple(sorted((name, str(of)) for name, of in file.types.items()))
                groups.setdefault(key, []).append(number)
        return list(groups.values())


def source(root: Path, path: str, columns: Sequence[str], scratch: Path, reserved: Collection[str] = ()) -> Source:
    """Find the files of a table and check that they fit together.

    Args:
        root: the directory that `path` starts from.
        path: of the table, as the schema has it.
        columns: names that every file with rows must have, or its directories.
        scratch: directory for Parquet made of CSV.
        reserved: names, in lower case, that no column may have.

    Raises:
        InputError: a file is missing, damaged, without a column, or two differ in the type of one; or there are no rows.
    """
    wanted = list(dict.fromkeys(columns))
    files, malformed = [], 0
    for number, file in enumerate(find(root, path)):
        readable, odd = str(file), 0
        if not file.name.lower().endswith(".parquet"):
            readable = str(scratch / f"{number}.parquet")
            odd = _csv_to_parquet(file, wanted, Path(readable))
        files.append(_look(str(file), os.path.abspath(readable), wanted, reserved, internal=odd > 0))
        malformed += odd
    if not any(file.rows for file in files):
        raise InputError(f"{root / path}: has no rows; expected at least one")
    types = {column: _one_type(files, column) for column in wanted}
    return Source(path, files, types, malformed)


def damage(file: DataFile) -> str:
    """Why a file cannot be read to its end, in words; empty where it can."""
    try:
        with pq.ParquetFile(file.parquet) as opened:
            for batch in opened.iter_batches():
                batch.validate(full=True)
    except MemoryError:
        raise
    except (OSError, pa.ArrowException) as error:
        return one_line(error)
    return ""


def column_names(file: Path) -> list[str]:
    """The names of a file's columns.

    Raises:
        InputError: it cannot be read.
    """
    if not file.name.lower().endswith(".parquet"):
        with open_csv(file) as opened:
            return opened.dialect.columns
    try:
        return list(pq.read_schema(file).names)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(str(file), one_line(error)) from None


def check_columns(file: str, wanted: Sequence[str], there: Sequence[str]) -> None:
    """Refuse a file without a column, naming the near miss."""
    for column in wanted:
        if column not in there:
            same = [name for name in there if name.lower() == column.lower()]
            near = same or difflib.get_close_matches(column, there, n=1)
            hint = f"did you mean '{near[0]}'? It" if near else "the file"
            raise InputError(f"{file}: no column '{column}'; {hint} has the columns {', '.join(there)}")


def check_type(file: str, column: str, of: pa.DataType) -> None:
    """Refuse decimals of more than 38 digits, which DuckDB reads as floats."""
    of = of.value_type if pa.types.is_list(of) else of
    if pa.types.is_decimal(of) and of.precision > 38:
        raise InputError(f"{file}: column '{column}' is {of}; expected 38 digits at most: write it as text")


def unreadable(file: str, why: str) -> InputError:
    """The message for a damaged file."""
    return InputError(f"{file}: cannot be read ({why}); mend or write the file again")


def one_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split("\n\n")[0].split()) or type(error).__name__


def _look(path: str, readable: str, wanted: list[str], reserved: Collection[str], internal: bool) -> DataFile:
    """What a file has of the wanted columns; `internal`: and of those for malformed lines."""
    try:
        with pq.ParquetFile(readable) as opened:
            schema, rows = opened.schema_arrow, opened.metadata.num_rows
    except MemoryError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, one_line(error)) from None
    directories = partition(path)
    here = [column for column in wanted if column in schema.names]
    elsewhere = {column: directories[column] for column in wanted if column in directories and column not in here}
    if rows:
        check_columns(path, wanted, [*schema.names, *elsewhere])
    check_names(path, schema.names, here, reserved)
    types = {column: plain_type(schema.field(column).type) if rows else pa.null() for column in here}
    for column, of in types.items():
        check_type(path, column, of)
    return DataFile(path, readable, rows, types | (FAULT_TYPES if internal else {}), elsewhere)


def _one_type(files: Sequence[DataFile], column: str) -> pa.DataType:
    """The type of a column over all files; where one of them has no value of it, its type there becomes null.

    Raises:
        InputError: two files differ in the type.
    """
    typed = [file for file in files if column in file.types]
    text = [pa.string()] * any(file.partition.get(column) is not None for file in files)
    for look_closer in (False, True):
        if look_closer:
            for file in typed:
                if is_empty(file.parquet, column):
                    file.types[column] = pa.null()
        for of in common_types([*(file.types[column] for file in typed), *text]):
            if all(_same(file, column, of) for file in typed):
                return of
    first, other = _two_that_differ(files, column)
    raise InputError(
        f"{other.path}: column '{column}' is {other.types.get(column, 'text')}, but {first.types.get(column, 'text')} in "
        f"{first.path}; write the files with one schema"
    )


def _same(file: DataFile, column: str, of: pa.DataType) -> bool:
    return file.types[column] in (of, pa.null()) or fits(file.parquet, column, of)


def _two_that_differ(files: Sequence[DataFile], column: str) -> tuple[DataFile, DataFile]:
    """The first file with values in a column, and the first whose type there is another."""
    filled = [file for file in files if file.rows and not pa.types.is_null(file.types.get(column, pa.string()))]
    kinds = [file.types.get(column, pa.string()) for file in filled]
    return filled[0], next(file for file, of in zip(filled, kinds, strict=True) if of != kinds[0])


def _csv_to_parquet(file: Path, columns: Sequence[str], out: Path) -> int:
    """Write the rows of a CSV file as Parquet, as text and in their order; returns how many are malformed."""
    malformed = 0
    try:
        with open_csv(file) as opened:
            here = [column for column in columns if column in opened.dialect.columns]
            check_columns(str(file), columns, [*opened.dialect.columns, *partition(file)])
            out.parent.mkdir(parents=True, exist_ok=True)
            schema = pa.schema([*((column, pa.string()) for column in here), *FAULT_TYPES.items()])
            with pq.ParquetWriter(out, schema) as writer:
                for rows in opened.rows(here):
                    writer.write_table(rows.table)
                    malformed += rows.malformed
    except DAMAGE as error:
        raise unreadable(str(file), one_line(error)) from None
    return malformed
