"""`prepare`, `append` and `check`: from an event log to `dataset/`. The module `openlum.data.dataset` describes its layout."""

import gc
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TimeElapsedColumn

from openlum.arguments.values import as_path
from openlum.artefact.directory import whole_directory
from openlum.artefact.json_file import write_json
from openlum.artefact.lock import locked
from openlum.artefact.verify import verify
from openlum.config import load_settings
from openlum.console import new_console, new_progress
from openlum.data.dataset import Dataset, DatasetInfo
from openlum.errors import InputError
from openlum.prepare.engines.engine import Engine
from openlum.prepare.engines.opening import open_engine
from openlum.prepare.inputs.files import DataFile, TableFiles, column_names, one_line, read_error, unreadable
from openlum.prepare.inputs.paths import find_files
from openlum.prepare.preparation import Inputs, Preparation, ReportProgress
from openlum.prepare.row_checks import SchemaError
from openlum.report.dataset_report import write_dataset_report
from openlum.schema import ImpressionTable, Schema

DISK_FULL = re.compile(r"No space left|[Qq]uota exceeded|max_temp_directory_size")
OUT_OF_MEMORY = re.compile(r"[Oo]ut ?[Oo]f ?[Mm]emory|bad_alloc|Java heap space|GC overhead limit")


def prepare(schema: str | Path | Schema, out: str | Path, root: str | Path = "") -> DatasetInfo:
    """Turn an event log and its tables into the directory `out`, which `Dataset` reads.

    Rows that cannot be used are rejected: they are stored in `rejected/` with file, row and reason, and counted in the result.
    `out` is written completely or not at all.

    Args:
        schema: the YAML file that describes the log (`Schema`), whose paths are relative to the file; or a `Schema`.
        out: the directory to write.
        root: the directory that the paths of a `Schema` are relative to; by default the working directory.

    Returns:
        The content of `dataset.json`.

    Raises:
        InputError: a file or a column is missing, empty or of a wrong type, too many rows are rejected, or too few are left.
    """
    out = as_path("out", out)
    if isinstance(schema, Schema):
        return _write(Inputs(schema, Path(root)), out, where="schema")
    schema = as_path("schema", schema)
    return _write(Inputs(load_settings(schema, Schema), schema.parent), out, where=str(schema))


def append(
    dataset: str | Path,
    events: str | Path | None = None,
    impressions: str | Path | None = None,
    items: str | Path | None = None,
    users: str | Path | None = None,
) -> DatasetInfo:
    """Add files of one or several tables to a dataset. The dataset is replaced atomically.

    Existing ids, scales and buckets stay, and new values get new ids. New rows that are already in the dataset are rejected.
    New rows of the item and the user table replace earlier rows of the same id. An impression without a label takes the label of
    a new row for the same impression. The split boundaries are computed again by the schema's rule.

    Args:
        dataset: a dataset from `prepare`.
        events: new files of the event log, in the columns of the dataset's schema.
        impressions: new files of the impression log.
        items: new files of the item table.
        users: new files of the user table.

    Returns:
        The content of `dataset.json`.

    Raises:
        InputError: as in `prepare`; or no files are named, the dataset has no such table, the dataset is damaged, or another
            process is writing it.
    """
    dataset = as_path("dataset", dataset)
    paths = {"events": events, "impressions": impressions, "items": items, "users": users}
    tables = {name: as_path(name, path) for name, path in paths.items() if path is not None}
    if not tables:
        raise InputError(f"{dataset}: nothing to append; name new files of events, impressions, items or users")
    if not dataset.resolve().parent.is_dir():
        raise InputError(f"{dataset}: no such directory; 'lum prepare' writes it")
    # Locked before the old log is read: otherwise rows that another process appends meanwhile would be lost.
    with locked(dataset):
        return _append(dataset, tables)


def _append(dataset: Path, tables: Mapping[str, Path]) -> DatasetInfo:
    earlier = Dataset(dataset)
    verify(dataset)  # the new dataset is computed from the old one, so any damage would become permanent
    schema = earlier.info.data_schema
    changes = {}
    for name, path in tables.items():
        table = getattr(schema, name)
        if table is None:
            raise InputError(
                f"{path}: the schema of {dataset} has no '{name}'; prepare the whole log again with a schema that has '{name}'"
            )
        try:
            find_files(Path(), str(path.resolve()))
        except InputError as error:
            raise InputError(f"{error}; check the path of the new {name}") from None
        changes[name] = table.model_copy(update={"path": str(path.resolve())})
    log = schema.impressions
    if log and "impressions" in changes and not _has_label(tables["impressions"], log):
        changes["impressions"] = changes["impressions"].model_copy(update={"label": None})
    inputs = Inputs(schema.model_copy(update=changes), Path(), earlier, tuple(tables))
    return _write(inputs, dataset, where=f"{dataset}/dataset.json")


def _has_label(path: Path, log: ImpressionTable) -> bool:
    """Return whether any file of impressions has the label column; candidates of future requests have none."""
    return any(log.label in column_names(file, log.csv) for file in find_files(Path(), str(path.resolve())))


def check(schema: str | Path) -> DatasetInfo:
    """Run the checks and counts of `prepare`, write nothing, and return what `dataset.json` would contain.

    Raises:
        InputError: as in `prepare`.
    """
    schema = as_path("schema", schema)
    settings = load_settings(schema, Schema)
    with tempfile.TemporaryDirectory(prefix="lum-", dir=settings.engine.scratch) as draft:
        inputs, scratch = Inputs(settings, schema.parent), Path(draft) / ".scratch"
        return _compute(inputs, Path(draft), scratch, str(schema), {draft: scratch})


def _write(inputs: Inputs, out: Path, where: str) -> DatasetInfo:
    with _frozen_modules(), whole_directory(out, "dataset") as draft:
        scratch_setting = inputs.schema.engine.scratch
        scratch = Path(tempfile.mkdtemp(prefix="lum-", dir=scratch_setting)) if scratch_setting else draft / ".scratch"
        info = _compute(inputs, draft, scratch, where, {str(out): draft, scratch_setting or str(out): scratch})
        write_json(draft / "dataset.json", info.model_dump(mode="json"))
        write_dataset_report(info, draft / "report.html")
    return info


def _compute(inputs: Inputs, draft: Path, scratch: Path, where: str, written: Mapping[str, Path]) -> DatasetInfo:
    with open_engine(inputs.schema.engine, scratch) as engine, _progress_bar() as report_progress:
        sources: list[TableFiles] = []
        with _explained_failures(engine, sources, written, where):
            return Preparation(engine, inputs, draft, scratch, report_progress, sources).run()


@contextmanager
def _frozen_modules() -> Iterator[None]:
    """Keep the garbage collector from searching the objects that exist now: the modules of Ibis are many."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _explained_failures(
    engine: Engine, sources: Sequence[TableFiles], written: Mapping[str, Path], where: str
) -> Iterator[None]:
    """Turn the failure of a computation into an `InputError` that names the file, directory or setting to correct.

    Args:
        engine: the engine that computes tables.
        sources: the files that are read.
        written: the directories that are written, by the names that the user knows.
        where: the path of the schema, for messages.
    """
    try:
        yield
    except SchemaError as error:
        raise InputError(f"{where}: {error}") from None
    except (OSError, MemoryError, pa.ArrowException, *engine.failures) as error:
        # Without memory or disk space, reading an undamaged file fails too, so these causes are checked first.
        if DISK_FULL.search(str(error)):
            full = min(written, key=lambda name: shutil.disk_usage(written[name]).free)
            raise InputError(
                f"{full}: no space left on this disk; free some space, choose another --out, or set 'engine.scratch' in the "
                "schema to another directory for intermediate tables"
            ) from None
        if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)):
            raise InputError(f"memory ran out ({one_line(error)}); {engine.more_memory_hint}") from None
        for file in (file for source in sources for file in source.files):
            if reason := read_error(file) or _engine_read_error(engine, file):
                raise unreadable(file.path, reason) from None
        raise


def _engine_read_error(engine: Engine, file: DataFile) -> str:
    """Return in words why the engine cannot read a file; empty if it can."""
    columns = [column for column, column_type in file.types.items() if not pa.types.is_null(column_type)]
    try:
        engine.materialize("read once more", engine.scan("once more", [file.parquet], columns))
    except engine.failures as error:
        return one_line(error)
    return ""


@contextmanager
def _progress_bar() -> Iterator[ReportProgress]:
    """Show a progress bar with the current step; yields the function that announces the next step."""
    columns = SpinnerColumn(), "{task.description}", BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    with new_progress(*columns, console=new_console(stderr=True), transient=True) as progress:
        task = progress.add_task("preparing", total=1.0)
        yield lambda description, done: progress.update(task, description=description, completed=done)
