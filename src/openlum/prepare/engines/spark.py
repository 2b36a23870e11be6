"""Spark, on this machine or a cluster: for logs that lie there, or are too long for one machine.

The paths of the schema, the output and `engine.scratch` must lie where the driver and all workers see them.
"""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from openlum.errors import InputError
from openlum.prepare.engines.column_names import check_names
from openlum.prepare.engines.engine import FILE, ROW, Engine
from openlum.schema import EngineSettings

try:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException
    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql import functions as F
except ImportError as error:
    raise InputError(f"engine 'spark' needs PySpark ({error}): pip install 'openlum[spark]'") from None

SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "false",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
}
"""Settings of the session, where the schema has no others."""

LOCAL = {"spark.master": "local[*]", "spark.sql.shuffle.partitions": "8"}
"""And without a master: this machine."""

EPOCH_US = "CREATE OR REPLACE TEMPORARY FUNCTION epoch_us(moment TIMESTAMP) RETURNS BIGINT RETURN unix_micros(moment)"
"""For `values.epoch_us`."""
UTF8_OR_HEX = """CREATE OR REPLACE TEMPORARY FUNCTION utf8_or_hex(content BINARY) RETURNS STRING
RETURN if(is_valid_utf8(cast(content AS STRING)), cast(content AS STRING), lower(hex(content)))"""
"""For `text.utf8_or_hex`."""


class SparkEngine(Engine):
    """A Spark session.

    Args:
        settings: `spark`: settings of the session; without a master it runs on all cores of this machine.
        scratch: a directory for kept tables.

    Raises:
        InputError: there is no Java, or no session can be had.
    """

    failures = (PySparkException, Py4JError)
    more_memory = "give more with 'spark.executor.memory' and 'spark.driver.memory' under 'engine.spark' in the schema"

    def __init__(self, settings: EngineSettings, scratch: Path) -> None:
        if shutil.which("java") is None and "spark.remote" not in settings.spark:
            raise InputError("engine 'spark' needs Java 17 or newer, and finds no 'java' on the path")
        local = {} if {"spark.master", "spark.remote"} & settings.spark.keys() else LOCAL
        builder = SparkSession.builder.appName("lum prepare")
        try:
            own = {"spark.sql.warehouse.dir": str(scratch / "warehouse")}  # never used, but Spark would make one
            for name, value in (SETTINGS | own | local | settings.spark).items():
                builder = builder.config(name, value)
            self._session = builder.getOrCreate()
        except (PySparkException, Py4JError, RuntimeError) as error:
            raise InputError(f"Spark cannot be started: {str(error).splitlines()[0]}; check 'engine.spark'") from None
        for function in (EPOCH_US, UTF8_OR_HEX):
            self._session.sql(function)
        self._scratch = scratch
        super().__init__(ibis.pyspark.connect(self._session))

    def scan(self, name: str, files: Sequence[str], columns: Sequence[str]) -> ir.Table:
        """See `Engine.scan`."""
        for file in files:
            names = pq.read_schema(file).names
            check_names(file, names, used=names)  # Spark does not read a file with two columns of one name
        links = self._link(name, files)
        rows = self._session.read.option("recursiveFileLookup", "true").parquet(
            *(_no_pattern(_place(link)) for link in links)
        )
        number = F.regexp_extract("_metadata.file_name", r"^(\d+)", 1).cast("bigint")
        rows = rows.select(*map(_column, columns), number.alias(FILE), (F.col("_metadata.row_index") + 1).alias(ROW))
        for field in pq.read_schema(files[0]):
            nanos = pa.types.is_timestamp(field.type) and field.type.unit == "ns"
            if nanos and field.name in columns:  # Spark has no such type: see SETTINGS
                rows = rows.withColumn(field.name, F.timestamp_micros((_column(field.name) / 1000).cast("bigint")))
        return self._view(name, rows)

    def _link(self, name: str, files: Sequence[str]) -> list[Path]:
        """Links to files, called by their numbers: Spark takes paths for patterns and leaves files called `_...` out."""
        directory = self._scratch / "files" / _plain(name)
        directory.mkdir(parents=True, exist_ok=True)
        links = [directory / f"{number}.parquet" for number in range(len(files))]
        for link, file in zip(links, files, strict=True):
            link.unlink(missing_ok=True)
            link.symlink_to(file)
        return links

    def keep(self, name: str, table: ir.Table) -> ir.Table:
        """See `Engine.keep`."""
        path = self._scratch / "kept" / _plain(name)
        self._frame(table).write.mode("overwrite").parquet(_place(path))
        return self.read(name, path)

    def value(self, expression: Any) -> Any:
        """See `Engine.value`."""
        return self._frame(expression.as_table()).toArrow().column(0)[0].as_py()

    def rows(self, table: ir.Table) -> list[dict[str, Any]]:
        """See `Engine.rows`."""
        rows: list[dict[str, Any]] = self._frame(table).toArrow().to_pylist()
        return rows

    def write(self, table: ir.Table, path: Path) -> None:
        """See `Engine.write`; the table passes through the driver."""
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(self._frame(table).toArrow(), path)

    def write_rows(self, table: ir.Table, path: Path) -> None:
        """See `Engine.write_rows`: a directory, written by the workers."""
        self._frame(table).write.parquet(_place(path))

    def write_parts(self, table: ir.Table, directory: Path) -> None:
        """See `Engine.write_parts`."""
        self._frame(table).write.mode("append").partitionBy("part").parquet(_place(directory))

    def parts(self, events: int) -> int:
        """One: Spark divides the work itself."""
        return 1

    def read(self, name: str, path: Path) -> ir.Table:
        """See `Engine.read`."""
        return self._view(name, self._session.read.parquet(_no_pattern(_place(path))).drop("part"))

    def close(self) -> None:
        """Nothing: one session serves all preparations of a process."""

    def _frame(self, table: ir.Table) -> DataFrame:
        # A view, for Ibis hands the tables in memory over when it makes one.
        self._connection.create_view("_frame", table, overwrite=True)
        return self._session.table("_frame")

    def _view(self, name: str, rows: DataFrame) -> ir.Table:
        rows.createOrReplaceTempView(_plain(name))
        return self._connection.table(_plain(name))


def _place(path: Path) -> str:
    # Not `as_uri`: Hadoop does not decode what it escapes.
    return f"file://{os.path.abspath(path)}"


def _no_pattern(place: str) -> str:
    """A path in which Spark sees no pattern."""
    return re.sub(r"([*?\[\]{}\\])", r"\\\1", place)


def _column(name: str) -> Column:
    return F.col("`" + name.replace("`", "``") + "`")


def _plain(name: str) -> str:
    return re.sub(r"\W", "_", name)
