"""From a publisher's text files to Parquet with DuckDB, in bounded memory, with errors that name file and line."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from openlum.errors import InputError
from openlum.prepare.engines.duckdb_sql import file_list, no_pattern, quoted


@contextmanager
def local_duckdb(scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that keeps to 2 GB of memory and puts the rest in `scratch`."""
    with duckdb.connect() as connection:
        connection.execute("SET memory_limit = '2GB'")
        connection.execute("SET temp_directory = ?", [str(scratch)])
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def read_csv(
    connection: duckdb.DuckDBPyConnection,
    files: Sequence[Path],
    columns: Mapping[str, str],
    *,
    header: bool = True,
    delimiter: str = ",",
    quote: str = '"',
    encoding: str = "utf-8",
) -> duckdb.DuckDBPyRelation:
    """Text files of one form, one after the other; nothing is read before the result is used.

    Args:
        connection: of `local_duckdb`.
        files: at least one.
        columns: name to DuckDB type. With a header, those to take, in any order; without one, all of them, in the files' order.
        header: the first line of each file has the names of the columns.
        delimiter: between fields; up to four characters.
        quote: around fields; empty: none.
        encoding: `utf-8` or `latin-1`.

    Raises:
        InputError: a file has no such column. Broken lines raise it from `save`.
    """
    given = [_header(path, columns, delimiter, encoding) for path in files] if header else [list(columns)]
    for path, names in zip(files, given, strict=False):
        if names != given[0]:
            raise InputError(f"{path}: other columns than in {files[0]}; get both files again")
    types = ", ".join(f"{quoted(name)}: {quoted(columns.get(name, 'VARCHAR'))}" for name in given[0])
    return connection.sql(
        f"""SELECT {", ".join(f'"{name}"' for name in columns)}
        FROM read_csv({file_list(files)},
            columns = {{{types}}}, header = {header}, auto_detect = false, strict_mode = true, encoding = {quoted(encoding)},
            delim = {quoted(delimiter)}, quote = {quoted(quote)}, escape = {quoted(quote)})"""
    )


def read_parquet(
    connection: duckdb.DuckDBPyConnection, path: Path, *, numbered: bool = False
) -> duckdb.DuckDBPyRelation:
    """A Parquet file as a relation; with its rows `numbered`, in the column `file_row_number`."""
    return connection.read_parquet(no_pattern(path), file_row_number=numbered)


def save(relation: duckdb.DuckDBPyRelation, path: Path, origin: str) -> int:
    """Compute a relation to a Parquet file, in its order.

    Args:
        relation: to compute.
        path: of the Parquet file.
        origin: the files that it comes from, for the message.

    Returns:
        The number of rows.

    Raises:
        InputError: a line of a file could not be read.
    """
    try:
        relation.write_parquet(str(path), compression="zstd")
    except (duckdb.Error, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split("Possible")[0].split())
        raise InputError(f"{origin}: not in the publisher's form ({reason}); get the file again") from None
    return int(pq.read_metadata(path).num_rows)


def _header(path: Path, columns: Mapping[str, str], delimiter: str, encoding: str) -> list[str]:
    """The names in a file's first line."""
    try:
        with path.open(encoding=encoding) as file:
            names = next(csv.reader([file.readline().lstrip("\ufeff")], delimiter=delimiter), [])
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); get the file again") from None
    missing = [name for name in columns if name not in names]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)} in its first line; get the publisher's file again")
    return names
