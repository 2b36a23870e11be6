"""Output to the terminal. Names and paths are printed unchanged: rich would read `[b]` as markup and `:cat:` as an emoji.

No other module creates a `Console` or a `Progress`. To style text, use `style=` or `Text`.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

T = TypeVar("T")


def new_console(stderr: bool = False) -> Console:
    """Return a console that prints text unchanged."""
    return Console(stderr=stderr, markup=False, emoji=False)


def new_progress(*columns: str | ProgressColumn, console: Console | None = None, **options: Any) -> Progress:
    """Return a progress display that is not yet visible.

    Args:
        columns: columns of the display; text is a format string for `task`.
        console: the console that shows the display.
        options: options of `rich.progress.Progress`.
    """
    progress_columns = [TextColumn(column, markup=False) if isinstance(column, str) else column for column in columns]
    return Progress(*progress_columns, console=console or new_console(), **options)


def tracked(
    steps: Iterable[T], description: str, total: float | None = None, console: Console | None = None
) -> Iterator[T]:
    """Yield the steps and show the share of finished steps. The display disappears at the end."""
    columns = "{task.description}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with new_progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(steps, total=total, description=description)
