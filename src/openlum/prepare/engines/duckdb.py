"""The DuckDB engine, in this process; tables that do not fit into its memory are written to the scratch directory."""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa

from openlum.capacity import available_cores
from openlum.prepare.engines.duckdb_sql import file_list, identifier
from openlum.prepare.engines.engine import FILE_NUMBER, ROW_NUMBER, Engine
from openlum.schema import EngineSettings

FILE_INDEX, ROW_INDEX = "file_index", "file_row_number"
"""DuckDB's own columns: the index of a row's file in the list of files, and the index of the row in its file, both from 0."""
DATABASE = ("memory", "main")
"""DuckDB's names of the catalogue and the schema of tables in an in-memory database."""
ROWS_PER_GROUP = 20_480
"""Threads share the work by row groups, and one row holds all events of a user, so row groups have few rows."""
UTF8_OR_HEX = "CREATE TEMPORARY MACRO utf8_or_hex(content) AS coalesce(try(decode(content)), lower(hex(content)))"
"""Defines the function `canonical_expression.utf8_or_hex`."""


class DuckDBEngine(Engine):
    """An engine that runs DuckDB in this process.

    Args:
        settings: memory, threads and the size of parts.
        scratch: a directory for tables that do not fit into memory.
    """

    failures = (duckdb.Error,)
    more_memory_hint = "raise 'engine.memory' in the schema, or lower 'engine.events_per_part'"
    reserved = (FILE_INDEX, ROW_INDEX)
    collects_nulls = True

    def __init__(self, settings: EngineSettings, scratch: Path) -> None:
        super().__init__(ibis.duckdb.connect(temp_directory=str(scratch / "spill")), settings.events_per_part)
        for setting in (
            "TimeZone = 'UTC'",  # otherwise DuckDB reads text without an offset as local time
            f"memory_limit = '{settings.memory}'",
            f"threads = {settings.threads or available_cores()}",
            "preserve_insertion_order = false",  # row numbers come from the files, so DuckDB need not keep an order
        ):
            self._connection.raw_sql(f"SET {setting}")
        self._connection.raw_sql(UTF8_OR_HEX)

    def scan(self, name: str, files: Sequence[str], columns: Sequence[str]) -> ir.Table:
        """See `Engine.scan`."""
        added = f"{FILE_INDEX} AS {FILE_NUMBER}, {ROW_INDEX} + 1 AS {ROW_NUMBER}"
        return self._read(name, files, ", ".join([*map(identifier, columns), added]))

    def materialize(self, name: str, table: ir.Table) -> ir.Table:
        """See `Engine.materialize`."""
        # Ibis would ask for the names of the database, and replace a table in three steps.
        self._connection.raw_sql(f"DROP TABLE IF EXISTS {'.'.join(map(identifier, (*DATABASE, name)))}")
        return self._connection.create_table(name, table, database=DATABASE)

    def fetch(self, table: ir.Table) -> pa.Table:
        """See `Engine.fetch`."""
        # Ibis's `to_pyarrow` would import pandas.
        result = self._connection.raw_sql(self._connection.compile(table)).to_arrow_table()
        return result.cast(table.schema().to_pyarrow())

    def write_parts(self, table: ir.Table, directory: Path, parts: Sequence[int]) -> None:
        """See `Engine.write_parts`."""
        directory.parent.mkdir(parents=True, exist_ok=True)
        if len(parts) == 1:  # twice as fast
            file = directory / f"part={parts[0]}" / "data_0.parquet"
            file.parent.mkdir(parents=True)
            self._connection.to_parquet(table.drop("part"), file)
            return
        self._connection.to_parquet(table, directory, partition_by="part", overwrite_or_ignore=True)

    def read(self, name: str, path: Path) -> ir.Table:
        """See `Engine.read`."""
        return self._read(name, [path] if path.is_file() else sorted(path.rglob("*.parquet")), "*")

    def _read(self, name: str, files: Sequence[str | Path], selected: str) -> ir.Table:
        # Ibis's `read_parquet` would interpret paths as patterns.
        rows = f"read_parquet({file_list(files)}, hive_partitioning = false)"
        self._connection.raw_sql(f"CREATE OR REPLACE TEMP VIEW {identifier(name)} AS SELECT {selected} FROM {rows}")
        return self._connection.table(name)

    def write(self, table: ir.Table, path: Path) -> None:
        """See `Engine.write`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection.to_parquet(table, path, row_group_size=ROWS_PER_GROUP)

    def write_rows(self, table: ir.Table, path: Path) -> None:
        """See `Engine.write_rows`. Rows are ordered by their first column, so that the same input gives the same file."""
        self.write(table.order_by(table.columns[0]), path)

    def close(self) -> None:
        """See `Engine.close`."""
        self._connection.disconnect()
