"""The rows of a table as they are in its files: one type a column, every row with its file and its number."""

from collections.abc import Sequence
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from openlum.data.csv_rows import FAULT_TYPES
from openlum.data.engine import FILE, ROW, Engine
from openlum.data.files import Source
from openlum.data.paths import NO_VALUE
from openlum.data.values import Column, Kind

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
    parts = [
        _layout(engine, f"{name} files {place}", source, numbers, starts, columns)
        for place, numbers in enumerate(source.layouts())
    ]
    return engine.view(f"{name} numbered", ibis.union(*parts) if len(parts) > 1 else parts[0])


def _layout(
    engine: Engine, name: str, source: Source, numbers: Sequence[int], starts: Sequence[int], columns: Sequence[Column]
) -> ir.Table:
    """The rows of the files that have the same types in the same columns."""
    files = [source.files[number] for number in numbers]
    typed = {column: of for column, of in files[0].types.items() if not pa.types.is_null(of)}
    rows = engine.scan(name, [file.parquet for file in files], list(typed))
    # What is the same in all rows of a file: its number, where its rows begin, and the columns of its directories.
    named = sorted({column for file in files for column in file.partition})
    of_files: list[tuple[pa.DataType, list[Any]]] = [
        (pa.int64(), list(numbers)),
        (pa.int64(), [starts[number] for number in numbers]),
        # Not null, which Ibis hands to Spark as the text NaN.
        *((pa.string(), [file.partition.get(column) or NO_VALUE for file in files]) for column in named),
    ]
    constants: list[Any]
    if len(files) == 1:
        constants = [ibis.literal(values[0], ibis.dtype(of)) for of, values in of_files]
    else:
        keys = [f"__lum_of_file_{place}" for place in range(len(of_files))]
        table = {key: pa.array(values, of) for key, (of, values) in zip(keys, of_files, strict=True)}
        known = engine.keep(f"{name} known", ibis.memtable(pa.table({"__lum_index": range(len(files)), **table})))
        rows = rows.join(known, rows[FILE] == known["__lum_index"])
        constants = [rows[key] for key in keys]
    file_number, start, *of_directories = constants
    directories = {column: value.nullif(NO_VALUE) for column, value in zip(named, of_directories, strict=True)}

    def values(name: str, given: str) -> ir.Value:
        of = source.types.get(name, FAULT_TYPES.get(name, pa.string()))
        wanted = ibis.dtype(given if pa.types.is_null(of) else of)
        if wanted.is_timestamp():
            wanted = wanted.copy(scale=None)  # engines differ in how they say that it is of microseconds
        if name in directories:
            return directories[name]
        if name not in typed:
            return ibis.null(wanted)
        same = typed[name] == of and (not wanted.is_timestamp() or rows[name].type() == wanted)
        return rows[name] if same else rows[name].cast(wanted)

    faults = {name: values(name, "string") for name in FAULT_TYPES} if source.malformed else {}
    return rows.select(
        **{FILE: file_number, ROW: rows[ROW], POSITION: rows[ROW] + start},
        **{column.role: values(column.name, EMPTY_TYPES.get(column.kind, "string")) for column in columns},
        **faults,
    )
