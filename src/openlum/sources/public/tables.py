"""Conversion of a publisher's text files to Parquet with DuckDB, in bounded memory. Errors name the file and the line."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from openlum.errors import InputError
from openlum.prepare.engines.duckdb_sql import escape_glob, file_list, quoted


@contextmanager
def local_duckdb(scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection that uses at most 2 GB of memory and spills to `scratch`."""
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
    """Return the rows of text files with the same columns, one file after the other, as a relation that is computed later.

    Args:
        connection: a connection from `local_duckdb`.
        files: at least one file.
        columns: column name to DuckDB type. If the files have a header, the columns to read, in any order; otherwise all
            columns, in the order of the files.
        header: whether the first line of each file has the names of the columns.
        delimiter: separator of the fields, up to four characters.
        quote: quote character around fields; empty for none.
        encoding: `utf-8` or `latin-1`.

    Raises:
        InputError: a file lacks a column, or the files have different columns. Broken lines raise the error in `save`.
    """
    headers = [_header(path, columns, delimiter, encoding) for path in files] if header else [list(columns)]
    for path, names in zip(files, headers, strict=False):
        if names != headers[0]:
            raise InputError(f"{path}: its columns differ from those of {files[0]}; get both files again")
    types = ", ".join(f"{quoted(name)}: {quoted(columns.get(name, 'VARCHAR'))}" for name in headers[0])
    return connection.sql(
        f"""SELECT {", ".join(f'"{name}"' for name in columns)}
        FROM read_csv({file_list(files)},
            columns = {{{types}}}, header = {header}, auto_detect = false, strict_mode = true, encoding = {quoted(encoding)},
            delim = {quoted(delimiter)}, quote = {quoted(quote)}, escape = {quoted(quote)})"""
    )


def read_parquet(
    connection: duckdb.DuckDBPyConnection, path: Path, *, numbered: bool = False
) -> duckdb.DuckDBPyRelation:
    """Return a Parquet file as a relation; `numbered` adds the row number as the column `file_row_number`."""
    return connection.read_parquet(escape_glob(path), file_row_number=numbered)


def save(relation: duckdb.DuckDBPyRelation, path: Path, origin: str) -> int:
    """Write the rows of a relation to a Parquet file, in the order of the relation, and return their number.

    Args:
        relation: the relation to compute.
        path: the Parquet file to write.
        origin: the source files of the relation, for the message.

    Raises:
        InputError: a line of a source file cannot be read.
    """
    try:
        relation.write_parquet(str(path), compression="zstd")
    except (duckdb.Error, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split("Possible")[0].split())
        raise InputError(f"{origin}: not in the publisher's format ({reason}); get the file again") from None
    return int(pq.read_metadata(path).num_rows)


def _header(path: Path, columns: Mapping[str, str], delimiter: str, encoding: str) -> list[str]:
    """Return the names of the columns in a file's first line."""
    try:
        with path.open(encoding=encoding) as file:
            names = next(csv.reader([file.readline().lstrip("\ufeff")], delimiter=delimiter), [])
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); get the file again") from None
    missing = [name for name in columns if name not in names]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)} in the first line; get the publisher's file again")
    return names
