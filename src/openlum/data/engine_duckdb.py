"""DuckDB in this process: what does not fit into its memory goes to the scratch directory."""

import os
from collections.abc import Sequence
from pathlib import Path

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow.parquet as pq

from openlum.data.engine import FILE, PATH, ROW, Engine, check_names
from openlum.errors import InputError
from openlum.schema import EngineSettings

NUMBER = "file_row_number"
"""DuckDB's own name for the number of a row in its file."""
ROWS_PER_GROUP = 20_480
"""Threads share the work by row groups, and the row of a user is large."""
UTF8_OR_HEX = "CREATE TEMPORARY MACRO utf8_or_hex(content) AS coalesce(try(decode(content)), lower(hex(content)))"
"""For `text.utf8_or_hex`."""


class DuckDBEngine(Engine):
    """DuckDB in this process.

    Args:
        settings: memory, threads and the size of parts.
        scratch: a directory for what does not fit into memory.
    """

    failures = (duckdb.Error,)

    def __init__(self, settings: EngineSettings, scratch: Path) -> None:
        super().__init__(ibis.duckdb.connect(temp_directory=str(scratch / "spill")))
        self._events_per_part = settings.events_per_part
        for setting in (
            "TimeZone = 'UTC'",  # otherwise text without an offset is read as local time
            f"memory_limit = '{settings.memory}'",
            f"threads = {settings.threads or os.cpu_count()}",
            "preserve_insertion_order = false",  # row numbers come from the files, so no order need be kept in memory
        ):
            self._connection.raw_sql(f"SET {setting}")
        self._connection.raw_sql(UTF8_OR_HEX)

    def scan(self, name: str, files: Sequence[str]) -> ir.Table:
        """See `Engine.scan`."""
        check_names(files[0], pq.read_schema(files[0]).names, kept=NUMBER)
        table = self._connection.read_parquet(
            files, table_name=name, filename=PATH, file_row_number=True, hive_partitioning=False
        )
        if len(files) == 1:
            table = table.mutate(**{FILE: ibis.literal(0, "int64")})
        else:
            places = ibis.memtable({"_name": list(files), FILE: list(range(len(files)))})
            places = self.keep(f"{name} files", places)
            table = table.join(places, table[PATH] == places["_name"]).drop("_name")
        return table.mutate(**{ROW: table[NUMBER] + 1}).drop(PATH, NUMBER)

    def keep(self, name: str, table: ir.Table) -> ir.Table:
        """See `Engine.keep`."""
        return self._connection.create_table(name, table, overwrite=True)

    def write_parts(self, table: ir.Table, directory: Path) -> None:
        """See `Engine.write_parts`."""
        directory.parent.mkdir(parents=True, exist_ok=True)
        self._connection.to_parquet(table, directory, partition_by="part", overwrite_or_ignore=True)

    def parts(self, events: int) -> int:
        """See `Engine.parts`."""
        return max(1, -(-events // self._events_per_part))

    def read(self, name: str, path: Path) -> ir.Table:
        """See `Engine.read`."""
        files = [str(path)] if path.is_file() else sorted(str(file) for file in path.rglob("*.parquet"))
        return self._connection.read_parquet(files, table_name=name, hive_partitioning=False)

    def write(self, table: ir.Table, path: Path) -> None:
        """See `Engine.write`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection.to_parquet(table, path, row_group_size=ROWS_PER_GROUP)

    def explain(self, error: Exception) -> Exception | None:
        """See `Engine.explain`."""
        said = str(error).splitlines()[0]
        if isinstance(error, duckdb.OutOfMemoryException):
            return InputError(
                f"{said}; give more with 'engine.memory' in the schema, or lower 'engine.events_per_part'"
            )
        if "No space left" in said:
            return InputError(
                f"{said}; 'engine.scratch' in the schema names another directory for what memory cannot hold"
            )
        return None

    def close(self) -> None:
        """See `Engine.close`."""
        self._connection.disconnect()
