"""From an event log to `dataset/`: read, check, encode, order, split. The layout is described in `dataset.py`."""

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TimeElapsedColumn

from openlum.arguments.values import as_path
from openlum.artefact.directory import whole_directory, write_json
from openlum.artefact.lock import locked
from openlum.artefact.verify import verify
from openlum.config import load_settings
from openlum.console import new_console, new_progress
from openlum.data.dataset import Dataset, DatasetInfo
from openlum.errors import InputError
from openlum.prepare.engines.engine import Engine
from openlum.prepare.engines.opening import open_engine
from openlum.prepare.inputs.files import DataFile, Source, column_names, damage, one_line, unreadable
from openlum.prepare.inputs.paths import find
from openlum.prepare.intake import SchemaError
from openlum.prepare.preparation import Inputs, Preparation, Step
from openlum.report.dataset_report import write_dataset_report
from openlum.schema import Schema

DISK_FULL = re.compile(r"No space left|[Qq]uota exceeded|max_temp_directory_size")
OUT_OF_MEMORY = re.compile(r"[Oo]ut ?[Oo]f ?[Mm]emory|bad_alloc|Java heap space|GC overhead limit")


def prepare(schema: str | Path, out: str | Path) -> DatasetInfo:
    """Turn an event log and its tables into the directory `out`, which `Dataset` reads.

    Rows that cannot be used are refused: they lie in `rejected/` with file, row and reason, and are counted in the result. The
    output appears whole or not at all.

    Args:
        schema: the YAML file that describes the log (`Schema`); paths in it are relative to it.
        out: the directory to write.

    Returns:
        What was written, as in `dataset.json`.

    Raises:
        InputError: a file or a column is missing, empty or of a wrong type, too many rows are refused, or too little is left.
    """
    schema, out = as_path("schema", schema), as_path("out", out)
    return _write(Inputs(load_settings(schema, Schema), schema.parent), out, where=str(schema))


def append(
    dataset: str | Path,
    events: str | Path | None = None,
    impressions: str | Path | None = None,
    items: str | Path | None = None,
    users: str | Path | None = None,
) -> DatasetInfo:
    """Add files of one or several tables to a dataset, which is replaced by the longer one, whole or not at all.

    Old ids, scales and buckets stay, new values get new ids. Rows that the dataset has already are left out. Rows of the item
    and the user table replace those of the same id. An impression that had no label takes it from the row that brings it. Splits
    move by the schema's rule.

    Args:
        dataset: from `prepare`.
        events: new files of the event log, in the columns of the dataset's schema.
        impressions: new files of the impression log.
        items: new files of the item table.
        users: new files of the user table.

    Returns:
        What was written, as in `dataset.json`.

    Raises:
        InputError: as `prepare`; or no files are given; or the dataset has no such table, or is damaged, or another process
            writes it.
    """
    dataset = as_path("dataset", dataset)
    given = {"events": events, "impressions": impressions, "items": items, "users": users}
    tables = {name: as_path(name, path) for name, path in given.items() if path is not None}
    if not tables:
        raise InputError(f"{dataset}: nothing to append; give new files of events, impressions, items or users")
    if not dataset.resolve().parent.is_dir():
        raise InputError(f"{dataset}: no such directory; 'lum prepare' writes it")
    with locked(dataset):  # from before the old log is read: what another process appends meanwhile would be lost
        return _append(dataset, tables)


def _append(dataset: Path, tables: Mapping[str, Path]) -> DatasetInfo:
    former = Dataset(dataset)
    verify(dataset)  # all that follows is computed from it: damage would be in the new one for good
    schema = former.info.data_schema
    changes = {}
    for name, path in tables.items():
        table = getattr(schema, name)
        if table is None:
            raise InputError(f"{path}: the schema of {dataset} has no '{name}'; prepare anew with a schema that has")
        changes[name] = table.model_copy(update={"path": str(path.resolve())})
    shown = schema.impressions
    if shown and "impressions" in changes and not _has_column(tables["impressions"], shown.label):
        changes["impressions"] = changes["impressions"].model_copy(update={"label": None})
    inputs = Inputs(schema.model_copy(update=changes), Path(), former, tuple(tables))
    return _write(inputs, dataset, where=f"{dataset}/dataset.json")


def _has_column(path: Path, column: str | None) -> bool:
    """Whether any file of a table has a column; tomorrow's candidates have no label."""
    return any(column in column_names(file) for file in find(Path(), str(path.resolve())))


def check(schema: str | Path) -> DatasetInfo:
    """What `prepare` would write: the same checks and counts; nothing is left behind.

    Raises:
        InputError: as `prepare`.
    """
    schema = as_path("schema", schema)
    settings = load_settings(schema, Schema)
    with tempfile.TemporaryDirectory(prefix="lum-", dir=settings.engine.scratch) as draft:
        inputs, scratch = Inputs(settings, schema.parent), Path(draft) / ".scratch"
        return _compute(inputs, Path(draft), scratch, str(schema), {draft: scratch})


def _write(inputs: Inputs, out: Path, where: str) -> DatasetInfo:
    with whole_directory(out, "dataset") as draft:
        chosen = inputs.schema.engine.scratch
        scratch = Path(tempfile.mkdtemp(prefix="lum-", dir=chosen)) if chosen else draft / ".scratch"
        info = _compute(inputs, draft, scratch, where, {str(out): draft, chosen or str(out): scratch})
        write_json(draft / "dataset.json", info.model_dump(mode="json"))
        write_dataset_report(info, draft / "report.html")
    return info


def _compute(inputs: Inputs, draft: Path, scratch: Path, where: str, written: Mapping[str, Path]) -> DatasetInfo:
    with open_engine(inputs.schema.engine, scratch) as engine, _progress() as step:
        sources: list[Source] = []
        with _explained(engine, sources, written, where):
            return Preparation(engine, inputs, draft, scratch, step, sources).run()


@contextmanager
def _explained(engine: Engine, sources: Sequence[Source], written: Mapping[str, Path], where: str) -> Iterator[None]:
    """Turn the failure of a computation into a message that names the file, the directory or the setting to mend.

    Args:
        engine: at work.
        sources: the files that are read.
        written: the directories that are written, by the names that the user has for them.
        where: the schema, for messages.
    """
    try:
        yield
    except SchemaError as error:
        raise InputError(f"{where}: {error}") from None
    except (OSError, MemoryError, pa.ArrowException, *engine.failures) as error:
        # A machine without room also fails to read sound files, so this comes first.
        if DISK_FULL.search(str(error)):
            full = min(written, key=lambda name: shutil.disk_usage(written[name]).free)
            raise InputError(
                f"{full}: no space left on this disk; free some, name another --out, or with 'engine.scratch' in the schema "
                "another directory for intermediate tables"
            ) from None
        if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)):
            raise InputError(f"memory ran out ({one_line(error)}); {engine.more_memory}") from None
        for file in (file for source in sources for file in source.files):
            if why := damage(file) or _engine_damage(engine, file):
                raise unreadable(file.path, why) from None
        raise


def _engine_damage(engine: Engine, file: DataFile) -> str:
    """Why the engine cannot read a file, in words; empty where it can."""
    columns = [column for column, of in file.types.items() if not pa.types.is_null(of)]
    try:
        engine.keep("read once more", engine.scan("once more", [file.parquet], columns))
    except engine.failures as error:
        return one_line(error)
    return ""


@contextmanager
def _progress() -> Iterator[Step]:
    """A bar with the step at work; yields the function that announces the next one."""
    columns = SpinnerColumn(), "{task.description}", BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    with new_progress(*columns, console=new_console(stderr=True), transient=True) as shown:
        task = shown.add_task("preparing", total=1.0)
        yield lambda description, done: shown.update(task, description=description, completed=done)
