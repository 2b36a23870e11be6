"""Worker processes for the trainings of a benchmark, and their progress."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from datetime import timedelta
from itertools import islice
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, TimeElapsedColumn

from openlum.capacity import available_cores
from openlum.console import new_console, new_progress
from openlum.errors import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_all(work: Callable[[Task], Result], tasks: Sequence[Task], processes: int) -> Iterator[tuple[Task, Result]]:
    """Run every task, and yield it with its result as soon as it is done.

    With one process or one task, the work runs in this process and may print. Otherwise it runs in worker processes, which
    share the cores and print nothing. If a task fails, its error is printed and no further task starts; running tasks are
    completed.

    Args:
        work: a function of a module, or a `functools.partial` of such a function.
        tasks: start in this order.
        processes: number of tasks at the same time.

    Raises:
        InputError: a process ended before its task, for instance because memory ran out.
    """
    workers = min(processes, len(tasks))
    if workers <= 1:
        for task in tasks:
            yield task, work(task)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), begin_worker, (workers,)) as pool:
        remaining = iter(
            tasks
        )  # only running tasks are submitted: a task that waits in the pool could not be cancelled
        running = {pool.submit(work, task): task for task in islice(remaining, workers)}
        while running:
            finished = wait(running, return_when=FIRST_COMPLETED).done
            for future in sorted(finished, key=lambda future: future.exception() is None):  # failures first
                task, error = running.pop(future), future.exception()
                if isinstance(error, BrokenProcessPool):
                    raise InputError("the process of a training has ended; if memory ran out, use fewer --processes")
                if error:
                    print(
                        f"a training failed; the benchmark stops when the running trainings are done: {error}",
                        file=sys.stderr,
                    )
                result = future.result()
                running |= {pool.submit(work, next_task): next_task for next_task in islice(remaining, 1)}
                yield task, result


def run_all_with_progress(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    processes: int,
    description: str,
    describe: Callable[[Task, Result], Sequence[str]],
) -> Iterator[tuple[Task, Result]]:
    """Do the same as `run_all`, and show the progress.

    A bar counts the tasks if worker processes hide the progress of the work itself. `describe` returns the lines that are printed
    about a finished task.
    """
    with TaskProgress(description, len(tasks), len(tasks), has_bar=min(processes, len(tasks)) > 1) as progress:
        for task, result in run_all(work, tasks, processes):
            progress.done(describe(task, result))
            yield task, result


class TaskProgress:
    """The progress of tasks, on standard error: lines about each finished task, and a bar on a terminal.

    Where standard error is no terminal, there is no bar, and the last line about a task has the elapsed and the remaining time.

    Args:
        description: of the tasks, for the bar.
        total: number of tasks.
        work: number of tasks that take time. The results of the others are stored.
        has_bar: whether there is a bar on a terminal.
    """

    def __init__(self, description: str, total: int, work: int, has_bar: bool = True) -> None:
        self.total, self.work = total, work
        self.console = new_console(stderr=True)
        columns = "{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        is_visible = has_bar and self.console.is_terminal
        self.bar = new_progress(*columns, console=self.console, transient=True, disable=not is_visible)
        self.task = self.bar.add_task(description, total=total)
        self.finished = self.worked = 0
        self.began = time.monotonic()

    def __enter__(self) -> "TaskProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def done(self, lines: Sequence[str], worked: bool = True) -> None:
        """Count a finished task and print lines about it.

        Args:
            lines: at least one.
            worked: whether the task took time; otherwise its result was stored.
        """
        self.finished += 1
        self.worked += worked
        self.bar.advance(self.task)
        *others, last = lines
        times = "" if self.console.is_terminal else f" ({self._times()})"
        for line in (*others, f"{last}{times}"):
            self.console.print(line, style="dim", soft_wrap=True)

    def _times(self) -> str:
        """Return the number of finished tasks, the elapsed time, and the expected remaining time."""
        elapsed = time.monotonic() - self.began
        text = f"{self.finished} of {self.total}, {_duration(elapsed)} elapsed"
        if not self.worked or self.worked >= self.work:
            return text
        return f"{text}, about {_duration(elapsed / self.worked * (self.work - self.worked))} remaining"


def _duration(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds: `0:02:40`."""
    return str(timedelta(seconds=round(seconds)))


def default_processes() -> int:
    """Return the number of trainings at the same time: one per core that this process may use, or one on a GPU, because
    trainings would share its memory."""
    import torch

    return 1 if torch.cuda.is_available() else available_cores()


def begin_worker(processes: int) -> None:
    """Set up a worker: use a share of the cores, print nothing, and end when the benchmark ends, also if it is killed."""
    import torch

    torch.set_num_threads(max(min(torch.get_num_threads(), available_cores()) // processes, 1))
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stays open as long as the process
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
