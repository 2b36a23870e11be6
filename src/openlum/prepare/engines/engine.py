"""The interface of engines: the same Ibis expressions run on DuckDB, in this process, or on Spark, near the log."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import pyarrow as pa

FILE_NUMBER = "__lum_file"
"""Column that `Engine.scan` adds: the number of the row's file, from 0, in the order of the `files` argument."""
ROW_NUMBER = "__lum_row"
"""Column that `Engine.scan` adds: the number of the row in its file, from 1."""


class Engine(ABC):
    """An Ibis connection, and the operations that every back end implements in its own way.

    Args:
        connection: an Ibis back end.
        events_per_part: approximate number of events in a part of the log.
    """

    def __init__(self, connection: Any, events_per_part: int) -> None:
        self._connection, self._events_per_part = connection, events_per_part

    failures: tuple[type[Exception], ...]
    """Exceptions that a computation raises if a file is damaged or if memory or disk space runs out."""
    more_memory_hint: str
    """What the user can do if memory runs out, for messages."""

    reserved: tuple[str, ...] = ()
    """Names, in lower case, that no column of a file may have, because the back end gives them to its own columns."""

    collects_nulls: bool = False
    """Whether Ibis can collect a column of the back end with its nulls. To leave them out takes time, also if there are none."""

    @abstractmethod
    def scan(self, name: str, files: Sequence[str], columns: Sequence[str]) -> ir.Table:
        """Return some columns of Parquet files as a table that is not read yet, with `FILE_NUMBER` and `ROW_NUMBER` added.

        Args:
            name: the name of the table.
            files: absolute paths, which may contain any character. All files have these columns in the same types.
            columns: the columns to read.
        """

    @abstractmethod
    def materialize(self, name: str, table: ir.Table) -> ir.Table:
        """Compute a table once, and return the stored result."""

    @abstractmethod
    def write_parts(self, table: ir.Table, directory: Path, parts: Sequence[int]) -> None:
        """Write rows as Parquet by the column `part`: rows of part 3 go to `directory/part=3/`, in any order.

        Args:
            table: the rows.
            directory: the directory of the parts.
            parts: the numbers that `part` may be.
        """

    def number_of_parts(self, events: int) -> int:
        """Return how many parts to divide a log of this many events into. Each part becomes a shard of the dataset."""
        return max(1, -(-events // self._events_per_part))

    @abstractmethod
    def read(self, name: str, path: Path) -> ir.Table:
        """Return the rows of a Parquet file, or of all Parquet files under a directory, without the column `part`."""

    def view(self, name: str, table: ir.Table) -> ir.Table:
        """Return a named view of a table, without computing it; expressions built on the view compile faster."""
        return self._connection.create_view(re.sub(r"\W", "_", f"view {name}"), table, overwrite=True)

    @abstractmethod
    def fetch(self, table: ir.Table) -> pa.Table:
        """Compute a table of this engine that fits into memory, and return its rows."""

    def fetch_value(self, expression: Any) -> Any:
        """Compute an expression and return its single number or text."""
        return self.fetch(expression.as_table()).column(0)[0].as_py()

    def fetch_rows(self, table: ir.Table) -> list[dict[str, Any]]:
        """Compute a small table and return its rows."""
        rows: list[dict[str, Any]] = self.fetch(table).to_pylist()
        return rows

    @abstractmethod
    def write(self, table: ir.Table, path: Path) -> None:
        """Compute a table and write it as one Parquet file, in its order; used for vocabularies, items and users."""

    def write_rows(self, table: ir.Table, path: Path) -> None:
        """Compute a table and write it as a Parquet file or a directory of Parquet files, in any order."""
        self.write(table, path)

    @abstractmethod
    def close(self) -> None:
        """Release the engine's memory."""
