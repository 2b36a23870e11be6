"""Step 2, knowledge querying, in bulk: a run over the shards of a dataset that writes `knowledge/`.

Knowledge has one row per impression (`shard.py`) or one row per user (`users.py`). During the run, the finished parts lie in the
directory `OUT.work`. A run that was interrupted continues there if it is started again with the same dataset, model, settings,
users and time.
"""

import shutil
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from openlum.arguments.values import as_path, check_kind
from openlum.artefact.directory import check_replaceable, whole_directory
from openlum.artefact.json_file import fingerprint, named_failures, write_json
from openlum.artefact.keys import step_key
from openlum.artefact.lock import locked
from openlum.console import new_console
from openlum.errors import InputError
from openlum.query.columns import item_table
from openlum.query.costs import tier_costs
from openlum.query.earlier import ANSWER_ALL
from openlum.query.executors import ENGINES, write_parts
from openlum.query.form import QueryRun
from openlum.query.settings import QuerySettings
from openlum.query.user_ids import read_user_ids
from openlum.query.writer import PartStore, write_part


def query(
    dataset_dir: str | Path,
    model_dir: str | Path,
    out: str | Path,
    settings: QuerySettings,
    users: Any = None,
    as_of: Any = None,
    only_new: bool = False,
    processes: int = 1,
    engine: str = "local",
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
        processes: how many processes answer. More than one are started with "spawn", so a script that calls this function needs
            `if __name__ == "__main__":`.
        engine: `local`, or `ray` for the workers of a Ray cluster. They read the inputs and write `out` under the same paths.

    Returns:
        The figures of the run. For knowledge per impression they are the section `query` of `summary.json`.

    Raises:
        InputError: if the dataset, a question, the users or the time do not fit the model, or the disk is too full.
    """
    start_time = time.perf_counter()
    dataset_dir, model_dir = as_path("dataset_dir", dataset_dir), as_path("model_dir", model_dir)
    out = as_path("out", out)
    check_kind("settings", settings, QuerySettings)
    if engine not in ENGINES:
        raise InputError(f"unknown engine '{engine}'; choose from {', '.join(ENGINES)}")
    if users is not None and only_new:
        raise InputError(
            "only_new: adds impressions; leave users out, because knowledge per user has a row for each of them"
        )
    user_ids = None if users is None else read_user_ids(users)
    answered_dir = out if only_new and out.exists() else None
    run = QueryRun(dataset_dir, model_dir, settings, users is not None, user_ids, as_of, answered_dir)
    form = run.open()
    earlier = form.earlier
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
        write_parts(run, form, store, processes, engine)
        rows = store.rows
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
            write_part(item_table(form.dataset, form.items, settings.dtype), directory / "items" / "part-00000.parquet")
            if form.rejected is not None:
                (directory / "rejected").mkdir()
                write_part(form.rejected, directory / "rejected" / "part-00000.parquet")
            figures = {"rows": rows, "seconds": seconds} | (
                {} if users is not None else {"costs": tier_costs(form.model)}
            )
            write_json(directory / "knowledge.json", form.description() | figures)
        shutil.rmtree(work)
    return form.summary() | {"seconds": seconds}
