"""Parquet parts of artefacts, read with the columns that they must have: damage is an error that names the file."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from openlum.errors import InputError

Fits = Callable[[pa.DataType], bool]
"""Whether a column may have a type."""
whole: Fits = pa.types.is_integer


def number(of: pa.DataType) -> bool:
    """Whether a type is of whole numbers or of fractions."""
    return bool(pa.types.is_integer(of) or pa.types.is_floating(of))


def text(of: pa.DataType) -> bool:
    """Whether a type is of text."""
    return bool(pa.types.is_string(of) or pa.types.is_large_string(of))


def list_of(fits: Fits) -> Fits:
    """Whether a type is of lists of such a type, of one length or of many."""
    return lambda of: (
        (pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of)) and fits(of.value_type)
    )


def part_files(path: Path) -> list[Path]:
    """The Parquet files of a table: the file itself, or all below a directory."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*.parquet") if file.is_file() and not file.name.startswith(("_", ".")))


def read_parts(path: Path, columns: Mapping[str, Fits], made_by: str) -> pa.Table:
    """Read a table of an artefact.

    Args:
        path: a Parquet file, or a directory of them.
        columns: to be read, each with the types that it may have. Whole numbers are never missing.
        made_by: the command that writes it, for messages.

    Raises:
        InputError: names the file that is missing or damaged, or whose columns are others.
    """
    files = part_files(path)
    if not files:
        raise InputError(f"{path}: has no Parquet file; run '{made_by}' again")
    tables = [_read(file, columns, made_by) for file in files]
    return pa.concat_tables(tables, promote_options="permissive")


def _read(file: Path, columns: Mapping[str, Fits], made_by: str) -> pa.Table:
    try:
        with pq.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            for name, fits in columns.items():
                if schema.names.count(name) != 1:
                    raise damaged(file, f"has no single column '{name}', but {', '.join(schema.names)}", made_by)
                if not fits(schema.field(name).type):
                    raise damaged(file, f"column '{name}' has the type {schema.field(name).type}", made_by)
            table = opened.read(list(columns))
        table.validate(full=True)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; '{made_by}' writes it") from None
    except (OSError, pa.ArrowException, OverflowError, MemoryError) as error:
        raise damaged(file, f"cannot be read ({' '.join(str(error).split())})", made_by) from None
    for name in columns:
        column = table[name]
        if not text(column.type):
            inner = column.combine_chunks().flatten() if list_of(number)(column.type) else column
            if whole(inner.type) and inner.null_count:
                raise damaged(file, f"column '{name}' has missing values", made_by)
    return table


def damaged(file: Path, why: str, made_by: str) -> InputError:
    """The message for a part that is not as it was written."""
    return InputError(f"{file}: {why}; run '{made_by}' again")
