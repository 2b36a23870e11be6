"""Worker processes that run independent tasks."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from openlum.capacity import available_cores
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
                    raise InputError(
                        "a worker process has ended before its task; if memory ran out, use fewer --processes"
                    )
                if error:
                    print(
                        f"a task failed; the command stops when the running tasks are done: {error}",
                        file=sys.stderr,
                    )
                result = future.result()
                running |= {pool.submit(work, next_task): next_task for next_task in islice(remaining, 1)}
                yield task, result


def default_processes() -> int:
    """Return the number of tasks at the same time: one per core that this process may use, or one on a GPU, because tasks would
    share its memory."""
    import torch

    return 1 if torch.cuda.is_available() else available_cores()


def begin_worker(processes: int) -> None:
    """Set up a worker: use a share of the cores, print nothing, and end when its parent ends, also if that is killed."""
    import torch

    torch.set_num_threads(max(min(torch.get_num_threads(), available_cores()) // processes, 1))
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stays open as long as the process
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
