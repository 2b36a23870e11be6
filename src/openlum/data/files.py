"""The files of a table: found, looked at before anything is computed, and CSV turned into Parquet."""

import csv
import difflib
import gzip
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from openlum.errors import InputError

ENDINGS = (".parquet", ".csv", ".csv.gz")


@dataclass(frozen=True)
class Source:
    """The files of one table, in the order of their names."""

    name: str
    """The path as the schema has it, for messages."""
    files: list[str]
    """The team's files."""
    parquet: list[str]
    """What the engine reads instead of each: the file itself, or the Parquet made of it."""
    counts: list[int]
    """Rows of each."""

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(self.counts)

    @property
    def starts(self) -> list[int]:
        """How many rows lie in the files before each."""
        return [0, *itertools.accumulate(self.counts)][:-1]

    def at(self, index: int, row: int) -> str:
        """FILE: row N, in words."""
        return f"{self.files[index]}: row {row:,}"


def find(root: Path, path: str) -> list[Path]:
    """The files that a path of the schema names: one, those in a directory, or those that fit a pattern.

    Raises:
        InputError: there is none, or one that is neither Parquet nor CSV.
    """
    named = root / path
    if named.is_file():
        if any(mark in str(named) for mark in "*?["):
            raise InputError(f"{named}: file names with *, ? or [ are read as patterns; rename the file")
        found = [named]
    elif named.is_dir():
        found = sorted(f for f in named.rglob("*") if f.name.endswith(ENDINGS) and not f.name.startswith(("_", ".")))
        if not found:
            raise InputError(f"{named}: no file in this directory ends in {', '.join(ENDINGS)}")
    elif any(mark in path for mark in "*?["):
        start = Path(named.anchor) if named.is_absolute() else Path()
        found = sorted(f for f in start.glob(str(named.relative_to(named.anchor))) if f.is_file())
        if not found:
            raise InputError(f"{named}: no file fits this pattern; the schema names it")
    else:
        raise InputError(f"{named}: no such file; the schema names it")
    for file in found:
        if not file.name.endswith(ENDINGS):
            raise InputError(f"{file}: expected a file that ends in {', '.join(ENDINGS)}")
    return found


def source(root: Path, path: str, columns: Sequence[str], scratch: Path) -> Source:
    """Find the files of a table and check that they fit together.

    Args:
        root: the directory that `path` starts from.
        path: of the table, as the schema has it.
        columns: names that every file must have.
        scratch: directory for Parquet made of CSV.

    Raises:
        InputError: a file is missing, damaged, without rows or without a column, or two differ in the type of one.
    """
    files = find(root, path)
    parquet = [str(_as_parquet(file, columns, scratch / f"{number}")) for number, file in enumerate(files)]
    types: dict[str, tuple[Path, pa.DataType]] = {}
    counts = []
    for file, readable in zip(files, parquet, strict=True):
        schema, count = _look(file, readable)
        check_columns(str(file), columns, schema.names)
        counts.append(count)
        for column in columns:
            of = _plain(schema.field(column).type)
            check_type(str(file), column, of)
            first, expected = types.setdefault(column, (file, of))
            if of != expected:
                raise InputError(
                    f"{file}: column '{column}' is {of}, but {expected} in {first}; write the files with one schema"
                )
    if not sum(counts):
        raise InputError(f"{root / path}: has no rows; expected at least one")
    return Source(path, [str(file) for file in files], parquet, counts)


def blame(source: Source) -> tuple[str, str]:
    """The first file of a table that cannot be read to its end, and why; called when a computation has failed."""
    for file, readable in zip(source.files, source.parquet, strict=True):
        try:
            for batch in pq.ParquetFile(readable).iter_batches():
                batch.validate(full=True)
        except (OSError, pa.ArrowException) as error:
            return file, _one_line(error)
    return "", ""


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


def _look(file: Path, readable: str) -> tuple[pa.Schema, int]:
    try:
        with pq.ParquetFile(readable) as opened:
            return opened.schema_arrow, opened.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        raise unreadable(str(file), _one_line(error)) from None


def unreadable(file: str, why: str) -> InputError:
    """The message for a damaged file."""
    return InputError(f"{file}: cannot be read ({why}); mend or write the file again")


def _plain(of: pa.DataType) -> pa.DataType:
    """The type without what does not matter to us: large, dictionary-encoded or view layouts."""
    if pa.types.is_dictionary(of):
        return _plain(of.value_type)
    if pa.types.is_large_string(of) or pa.types.is_string_view(of):
        return pa.string()
    if pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        return pa.list_(_plain(of.value_type))
    return of


def _as_parquet(file: Path, columns: Sequence[str], draft: Path) -> Path:
    """The file itself, or Parquet with the rows of a CSV file as text, in their order."""
    if file.suffix == ".parquet":
        return file
    try:
        delimiter, there = csv_header(file)
        check_columns(str(file), columns, there)
        draft.parent.mkdir(parents=True, exist_ok=True)
        # Guesses from a sample break on a later row, and a guess at the header may skip rows: nothing is guessed.
        text = _literal(dict.fromkeys(there, "VARCHAR"))
        read = f"read_csv({_literal(str(file))}, header=true, auto_detect=false, delim={_literal(delimiter)}, "
        read += f"quote='\"', escape='\"', columns={text})"
        picked = ", ".join('"' + name.replace('"', '""') + '"' for name in dict.fromkeys(columns))
        with duckdb.connect() as connection:
            connection.execute(f"COPY (SELECT {picked} FROM {read}) TO {_literal(str(draft))} (FORMAT parquet)")
    except (duckdb.Error, UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise unreadable(str(file), _one_line(error)) from None
    return draft


def csv_header(file: Path) -> tuple[str, list[str]]:
    """The delimiter and the columns of a CSV file, from its first line; a column without a name is called `unnamed N`."""
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
        line = lines.readline().decode("utf-8-sig")
    if not line.strip():
        raise InputError(f"{file}: is empty; expected a line with the names of the columns")
    delimiter = max(",;\t", key=line.count)
    columns = next(csv.reader([line], delimiter=delimiter))
    columns = [column or f"unnamed {number}" for number, column in enumerate(columns, 1)]
    repeated = {column for column in columns if columns.count(column) > 1}
    if repeated:
        raise InputError(f"{file}: column '{min(repeated)}' is there twice; rename one")
    return delimiter, columns


def _literal(value: str | Mapping[str, str]) -> str:
    """A constant in SQL."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    return "'" + value.replace("'", "''") + "'"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split("\n\n")[0].split())
