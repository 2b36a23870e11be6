"""Where tables are computed: Ibis expressions on DuckDB, in this process.

All else in this folder is written in Ibis, so that the same expressions can run where the log lies.
"""

import csv
import difflib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir

from openlum.errors import InputError

ROW = "row_number"
"""Column that `Engine.read` adds: a row's number in its file, from 1."""


class Engine:
    """DuckDB in this process.

    Args:
        scratch: a directory for what does not fit into memory.
    """

    def __init__(self, scratch: Path) -> None:
        self._connection = ibis.duckdb.connect(temp_directory=str(scratch))
        self._connection.raw_sql("SET TimeZone = 'UTC'")  # otherwise text without an offset is read as local time

    def read(self, name: str, path: Path, columns: Mapping[str, str]) -> ir.Table:
        """Read columns of a Parquet or CSV file, CSV as text, with the number of each row.

        Args:
            name: what to call the table.
            path: the file.
            columns: the name of a column in the result to its name in the file.

        Raises:
            InputError: the file is missing, unreadable or empty, or a column is not in it.
        """
        if path.is_dir():
            raise InputError(f"{path}: is a directory; expected a file that ends in .parquet or .csv")
        if any(mark in str(path) for mark in "*?["):
            raise InputError(f"{path}: file names with *, ? or [ are read as patterns; rename the file")
        if not path.is_file():
            raise InputError(f"{path}: no such file; the schema names it")
        try:
            table = self._open(path)
            _check_columns(path, columns, table.columns)
            picked = {new: table[old] for new, old in columns.items()}
            kept = self.keep(name, table.select(**{ROW: ibis.row_number() + 1}, **picked))
        except (duckdb.Error, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split("\n\n")[0].split())
            raise InputError(f"{path}: cannot be read ({reason}); mend or write the file again") from None
        if self.value(kept.count()) == 0:
            raise InputError(f"{path}: has no rows; expected at least one")
        return kept

    def keep(self, name: str, table: ir.Table) -> ir.Table:
        """Compute a table once, for all that follows."""
        return self._connection.create_table(name, table)

    def drop(self, name: str) -> None:
        """Forget a kept table."""
        self._connection.drop_table(name)

    def value(self, expression: Any) -> Any:
        """Compute one number or text."""
        return self._connection.to_pyarrow(expression).as_py()

    def rows(self, table: ir.Table) -> list[dict[str, Any]]:
        """Compute a small table."""
        rows: list[dict[str, Any]] = self._connection.to_pyarrow(table).to_pylist()
        return rows

    def write(self, table: ir.Table, path: Path) -> None:
        """Compute a table and write it as Parquet, in its order."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection.to_parquet(table, path)

    def close(self) -> None:
        """Give memory and scratch space back."""
        self._connection.disconnect()

    def _open(self, path: Path) -> ir.Table:
        if path.suffix == ".parquet":
            return self._connection.read_parquet(path)
        if path.suffix == ".csv":
            # Guesses from a sample break on a later row, and a guess at the header may skip rows: nothing is guessed.
            delimiter, columns = _csv_header(path)
            text = dict.fromkeys(columns, "VARCHAR")
            settings = {"header": True, "delim": delimiter, "quote": '"', "escape": '"'}
            return self._connection.read_csv(path, columns=text, auto_detect=False, **settings)
        raise InputError(f"{path}: expected a file that ends in .parquet or .csv")


@contextmanager
def local_engine(scratch: Path) -> Iterator[Engine]:
    """An engine in this process, closed at the end, its scratch directory removed."""
    engine = Engine(scratch)
    try:
        yield engine
    finally:
        engine.close()
        shutil.rmtree(scratch, ignore_errors=True)


def _csv_header(path: Path) -> tuple[str, list[str]]:
    """The delimiter and the columns of a CSV file, from its first line."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        line = file.readline()
    if not line.strip():
        raise InputError(f"{path}: is empty; expected a line with the names of the columns")
    delimiter = max(",;\t", key=line.count)
    columns = next(csv.reader([line], delimiter=delimiter))
    repeated = {column for column in columns if columns.count(column) > 1}
    if repeated:
        raise InputError(f"{path}: column '{min(repeated)}' is there twice; rename one")
    return delimiter, columns


def _check_columns(path: Path, wanted: Mapping[str, str], there: tuple[str, ...]) -> None:
    for column in wanted.values():
        if column not in there:
            near = difflib.get_close_matches(column, there, n=1)
            hint = f"did you mean '{near[0]}'? It" if near else "the file"
            raise InputError(f"{path}: no column '{column}'; {hint} has the columns {', '.join(there)}")
