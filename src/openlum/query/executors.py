"""Who writes the parts of a query run: this process, several processes of this machine, or the workers of a Ray cluster.

The parts do not depend on it. A task is a share of the parts of one shard: processes share a shard if there are few of them.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn

from openlum.console import SpeedColumn, new_progress
from openlum.errors import InputError
from openlum.processes import run_all
from openlum.query.form import Form, QueryRun
from openlum.query.writer import Part, PartStore, part_name

Result = TypeVar("Result")
ENGINES = ("local", "ray")
TASKS_PER_PROCESS = 4
"""The progress counts tasks, and the last tasks of a run end at about the same time, if there are so many for each process."""


@dataclass(frozen=True)
class Task:
    """The parts of a shard whose number, modulo `shares`, is `share`."""

    number: int
    """Number of the shard."""
    share: int
    shares: int


def write_parts(run: QueryRun, form: Form, store: PartStore, processes: int, engine: str) -> None:
    """Write the parts of all shards that are not finished.

    Args:
        run: the inputs, for other processes.
        form: that `run` opens, for this process.
        store: with the finished parts.
        processes: how many processes answer.
        engine: where they run.
    """
    shards = form.dataset.shards()
    unfinished = [
        number for number, shard in enumerate(shards) if not store.is_finished(form.first_part + number, shard.name)
    ]
    tasks = _tasks(unfinished, form, 1 if engine == "ray" else processes)
    columns = "{task.description}", BarColumn(), TaskProgressColumn(), SpeedColumn("rows"), TimeRemainingColumn()
    with new_progress(*columns, transient=True) as bar:
        row = bar.add_task("query", total=form.total, completed=store.rows)
        if engine == "local" and min(processes, len(tasks)) <= 1:
            done: Iterator[tuple[Task, int]] = (
                (task, write_share(form, store, task, partial(bar.advance, row))) for task in tasks
            )
        else:
            work = partial(write_share_of_run, run, store.directory)
            results = run_on_ray(work, tasks) if engine == "ray" else run_all(work, tasks, processes)
            done = _recorded(results, store, partial(bar.advance, row))
        open_shares = Counter(task.number for task in tasks)
        for task, pieces in done:
            open_shares[task.number] -= 1
            if not open_shares[task.number]:
                store.finish_shard(shards[task.number].name, pieces)
    if not store.parts and not form.first_part:  # a reader needs the columns
        store.write(part_name(0, 0), form.schema.empty_table())


def _tasks(numbers: list[int], form: Form, processes: int) -> list[Task]:
    """Return the tasks of shards, by their numbers, for so many processes: no more of a shard than it has parts on average."""
    if processes == 1 or not numbers:
        return [Task(number, 0, 1) for number in numbers]
    parts = -(-form.total // (len(form.dataset.shards()) * form.settings.rows_per_part))
    shares = max(min(-(-TASKS_PER_PROCESS * processes // len(numbers)), parts), 1)
    return [Task(number, share, shares) for number in numbers for share in range(shares)]


def _recorded(
    results: Iterator[tuple[Task, tuple[int, dict[str, Part]]]], store: PartStore, advance: Callable[[int], Any]
) -> Iterator[tuple[Task, int]]:
    """Yield the tasks that other processes finished, with the number of parts of the shard, and add their parts to a store."""
    for task, (pieces, parts) in results:
        advance(sum(part.rows for name, part in parts.items() if name not in store.parts))
        store.parts |= parts
        yield task, pieces


def write_share_of_run(run: QueryRun, directory: Path, task: Task) -> tuple[int, dict[str, Part]]:
    """Write the parts of a task in another process. Return the number of parts of the shard, and its finished parts by name.

    Args:
        run: the inputs. The process opens them once.
        directory: of the parts.
        task: the share of a shard.
    """
    global _opened  # noqa: PLW0603 - the process keeps it for its next tasks
    if _opened is None or _opened[0] != run:
        _opened = run, run.open()
    form = _opened[1]
    store = PartStore(directory, form.first_part + task.number)
    return write_share(form, store, task, lambda rows: None), store.parts


_opened: tuple[QueryRun, Form] | None = None
"""The run whose inputs are open in this process, and its form."""


def run_on_ray(work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
    """Run every task on the Ray cluster that this process is connected to, and yield it with its result as soon as it is done.

    Without a connection, Ray connects to the cluster of the variable RAY_ADDRESS, or starts one on this machine. Ray runs a task
    again if its worker or its machine fails.

    Raises:
        InputError: Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise InputError("engine 'ray': is not installed; run: pip install 'openlum[ray]'") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    remote: Any = ray.remote(_call)
    shared = ray.put(work)
    running = {remote.remote(shared, task): task for task in tasks}
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        yield running.pop(done), ray.get(done)


def _call(work: Callable[[Task], Result], task: Task) -> Result:
    return work(task)


def write_share(form: Form, store: PartStore, task: Task, advance: Callable[[int], Any]) -> int:
    """Write the parts of a task that are not finished, and return the number of parts of the shard.

    Args:
        form: with the rows.
        store: for the parts.
        task: the share of a shard.
        advance: is called with the number of answered rows after every batch.
    """
    shard, step = form.dataset.shards()[task.number], form.settings.rows_per_part
    rows = form.rows(shard)
    pieces = [slice(start, start + step) for start in range(0, len(rows), step)]
    for piece in range(task.share, len(pieces), task.shares):
        name = part_name(form.first_part + task.number, piece)
        if name not in store.parts:
            tables = [form.schema.empty_table()]
            for table in form.tables(shard, rows.take(pieces[piece])):
                tables.append(table)
                advance(len(table))
            store.write(name, pa.concat_tables(tables))
    return len(pieces)
