"""Where tables are computed: the same Ibis expressions on DuckDB, in this process, or on Spark, where the log lies."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ibis.expr.types as ir

FILE = "__lum_file"
"""Column that `Engine.scan` adds: the number of a row's file, from 0 in the order in which it was given them."""
ROW = "__lum_row"
"""Column that `Engine.scan` adds: a row's number in its file, from 1."""


class Engine(ABC):
    """An Ibis connection, and the few things that every back end does in its own way.

    Args:
        connection: an Ibis back end.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    failures: tuple[type[Exception], ...]
    """What a computation raises where a file is damaged, or memory or disk run out."""
    more_memory: str
    """What to do where memory runs out, in words."""

    reserved: tuple[str, ...] = ()
    """Names, in lower case, that no column of a file may have, because the back end gives them to columns of its own."""

    @abstractmethod
    def scan(self, name: str, files: Sequence[str], columns: Sequence[str]) -> ir.Table:
        """Some columns of Parquet files that have them in the same types, not yet read, with `FILE` and `ROW` added.

        The paths are absolute, and may hold any sign.
        """

    @abstractmethod
    def keep(self, name: str, table: ir.Table) -> ir.Table:
        """Compute a table once, for all that follows."""

    @abstractmethod
    def write_parts(self, table: ir.Table, directory: Path) -> None:
        """Write the rows as Parquet, by the column `part`: those of part 3 into `directory/part=3/`, in any order."""

    @abstractmethod
    def parts(self, events: int) -> int:
        """Into how many parts to divide so many events."""

    @abstractmethod
    def read(self, name: str, path: Path) -> ir.Table:
        """The rows of a Parquet file, or of all those under a directory, without the column `part`."""

    def view(self, name: str, table: ir.Table) -> ir.Table:
        """The same table under a name, not computed: what is built on it compiles sooner."""
        return self._connection.create_view(re.sub(r"\W", "_", f"view {name}"), table, overwrite=True)

    def value(self, expression: Any) -> Any:
        """Compute one number or text."""
        return self._connection.to_pyarrow(expression).as_py()

    def rows(self, table: ir.Table) -> list[dict[str, Any]]:
        """Compute a small table."""
        rows: list[dict[str, Any]] = self._connection.to_pyarrow(table).to_pylist()
        return rows

    @abstractmethod
    def write(self, table: ir.Table, path: Path) -> None:
        """Compute a table and write it as one Parquet file, in its order: for vocabularies, items and users."""

    def write_rows(self, table: ir.Table, path: Path) -> None:
        """Compute a table and write it as a Parquet file, or a directory of them, in any order."""
        self.write(table, path)

    @abstractmethod
    def close(self) -> None:
        """Give memory back."""
