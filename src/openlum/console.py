"""Output to the terminal. Names and paths are printed unchanged: rich would read `[b]` as markup and `:cat:` as an emoji.

No other module creates a `Console` or a `Progress`. To style text, use `style=` or `Text`.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar("T")
_is_shown: ContextVar[bool] = ContextVar("is_shown", default=True)


@contextmanager
def output(is_shown: bool) -> Iterator[None]:
    """Show or hide the progress displays and the consoles that are created in the `with` block."""
    token = _is_shown.set(is_shown and _is_shown.get())
    try:
        yield
    finally:
        _is_shown.reset(token)


def new_console(stderr: bool = False) -> Console:
    """Return a console that prints text unchanged."""
    return Console(stderr=stderr, markup=False, emoji=False, quiet=not _is_shown.get())


def metrics_in_words(metrics: Mapping[str, float]) -> str:
    """Return metrics in one line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())


class SpeedColumn(ProgressColumn):
    """A column with the number of steps in a second.

    Args:
        unit: name of the steps.
    """

    def __init__(self, unit: str) -> None:
        self.unit = unit
        super().__init__()

    def render(self, task: Task) -> Text:
        """Return the text for a task, which is empty before the first step."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {self.unit}/s" if speed else "")


def new_progress(*columns: str | ProgressColumn, console: Console | None = None, **options: Any) -> Progress:
    """Return a progress display that is not yet visible.

    Args:
        columns: columns of the display; text is a format string for `task`.
        console: the console that shows the display.
        options: options of `rich.progress.Progress`.
    """
    options["disable"] = options.get("disable", False) or not _is_shown.get()
    progress_columns = [TextColumn(column, markup=False) if isinstance(column, str) else column for column in columns]
    return Progress(*progress_columns, console=console or new_console(), **options)


def tracked(
    steps: Iterable[T], description: str, total: float | None = None, console: Console | None = None
) -> Iterator[T]:
    """Yield the steps and show the share of finished steps. The display disappears at the end."""
    columns = "{task.description}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with new_progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(steps, total=total, description=description)
