"""Trainings of a benchmark, several at a time."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from openlum.console import new_progress
from openlum.errors import InputError

Task = TypeVar("Task")
Done = TypeVar("Done")


def run_all(work: Callable[[Task], Done], tasks: Sequence[Task], processes: int) -> Iterator[tuple[Task, Done]]:
    """Do every task, and yield each with what came of it as it is done.

    With one process, or one task, in this process, which prints whatever the work prints. Otherwise in processes of their own,
    each with a share of the cores, which print nothing. Once a task fails, which is told, what runs is finished and no more is
    begun.

    Args:
        work: a function of a module, or a `functools.partial` of one.
        tasks: begun in this order.
        processes: how many tasks at a time.

    Raises:
        InputError: a process ended before its task did, as where memory runs out.
    """
    workers = min(processes, len(tasks))
    if workers <= 1:
        for task in tasks:
            yield task, work(task)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), begin_worker, (workers,)) as pool:
        left = iter(tasks)  # no more are handed over than run: one that waits in the pool can not be called back
        running = {pool.submit(work, task): task for task in islice(left, workers)}
        while running:
            finished = wait(running, return_when=FIRST_COMPLETED).done
            for done in sorted(finished, key=lambda one: one.exception() is None):  # failures first
                task, error = running.pop(done), done.exception()
                if isinstance(error, BrokenProcessPool):
                    raise InputError("a training's process has ended; if memory ran out, use fewer --processes")
                if error:
                    print(f"failed, and ends when what is under way is done: {error}", file=sys.stderr)
                result = done.result()
                running |= {pool.submit(work, one): one for one in islice(left, 1)}
                yield task, result


def run_all_shown(
    work: Callable[[Task], Done], tasks: Sequence[Task], processes: int, what: str, console: Console
) -> Iterator[tuple[Task, Done]]:
    """`run_all` for work that shows how far it is: in processes of their own, where that is not seen, a bar counts tasks."""
    with tasks_bar(console, shown=min(processes, len(tasks)) > 1) as bar:
        counted = bar.add_task(what, total=len(tasks))
        for task, done in run_all(work, tasks, processes):
            bar.advance(counted)
            yield task, done


def tasks_bar(console: Console, shown: bool = True) -> Progress:
    """How many tasks are done, of how many, and since when; gone when it ends."""
    columns = "{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return new_progress(*columns, console=console, transient=True, disable=not shown)


def default_processes() -> int:
    """Trainings at a time: one a core, or one where there is a GPU, whose memory they would share."""
    import torch

    return 1 if torch.cuda.is_available() else os.cpu_count() or 1


def begin_worker(processes: int) -> None:
    """Take a share of the cores, print nothing, and end when the benchmark does, also where it was killed."""
    import torch

    torch.set_num_threads(max(torch.get_num_threads() // processes, 1))
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open as long as the process
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
