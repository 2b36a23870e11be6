"""The rows of a table as they are in its files: one type a column, every row with its file and its number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa

from openlum.prepare.engines.engine import FILE, ROW, Engine
from openlum.prepare.inputs.csv_rows import FAULT_TYPES
from openlum.prepare.inputs.files import DataFile, Source
from openlum.prepare.inputs.paths import NO_VALUE
from openlum.prepare.values import Column, Kind

POSITION = "position"
"""Column of a row's number in its table over all files and all preparations, from 0."""
EMPTY_TYPES: dict[Kind, str] = {
    "multi": "array<string>",
    "numeric": "float64",
    "vector": "array<float64>",
    "time": "timestamp",
    "moment": "timestamp",
    "label": "float64",
    "row": "int64",
}
"""What a column without any value is taken for; those not here for text."""


def raw_table(engine: Engine, name: str, source: Source, columns: Sequence[Column], before: int) -> ir.Table:
    """Number the rows of a table over all its files.

    Args:
        engine: where tables are computed.
        name: what to call the table.
        source: its files.
        columns: the columns that are read.
        before: rows of the table that earlier preparations read.

    Returns:
        `FILE`, `ROW`, `POSITION`, each role of the columns as it is in the files, and, where there are malformed lines, the
        columns of `FAULT_TYPES`.
    """
    starts = [before - 1 + start for start in source.starts]
    layouts = [
        _Layout.scan(engine, f"{name} files {place}", source, numbers) for place, numbers in enumerate(source.layouts())
    ]
    types = {column.name: _type(source, layouts, column) for column in columns}
    roles = {column.role: column.name for column in columns}
    if source.malformed:
        types |= {fault: ibis.dtype(of) for fault, of in FAULT_TYPES.items()}
        roles |= {fault: fault for fault in FAULT_TYPES}
    parts = []
    for layout in layouts:
        rows, file, start, directories = layout.join(engine, starts)
        values = {
            role: directories.get(column, layout.value(rows, column, types[column])) for role, column in roles.items()
        }
        parts.append(rows.select(**{FILE: file, ROW: rows[ROW], POSITION: rows[ROW] + start}, **values))
    return engine.view(f"{name} numbered", ibis.union(*parts) if len(parts) > 1 else parts[0])


@dataclass(frozen=True)
class _Layout:
    """The files of a table that have the same types in the same columns, as one table of the engine."""

    name: str
    numbers: list[int]
    files: list[DataFile]
    types: dict[str, pa.DataType]
    rows: ir.Table

    @classmethod
    def scan(cls, engine: Engine, name: str, source: Source, numbers: list[int]) -> "_Layout":
        files = [source.files[number] for number in numbers]
        types = {column: of for column, of in files[0].types.items() if not pa.types.is_null(of)}
        return cls(name, numbers, files, types, engine.scan(name, [file.parquet for file in files], list(types)))

    def join(self, engine: Engine, starts: Sequence[int]) -> tuple[ir.Table, Any, Any, dict[str, Any]]:
        """The rows, and what is the same in all rows of a file: its number, where its rows begin, its directories' columns."""
        columns = sorted({column for file in self.files for column in file.partition})
        of_files: list[tuple[pa.DataType, list[Any]]] = [
            (pa.int64(), self.numbers),
            (pa.int64(), [starts[number] for number in self.numbers]),
            # Not null, which Ibis hands to Spark as the text NaN.
            *((pa.string(), [file.partition.get(column) or NO_VALUE for file in self.files]) for column in columns),
        ]
        rows, constants = self.rows, []
        if len(self.files) == 1:
            constants = [ibis.literal(values[0], ibis.dtype(of)) for of, values in of_files]
        else:
            keys = [f"__lum_of_file_{place}" for place in range(len(of_files))]
            table = {key: pa.array(values, of) for key, (of, values) in zip(keys, of_files, strict=True)}
            memory = ibis.memtable(pa.table({"__lum_index": range(len(self.files)), **table}))
            known = engine.keep(f"{self.name} known", memory)
            rows = rows.join(known, rows[FILE] == known["__lum_index"])
            constants = [rows[key] for key in keys]
        number, start, *texts = constants
        return rows, number, start, {c: text.nullif(NO_VALUE) for c, text in zip(columns, texts, strict=True)}

    def value(self, rows: ir.Table, column: str, of: dt.DataType) -> ir.Value:
        """A column of the files, in one type."""
        if column not in self.types:
            return ibis.null(of)
        return rows[column] if rows[column].type() == of else rows[column].cast(of)


def _type(source: Source, layouts: Sequence[_Layout], column: Column) -> dt.DataType:
    """The engine's type for a column over all files."""
    of = source.types[column.name]
    for layout in layouts:
        if layout.types.get(column.name) == of:
            return layout.rows[column.name].type()
    return ibis.dtype(EMPTY_TYPES.get(column.kind, "string") if pa.types.is_null(of) else of)
