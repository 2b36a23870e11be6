"""`lum knowledge join`: the rows of a log that was never prepared, with knowledge as of the time of each row."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn

from openlum.arguments.values import as_path
from openlum.artefact.json_file import named_failures
from openlum.artefact.lock import locked
from openlum.console import new_progress
from openlum.data.dataset import Dataset
from openlum.data.knowledge import Knowledge
from openlum.errors import InputError
from openlum.model import LargeUserModel, default_device
from openlum.prepare.outside_log import LogColumns, OutsideLog, read_outside_log
from openlum.query.replay import Replay
from openlum.query.settings import QuerySettings
from openlum.query.snapshots import Head, Snapshots

ROWS = 200_000
"""Rows that are in memory at a time with their knowledge."""


def join(
    log: str,
    out: str | Path,
    columns: LogColumns,
    knowledge: Sequence[str | Path] = (),
    dataset: str | Path | None = None,
    model: str | Path | None = None,
    settings: QuerySettings | None = None,
    prefix: str = "",
) -> dict[str, Any]:
    """Write the rows of a log, in their order and with all their columns, and with knowledge as of the time of each row.

    With `knowledge`, a row gets the newest row of its user as of a time that is not later. Without it, the model answers every
    row from the events of the dataset before the second of the row.

    Args:
        log: a file, a directory or a pattern, Parquet or CSV.
        out: the Parquet file to write.
        columns: the names of the log's columns.
        knowledge: directories of knowledge per user.
        dataset: with the histories, and with the columns of conditions in its schema.
        model: that answers or, with `knowledge`, whose matching head predicts the feedback to the items.
        settings: of the questions without `knowledge`.
        prefix: of the names of the added columns.

    Returns:
        Figures of the join: rows, and which users, items and condition fields are unknown.

    Raises:
        InputError: a row has no usable user, item or time; two columns would have the same name; or the inputs do not fit.
    """
    out = as_path("out", out)
    if (dataset is None) != (model is None) or not (knowledge or model):
        raise InputError("name knowledge per user, or a dataset and a model, or all three")
    if knowledge and model and not columns.item:
        raise InputError(
            "a model with knowledge per user predicts feedback to items; name the column of the item, or leave the model out"
        )
    if knowledge and settings is not None:
        raise InputError(
            "the questions are those of the knowledge; leave the settings of a query out, or the knowledge"
        )
    head: tuple[LargeUserModel, Dataset] | None = None
    if dataset is not None and model is not None:
        head = LargeUserModel.load(as_path("model", model), default_device()), Dataset(as_path("dataset", dataset))
        head[0].check_compatible(head[1])
    source: Snapshots | Replay
    if head is None or knowledge:
        source = Snapshots([Knowledge(path) for path in knowledge], columns.item is not None, head and Head(*head))
    else:
        source = Replay(*head, settings or QuerySettings(), columns.item is not None)
    if out.is_dir():
        raise InputError(f"{out}: is a directory; name the Parquet file to write")
    with locked(out), tempfile.TemporaryDirectory(prefix=".lum-join-", dir=out.resolve().parent) as scratch:
        rows = read_outside_log(log, columns, head and head[1], Path(scratch) / "engine")
        if out.resolve() in [file.resolve() for file in rows.files]:
            raise InputError(f"{out}: is a file of the log; name another file to write")
        _check_names(rows, source.schema.names, prefix)
        with named_failures(out):
            draft = Path(scratch) / "joined.parquet"
            _write(rows, source, prefix, draft)
            os.replace(draft, out)
    return _figures(rows, source)


def _write(log: OutsideLog, source: Snapshots | Replay, prefix: str, file: Path) -> None:
    """Write the rows with their knowledge, some rows at a time."""
    names, done, writer = [prefix + name for name in source.schema.names], 0, None
    progress = new_progress(
        "{task.description}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), transient=True
    )
    with progress as bar:
        task = bar.add_task("join", total=len(log.keys))
        for rows in log.rows(ROWS):
            added = source.columns(log.keys[done : done + len(rows)]).rename_columns(names)
            joined = pa.table([*rows.columns, *added.columns], names=[*rows.column_names, *names])
            writer = writer or pq.ParquetWriter(file, joined.schema)
            writer.write_table(joined)
            done += len(rows)
            bar.advance(task, len(rows))
    if writer is not None:
        writer.close()
    if done != len(log.keys):
        raise InputError(
            f"the log has changed while it was read ({done:,} of {len(log.keys):,} rows); run the command again"
        )


def _check_names(log: OutsideLog, added: Sequence[str], prefix: str) -> None:
    """Raise an `InputError` if a column of the log has the name of an added column."""
    clashes = sorted({prefix + name for name in added} & set(log.column_names))
    if clashes:
        raise InputError(
            f"the log already has the column{'s' * (len(clashes) > 1)} {', '.join(clashes)}; begin the names of the added "
            "columns with a prefix, such as --prefix lum_"
        )


def _figures(log: OutsideLog, source: Snapshots | Replay) -> dict[str, Any]:
    """Return the figures of a join."""
    figures: dict[str, Any] = {"rows": len(log.keys), "added_columns": len(source.schema)} | source.figures
    for role in ("user", "item"):
        if role in log.keys.column_names:
            unknown = log.keys.filter(source.is_unknown(role, log.keys))
            figures |= {f"unknown_{role}s": len(pc.unique(unknown[role])), f"rows_of_unknown_{role}s": len(unknown)}
    if log.missing_fields:
        figures["conditions_without_column"] = ", ".join(log.missing_fields)
    return figures
