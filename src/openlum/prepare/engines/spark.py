"""The Spark engine, on this machine or a cluster: for logs that are on the cluster, or are too large for one machine.

The driver and all workers must see the paths of the schema, the output directory and `engine.scratch`.
"""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from openlum.errors import InputError
from openlum.prepare.engines.column_names import check_names
from openlum.prepare.engines.engine import FILE_NUMBER, ROW_NUMBER, Engine
from openlum.schema import EngineSettings

try:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException
    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql import functions as F
except ImportError as error:
    raise InputError(
        f"engine 'spark' needs PySpark ({error}): run pip install '.[spark]' in the clone of openlum, or pip install "
        "'pyspark>=4.0,<4.1'"
    ) from None

SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "false",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
}
"""Default settings of the Spark session; the schema overrides them."""

LOCAL = {"spark.master": "local[*]", "spark.sql.shuffle.partitions": "8"}
"""Further default settings where the schema names no master: Spark then runs on this machine."""

EPOCH_US = "CREATE OR REPLACE TEMPORARY FUNCTION epoch_us(moment TIMESTAMP) RETURNS BIGINT RETURN unix_micros(moment)"
"""Defines the function `time_expression.epoch_us`."""
UTF8_OR_HEX = """CREATE OR REPLACE TEMPORARY FUNCTION utf8_or_hex(content BINARY) RETURNS STRING
RETURN if(is_valid_utf8(cast(content AS STRING)), cast(content AS STRING), lower(hex(content)))"""
"""Defines the function `canonical_expression.utf8_or_hex`."""


class SparkEngine(Engine):
    """An engine that runs on Spark.

    Args:
        settings: `spark` has the settings of the session; without a master it runs on all cores of this machine.
        scratch: a directory for materialized tables.

    Raises:
        InputError: Java is missing, or no Spark session can be started.
    """

    failures = (PySparkException, Py4JError)
    more_memory_hint = "raise 'spark.executor.memory' and 'spark.driver.memory' under 'engine.spark' in the schema"

    def __init__(self, settings: EngineSettings, scratch: Path) -> None:
        if shutil.which("java") is None and "spark.remote" not in settings.spark:
            raise InputError("engine 'spark' needs Java 17 or newer, but there is no 'java' on the path; install Java")
        local = {} if {"spark.master", "spark.remote"} & settings.spark.keys() else LOCAL
        builder = SparkSession.builder.appName("lum prepare")
        try:
            warehouse = {"spark.sql.warehouse.dir": str(scratch / "warehouse")}  # unused, but Spark creates it anyway
            for name, value in (SETTINGS | warehouse | local | settings.spark).items():
                builder = builder.config(name, value)
            self._session = builder.getOrCreate()
        except (PySparkException, Py4JError, RuntimeError) as error:
            raise InputError(
                f"Spark cannot be started: {str(error).splitlines()[0]}; check 'engine.spark' in the schema"
            ) from None
        for function in (EPOCH_US, UTF8_OR_HEX):
            self._session.sql(function)
        self._scratch = scratch
        super().__init__(ibis.pyspark.connect(self._session), settings.events_per_part)

    def scan(self, name: str, files: Sequence[str], columns: Sequence[str]) -> ir.Table:
        """See `Engine.scan`."""
        for file in files:
            names = pq.read_schema(file).names
            check_names(file, names, used=names)  # Spark cannot read a file with two columns of the same name
        links = self._link(name, files)
        rows = self._session.read.option("recursiveFileLookup", "true").parquet(
            *(_escape_glob(_file_uri(link)) for link in links)
        )
        number = F.regexp_extract("_metadata.file_name", r"^(\d+)", 1).cast("bigint")
        rows = rows.select(
            *map(_column, columns), number.alias(FILE_NUMBER), (F.col("_metadata.row_index") + 1).alias(ROW_NUMBER)
        )
        for field in pq.read_schema(files[0]):
            nanos = pa.types.is_timestamp(field.type) and field.type.unit == "ns"
            if nanos and field.name in columns:  # Spark has no nanosecond type and reads integers, see SETTINGS
                rows = rows.withColumn(field.name, F.timestamp_micros((_column(field.name) / 1000).cast("bigint")))
        return self._view(name, rows)

    def _link(self, name: str, files: Sequence[str]) -> list[Path]:
        """Create links to files, named by their numbers: Spark interprets paths as patterns and skips files called `_...`."""
        directory = self._scratch / "files" / _table_name(name)
        directory.mkdir(parents=True, exist_ok=True)
        links = [directory / f"{number}.parquet" for number in range(len(files))]
        for link, file in zip(links, files, strict=True):
            link.unlink(missing_ok=True)
            link.symlink_to(file)
        return links

    def materialize(self, name: str, table: ir.Table) -> ir.Table:
        """See `Engine.materialize`."""
        path = self._scratch / "materialized" / _table_name(name)
        self._frame(table).write.mode("overwrite").parquet(_file_uri(path))
        return self.read(name, path)

    def fetch(self, table: ir.Table) -> pa.Table:
        """See `Engine.fetch`."""
        return self._frame(table).toArrow()

    def write(self, table: ir.Table, path: Path) -> None:
        """See `Engine.write`; the table is collected on the driver."""
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.fetch(table), path)

    def write_rows(self, table: ir.Table, path: Path) -> None:
        """See `Engine.write_rows`: the workers write a directory."""
        self._frame(table).write.parquet(_file_uri(path))

    def write_parts(self, table: ir.Table, directory: Path, parts: Sequence[int]) -> None:
        """See `Engine.write_parts`."""
        rows = self._frame(table)
        if len(parts) > 1:  # otherwise every task would write a file into every part
            rows = rows.repartition(len(parts), "part")
        rows.write.mode("append").partitionBy("part").parquet(_file_uri(directory))

    def read(self, name: str, path: Path) -> ir.Table:
        """See `Engine.read`."""
        return self._view(name, self._session.read.parquet(_escape_glob(_file_uri(path))).drop("part"))

    def close(self) -> None:
        """Do nothing: one session serves all preparations of a process."""

    def _frame(self, table: ir.Table) -> DataFrame:
        # Ibis passes in-memory tables to Spark only when it creates a view.
        self._connection.create_view("_frame", table, overwrite=True)
        return self._session.table("_frame")

    def _view(self, name: str, rows: DataFrame) -> ir.Table:
        rows.createOrReplaceTempView(_table_name(name))
        return self._connection.table(_table_name(name))


def _file_uri(path: Path) -> str:
    # `Path.as_uri` would escape characters, and Hadoop does not decode them.
    return f"file://{os.path.abspath(path)}"


def _escape_glob(uri: str) -> str:
    """Return a URI, escaped so that Spark does not interpret it as a pattern."""
    return re.sub(r"([*?\[\]{}\\])", r"\\\1", uri)


def _column(name: str) -> Column:
    return F.col("`" + name.replace("`", "``") + "`")


def _table_name(name: str) -> str:
    return re.sub(r"\W", "_", name)
