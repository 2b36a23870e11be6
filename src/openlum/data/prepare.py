"""From an event log to `dataset/`: read, check, encode, order, split. The layout is described in `dataset.py`."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from openlum.arguments import as_path
from openlum.artefact import whole_directory, write_json
from openlum.config import load_settings
from openlum.data.dataset import Dataset, DatasetInfo
from openlum.data.engine import Engine, open_engine
from openlum.data.files import Source, blame, unreadable
from openlum.data.intake import SchemaError
from openlum.data.preparation import Inputs, Preparation, Step
from openlum.data.report import write_dataset_report
from openlum.errors import InputError
from openlum.schema import Schema


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
    events: str | Path,
    impressions: str | Path | None = None,
    items: str | Path | None = None,
    users: str | Path | None = None,
) -> DatasetInfo:
    """Add a log to a dataset, which is replaced by the longer one, whole or not at all.

    Old ids, scales and buckets stay, new values get new ids. Rows that the dataset has already are left out. Rows of the item
    and the user table replace those of the same id. Splits move by the schema's rule.

    Args:
        dataset: from `prepare`.
        events: new files of the event log, in the columns of the dataset's schema.
        impressions: new files of the impression log.
        items: new files of the item table.
        users: new files of the user table.

    Returns:
        What was written, as in `dataset.json`.

    Raises:
        InputError: as `prepare`; or the dataset has no such table.
    """
    dataset = as_path("dataset", dataset)
    given = {"impressions": impressions, "items": items, "users": users}
    tables = {"events": as_path("events", events)}
    tables |= {name: as_path(name, path) for name, path in given.items() if path is not None}
    former = Dataset(dataset)
    schema = former.info.data_schema
    changes = {}
    for name, path in tables.items():
        table = getattr(schema, name)
        if table is None:
            raise InputError(f"{path}: the schema of {dataset} has no '{name}'; prepare anew with a schema that has")
        changes[name] = table.model_copy(update={"path": str(path.resolve())})
    inputs = Inputs(schema.model_copy(update=changes), Path(), former, tuple(tables))
    return _write(inputs, dataset, where=f"{dataset}/dataset.json")


def check(schema: str | Path) -> DatasetInfo:
    """What `prepare` would write: the same checks and counts; nothing is left behind.

    Raises:
        InputError: as `prepare`.
    """
    schema = as_path("schema", schema)
    settings = load_settings(schema, Schema)
    with tempfile.TemporaryDirectory(prefix="lum-", dir=settings.engine.scratch) as draft:
        return _compute(Inputs(settings, schema.parent), Path(draft), Path(draft) / ".scratch", str(schema))


def _write(inputs: Inputs, out: Path, where: str) -> DatasetInfo:
    with whole_directory(out, "dataset") as draft:
        chosen = inputs.schema.engine.scratch
        scratch = Path(tempfile.mkdtemp(prefix="lum-", dir=chosen)) if chosen else draft / ".scratch"
        info = _compute(inputs, draft, scratch, where)
        write_json(draft / "dataset.json", info.model_dump(mode="json"))
        write_dataset_report(info, draft / "report.html")
    return info


def _compute(inputs: Inputs, draft: Path, scratch: Path, where: str) -> DatasetInfo:
    with open_engine(inputs.schema.engine, scratch) as engine, _progress() as step:
        sources: list[Source] = []
        with _explained(engine, sources, where):
            return Preparation(engine, inputs, draft, scratch, step, sources).run()


@contextmanager
def _explained(engine: Engine, sources: Sequence[Source], where: str) -> Iterator[None]:
    """Turn the failure of a computation into a message that names the file, or the setting, to mend."""
    try:
        yield
    except SchemaError as error:
        raise InputError(f"{where}: {error}") from None
    except engine.failures as error:
        for source in sources:
            file, why = blame(source)
            if file:
                raise unreadable(file, why) from None
        raise engine.explain(error) or error from None


@contextmanager
def _progress() -> Iterator[Step]:
    """A bar with the step at work; yields the function that announces the next one."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("preparing", total=1.0)
        yield lambda description, done: shown.update(task, description=description, completed=done)
