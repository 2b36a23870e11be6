"""Tables that callers pass in memory: Arrow, pandas, Polars, and other frames that narwhals knows, such as those of DuckDB."""

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openlum.arguments.values import as_path
from openlum.errors import InputError


def is_frame(value: Any) -> bool:
    """Return whether a value is a table in memory, and not a path, a list or a mapping."""
    if isinstance(value, str | bytes | list | tuple | dict):
        return False
    return isinstance(value, pa.RecordBatch | pa.RecordBatchReader) or _narwhals(value) is not None


def to_arrow(name: str, frame: Any) -> pa.Table:
    """Return a frame as an Arrow table. The types of columns are kept; the index of a pandas frame is left out.

    Args:
        name: name of the argument, for messages.
        frame: the frame.

    Raises:
        InputError: the value is no frame, or a column has values of different types.
    """
    if isinstance(frame, pa.RecordBatch):
        return pa.Table.from_batches([frame])
    if isinstance(frame, pa.RecordBatchReader):
        return frame.read_all()
    wrapped = _narwhals(frame)
    if wrapped is None:
        raise InputError(f"{name}: expected a table of Arrow, pandas or Polars, found {type(frame).__name__}")
    try:
        if wrapped.implementation.is_pandas():
            return pa.Table.from_pandas(wrapped.to_native(), preserve_index=False)
        return wrapped.to_arrow()
    except (pa.ArrowException, TypeError, ValueError) as error:
        message = " ".join(str(error).split())
        raise InputError(f"{name}: cannot be converted to Arrow ({message}); give every column one type") from None


def to_pandas(table: pa.Table) -> Any:
    """Return a table as a pandas frame. A vector becomes a NumPy array.

    Raises:
        InputError: pandas is not installed.
    """
    _require("pandas")
    return table.to_pandas()


def to_polars(table: pa.Table) -> Any:
    """Return a table as a Polars frame. A vector becomes an array of fixed width.

    Raises:
        InputError: Polars is not installed.
    """
    _require("polars")
    import polars

    return polars.from_arrow(table if hasattr(polars, "Float16") else _single_precision(table))


def like(table: pa.Table, frame: Any) -> Any:
    """Return an Arrow table as a frame of the same library as `frame`."""
    wrapped = _narwhals(frame)
    if wrapped is None or wrapped.implementation.is_pyarrow():
        return table
    if wrapped.implementation.is_pandas():
        return to_pandas(table)
    if wrapped.implementation.is_polars():
        return to_polars(table)
    import narwhals

    return narwhals.from_arrow(table, backend=wrapped.implementation).to_native()


@contextmanager
def tables_on_disk(tables: Mapping[str, Any], scratch: Path, root: Path) -> Iterator[tuple[dict[str, str], Path]]:
    """Yield the path of each table, and the directory that the paths of the schema are relative to.

    Frames are written to a temporary directory. Their paths are relative to it, so that the same frames give the same dataset.
    Error messages do not name the directory.
    """
    paths = {name: os.path.abspath(as_path(name, table)) for name, table in tables.items() if not is_frame(table)}
    frames = {name: table for name, table in tables.items() if name not in paths}
    if not frames:
        yield paths, root
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".lum-frames-", dir=scratch) as directory:
        for name, frame in frames.items():
            paths[name] = f"{name}.parquet"
            pq.write_table(to_arrow(name, frame), os.path.join(directory, paths[name]))
        try:
            yield paths, Path(directory)
        except InputError as error:
            raise InputError(re.sub(rf"{re.escape(directory)}/(\w+)\.parquet", r"frame '\1'", str(error))) from None


def rows(table: pa.Table) -> Iterable[dict[str, Any]]:
    """Yield the rows of a table as mappings from column to Python value; missing values are None."""
    for batch in table.to_batches(max_chunksize=10_000):
        yield from batch.to_pylist()


def _narwhals(value: Any) -> Any:
    """Return an eager frame as a narwhals frame; None for a value that is no frame. A lazy frame is computed."""
    import narwhals

    wrapped: Any = narwhals.from_native(value, pass_through=True)
    if isinstance(wrapped, narwhals.LazyFrame):
        return wrapped.collect()
    return wrapped if isinstance(wrapped, narwhals.DataFrame) else None


def _single_precision(table: pa.Table) -> pa.Table:
    """Return a table with float32 instead of float16 vectors, which older versions of Polars do not have."""
    for index, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_fixed_size_list(kind) and pa.types.is_float16(kind.value_type):
            vectors = table[field.name].combine_chunks()
            values = vectors.flatten().cast(pa.float32())
            single = pa.FixedSizeListArray.from_arrays(values, kind.list_size)
            table = table.set_column(index, field.name, single)
    return table


def _require(library: str) -> None:
    from importlib.util import find_spec

    if find_spec(library) is None:
        raise InputError(f"{library} is not installed: pip install {library}")
