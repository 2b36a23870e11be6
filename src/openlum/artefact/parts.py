"""Read the Parquet parts of artefacts. If a part is damaged or lacks an expected column, the error names it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from openlum.errors import InputError

TypeCheck = Callable[[pa.DataType], bool]
"""Returns whether a column may have a type."""
is_integer: TypeCheck = pa.types.is_integer


def is_number(kind: pa.DataType) -> bool:
    """Return whether a type is integer or floating-point."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is a string type."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_list_of(check: TypeCheck) -> TypeCheck:
    """Return a check for lists, of variable or fixed length, whose value type passes `check`."""
    return lambda kind: (
        (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
        and check(kind.value_type)
    )


def part_files(path: Path) -> list[Path]:
    """Return the Parquet files of a table: the file itself, or all files below a directory."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*.parquet") if file.is_file() and not file.name.startswith(("_", ".")))


def read_parts(path: Path, columns: Mapping[str, TypeCheck], command: str) -> pa.Table:
    """Read a table of an artefact.

    Args:
        path: a Parquet file, or a directory of them.
        columns: name of each column to read, with the check of its type. Integers must not be missing.
        command: the command that writes the table, for messages.

    Raises:
        InputError: a file is missing or damaged, or lacks a column. The message names the file.
    """
    files = part_files(path)
    if not files:
        raise InputError(f"{path}: has no Parquet file; run '{command}' again")
    tables = [_read(file, columns, command) for file in files]
    return pa.concat_tables(tables, promote_options="permissive")


def _read(file: Path, columns: Mapping[str, TypeCheck], command: str) -> pa.Table:
    try:
        with pq.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            for name, check in columns.items():
                if schema.names.count(name) != 1:
                    raise damaged(
                        file, f"expected one column '{name}'; the file has {', '.join(schema.names)}", command
                    )
                if not check(schema.field(name).type):
                    raise damaged(file, f"column '{name}' has the wrong type {schema.field(name).type}", command)
            table = opened.read(list(columns))
        table.validate(full=True)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; '{command}' writes it") from None
    except (OSError, pa.ArrowException, OverflowError, MemoryError) as error:
        raise damaged(file, f"cannot be read ({' '.join(str(error).split())})", command) from None
    for name in columns:
        column = table[name]
        if not is_text(column.type):
            inner = column.combine_chunks().flatten() if is_list_of(is_number)(column.type) else column
            if is_integer(inner.type) and inner.null_count:
                raise damaged(file, f"column '{name}' has missing values", command)
    return table


def damaged(file: Path, problem: str, command: str) -> InputError:
    """Return the error for a damaged part of an artefact."""
    return InputError(f"{file}: {problem}; run '{command}' again")
