"""The progress of the trainings of a benchmark."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, TimeElapsedColumn

from openlum.console import new_console, new_progress
from openlum.processes import run_all

Task = TypeVar("Task")
Result = TypeVar("Result")


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
