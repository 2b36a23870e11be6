"""Step 2, knowledge querying, in bulk: a loop over the shards of a dataset that writes `knowledge/`.

Knowledge has one row per impression (`shard.py`) or one row per user (`users.py`). During the run, the finished parts lie in the
directory `OUT.work`. A run that was interrupted continues there if it is started again with the same dataset, model, settings,
users and time.
"""

import shutil
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn
from torch import Tensor

from openlum.arguments.values import as_path, check_kind
from openlum.artefact.directory import check_replaceable, whole_directory
from openlum.artefact.json_file import fingerprint, named_failures, write_json
from openlum.artefact.keys import step_key
from openlum.artefact.lock import locked
from openlum.console import new_console, new_progress
from openlum.data.dataset import Dataset
from openlum.data.shard import Shard
from openlum.errors import InputError
from openlum.model import LargeUserModel, default_device
from openlum.query.checks import KnowledgeSize
from openlum.query.columns import item_table
from openlum.query.costs import tier_costs
from openlum.query.earlier import ANSWER_ALL, EarlierKnowledge
from openlum.query.questions import QuestionSet
from openlum.query.settings import QuerySettings
from openlum.query.shard import ShardQuery
from openlum.query.user_ids import NOW, read_user_ids
from openlum.query.users import UserQuery
from openlum.query.writer import PartStore, part_name, write_part


class Form(Protocol):
    """A form of knowledge: what the rows are, and how a shard's rows are answered. `ShardQuery` and `UserQuery` are forms."""

    folder: str
    """The folder of the parts."""
    source: str
    """The folder of the dataset that has the rows."""
    settings: QuerySettings
    rejected: pa.Table | None
    """Rows that the caller asked for and the dataset does not have."""

    @property
    def items(self) -> Tensor:
        """(V, E) embeddings of the dataset's items."""

    @property
    def schema(self) -> pa.Schema:
        """The columns of the table."""

    @property
    def total(self) -> int:
        """Number of rows of all shards."""

    def rows(self, shard: Shard) -> Any:
        """Return the rows of a shard, with `len` and `take(slice)`."""

    def tables(self, shard: Shard, rows: Any, /) -> Iterator[pa.Table]:
        """Yield the answers for some rows of a shard, batch by batch."""

    @property
    def questions(self) -> QuestionSet:
        """The questions about every row."""

    @property
    def size(self) -> KnowledgeSize:
        """The approximate size of the knowledge."""

    def description(self) -> dict[str, Any]:
        """Return the keys of `knowledge.json` that follow from the inputs of the run."""

    def summary(self) -> dict[str, Any]:
        """Return the figures of the run for its user."""


def query(
    dataset_dir: str | Path,
    model_dir: str | Path,
    out: str | Path,
    settings: QuerySettings,
    users: Any = None,
    as_of: Any = None,
    only_new: bool = False,
) -> dict[str, Any]:
    """Answer questions and write `knowledge/`, with one row per impression or one row per user.

    Args:
        dataset_dir: from `lum prepare`.
        model_dir: from `lum pretrain`.
        out: the knowledge directory.
        settings: with the questions.
        users: None for every impression of the dataset, as of its time. For knowledge per user: `all`, a file, a list of ids, or
            a frame, as in `read_user_ids`.
        as_of: time of knowledge per user, as in `as_of_second`; None for `now`, the second after the last event.
        only_new: whether impressions that `out` answers already are left out. Their parts stay unchanged, and new parts are
            added. Events that the dataset got since, and that lie before these impressions, do not change their answers.

    Returns:
        The figures of the run. For knowledge per impression they are the section `query` of `summary.json`.

    Raises:
        InputError: if the dataset, a question, the users or the time do not fit the model, or the disk is too full.
    """
    start_time = time.perf_counter()
    dataset_dir, model_dir = as_path("dataset_dir", dataset_dir), as_path("model_dir", model_dir)
    out = as_path("out", out)
    check_kind("settings", settings, QuerySettings)
    dataset = Dataset(dataset_dir)
    model = LargeUserModel.load(model_dir, default_device())
    model.check_compatible(dataset)
    form: Form
    earlier = EarlierKnowledge(out) if only_new and out.exists() else None
    if users is not None and only_new:
        raise InputError(
            "only_new: adds impressions; leave users out, because knowledge per user has a row for each of them"
        )
    if users is not None:
        form = UserQuery(model, dataset, settings, read_user_ids(users), NOW if as_of is None else as_of)
    elif as_of is not None:
        raise InputError("as_of: is the time of knowledge per user; name users too, such as 'all'")
    else:
        _check_held_out(model_dir, model, dataset)
        form = ShardQuery(model, dataset, settings, earlier=earlier)
    check_replaceable(out, "knowledge")
    if earlier is not None:
        earlier.check_same(form.description())
    answered = None if earlier is None else sha256(earlier.row.tobytes()).hexdigest()
    size = form.size
    size.check(out)
    new_console().print(f"questions: {len(form.questions)} ({', '.join(form.questions.names)})", soft_wrap=True)
    new_console().print(f"knowledge: {size}", soft_wrap=True)
    inputs = step_key("query", settings.model_dump(), {"dataset": dataset_dir, "model": model_dir})
    key = fingerprint(inputs, form.description(), answered)
    work = out.resolve().with_name(out.resolve().name + ".work")
    with locked(out), named_failures(work):
        for other in work.glob("*"):  # of a run with other settings or inputs, which cannot continue
            if other.name != key:
                shutil.rmtree(other)
        store = PartStore(work / key)
        rows = _write_parts(form, dataset, store, earlier.next_shard if earlier else 0)
        if earlier is not None and rows > form.total:
            raise InputError(f"{out}: has answers to impressions that {dataset_dir} does not have; {ANSWER_ALL}")
        if rows != form.total:
            raise InputError(
                f"{dataset_dir / form.source}: has {rows:,} rows, but dataset.json has {form.total:,}; run 'lum prepare' again"
            )
        seconds = round(time.perf_counter() - start_time, 1)
        with whole_directory(out, "knowledge") as directory:
            store.link_into(directory / form.folder)
            if earlier is not None:
                earlier.link_into(directory / form.folder)
                rows += len(earlier.row)
            (directory / "items").mkdir()
            write_part(item_table(dataset, form.items, settings.dtype), directory / "items" / "part-00000.parquet")
            if form.rejected is not None:
                (directory / "rejected").mkdir()
                write_part(form.rejected, directory / "rejected" / "part-00000.parquet")
            figures = {"rows": rows, "seconds": seconds} | ({} if users is not None else {"costs": tier_costs(model)})
            write_json(directory / "knowledge.json", form.description() | figures)
        shutil.rmtree(work)
    return form.summary() | {"seconds": seconds}


def _check_held_out(model_dir: Path, model: LargeUserModel, dataset: Dataset) -> None:
    """Raise an error if the model was trained on events of the periods that rankers are validated and tested on."""
    if model.config.protocol == "last":
        raise InputError(
            f"{model_dir}: was trained on events of the test period; pretrain with pretrain.protocol 'time' or 'both' for ranking"
        )
    if model.config.valid_time is not None and model.config.valid_time > dataset.info.valid_time:
        raise InputError(f"{model_dir}: was trained on events of the dataset's validation period; pretrain again")


def _write_parts(form: Form, dataset: Dataset, store: PartStore, first: int) -> int:
    """Write the parts of all shards that are not finished, and return the number of rows of all parts.

    The names of the parts begin with the number of the shard, counted from `first`.
    """
    step, columns = form.settings.rows_per_part, ("{task.description}", BarColumn(), TaskProgressColumn())
    with new_progress(*columns, TimeRemainingColumn(), transient=True) as bar:
        task = bar.add_task("query", total=form.total, completed=store.rows)
        for number, shard in enumerate(dataset.shards(), first):
            names = [part_name(number, piece) for piece in range(store.shards.get(shard.name, 0))]
            if shard.name in store.shards and all(name in store.parts for name in names):
                continue
            rows = form.rows(shard)
            pieces = [slice(start, start + step) for start in range(0, len(rows), step)]
            for piece, piece_rows in enumerate(pieces):
                name = part_name(number, piece)
                if name not in store.parts:
                    tables = [form.schema.empty_table()]
                    for table in form.tables(shard, rows.take(piece_rows)):
                        tables.append(table)
                        bar.advance(task, len(table))
                    store.write(name, pa.concat_tables(tables))
            store.finish_shard(shard.name, len(pieces))
    if not store.parts and not first:  # a reader needs the columns
        store.write(part_name(0, 0), form.schema.empty_table())
    return store.rows
