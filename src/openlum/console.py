"""The terminal. Names and paths are printed as they are: rich would take `[b]` for markup and `:cat:` for a picture.

No other module makes a `Console` or a `Progress`. Style is given by `style=` or `Text`.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

T = TypeVar("T")


def new_console(stderr: bool = False) -> Console:
    """Return a console that prints text as it is."""
    return Console(stderr=stderr, markup=False, emoji=False)


def new_progress(*columns: str | ProgressColumn, console: Console | None = None, **options: Any) -> Progress:
    """Return a progress display, not yet shown.

    Args:
        columns: of the display; a text is a format of `task`.
        console: where to show it.
        options: of `rich.progress.Progress`.
    """
    made = [TextColumn(column, markup=False) if isinstance(column, str) else column for column in columns]
    return Progress(*made, console=console or new_console(), **options)


def tracked(steps: Iterable[T], what: str, total: float | None = None, console: Console | None = None) -> Iterator[T]:
    """Yield the steps, and show meanwhile how many lie behind; the display vanishes at the end."""
    columns = "{task.description}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with new_progress(*columns, console=console, transient=True) as shown:
        yield from shown.track(steps, total=total, description=what)
