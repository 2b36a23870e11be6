"""The rows of a table as read from its files: one type for each column, and for every row its file and its number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa

from openlum.prepare.conversion import Column, Kind
from openlum.prepare.engines.engine import FILE_NUMBER, ROW_NUMBER, Engine
from openlum.prepare.inputs.csv_rows import FAULT_TYPES
from openlum.prepare.inputs.files import DataFile, TableFiles
from openlum.prepare.inputs.paths import NO_VALUE

POSITION = "position"
"""Column with the number of a row in its table, over all files and all preparations, from 0."""
EMPTY_TYPES: dict[Kind, str] = {
    "multi": "array<string>",
    "numeric": "float64",
    "vector": "array<float64>",
    "time": "timestamp",
    "row_time": "timestamp",
    "label": "float64",
    "row": "int64",
}
"""The types of columns without any value; kinds that are not listed become text."""


def raw_table(engine: Engine, name: str, source: TableFiles, columns: Sequence[Column], earlier_rows: int) -> ir.Table:
    """Number the rows of a table over all its files.

    Args:
        engine: the engine that computes tables.
        name: the name of the table.
        source: the files of the table.
        columns: the columns to read.
        earlier_rows: rows of the table that earlier preparations have read.

    Returns:
        `FILE_NUMBER`, `ROW_NUMBER`, `POSITION`, and the raw column of each role. If there are malformed lines, the columns of
        `FAULT_TYPES` are added.
    """
    starts = [earlier_rows - 1 + start for start in source.starts]
    layouts = [
        _Layout.scan(engine, f"{name} files {index}", source, numbers) for index, numbers in enumerate(source.layouts())
    ]
    types = {column.name: _type(source, layouts, column) for column in columns}
    roles = {column.role: column.name for column in columns}
    if source.malformed:
        types |= {fault: ibis.dtype(fault_type) for fault, fault_type in FAULT_TYPES.items()}
        roles |= {fault: fault for fault in FAULT_TYPES}
    parts = []
    for layout in layouts:
        rows, file, start, directories = layout.join(engine, starts)
        values = {
            role: directories.get(column, layout.value(rows, column, types[column])) for role, column in roles.items()
        }
        parts.append(
            rows.select(
                **{FILE_NUMBER: file, ROW_NUMBER: rows[ROW_NUMBER], POSITION: rows[ROW_NUMBER] + start}, **values
            )
        )
    return engine.view(f"{name} numbered", ibis.union(*parts) if len(parts) > 1 else parts[0])


@dataclass(frozen=True)
class _Layout:
    """The files of a table that have the same columns in the same types, as one table of the engine."""

    name: str
    numbers: list[int]
    files: list[DataFile]
    types: dict[str, pa.DataType]
    rows: ir.Table

    @classmethod
    def scan(cls, engine: Engine, name: str, source: TableFiles, numbers: list[int]) -> "_Layout":
        files = [source.files[number] for number in numbers]
        types = {name: file_type for name, file_type in files[0].types.items() if not pa.types.is_null(file_type)}
        return cls(name, numbers, files, types, engine.scan(name, [file.parquet for file in files], list(types)))

    def join(self, engine: Engine, starts: Sequence[int]) -> tuple[ir.Table, Any, Any, dict[str, Any]]:
        """Return the rows, and expressions that are constant within a file: its number, its first position, directory columns."""
        columns = sorted({column for file in self.files for column in file.partition})
        file_constants: list[tuple[pa.DataType, list[Any]]] = [
            (pa.int64(), self.numbers),
            (pa.int64(), [starts[number] for number in self.numbers]),
            # `NO_VALUE` and not null, because Ibis passes null to Spark as the text NaN.
            *((pa.string(), [file.partition.get(column) or NO_VALUE for file in self.files]) for column in columns),
        ]
        rows, constants = self.rows, []
        if len(self.files) == 1:
            constants = [ibis.literal(values[0], ibis.dtype(value_type)) for value_type, values in file_constants]
        else:
            keys = [f"__lum_constant_{index}" for index in range(len(file_constants))]
            arrays = {
                key: pa.array(values, value_type)
                for key, (value_type, values) in zip(keys, file_constants, strict=True)
            }
            in_memory = ibis.memtable(pa.table({"__lum_index": range(len(self.files)), **arrays}))
            table = engine.materialize(f"{self.name} constants", in_memory)
            rows = rows.join(table, rows[FILE_NUMBER] == table["__lum_index"])
            constants = [rows[key] for key in keys]
        number, start, *texts = constants
        return rows, number, start, {c: text.nullif(NO_VALUE) for c, text in zip(columns, texts, strict=True)}

    def value(self, rows: ir.Table, column: str, column_type: dt.DataType) -> ir.Value:
        """Return a column of the files in one type."""
        if column not in self.types:
            return ibis.null(column_type)
        return rows[column] if rows[column].type() == column_type else rows[column].cast(column_type)


def _type(source: TableFiles, layouts: Sequence[_Layout], column: Column) -> dt.DataType:
    """Return the engine's type of a column over all files."""
    file_type = source.types[column.name]
    for layout in layouts:
        if layout.types.get(column.name) == file_type:
            return layout.rows[column.name].type()
    return ibis.dtype(EMPTY_TYPES.get(column.kind, "string") if pa.types.is_null(file_type) else file_type)
