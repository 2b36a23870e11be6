"""Names, values and paths as DuckDB's SQL writes them."""

from collections.abc import Sequence
from pathlib import Path


def quoted(text: str) -> str:
    """A text."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A table's or a column's name."""
    return '"' + name.replace('"', '""') + '"'


def no_pattern(path: str | Path) -> str:
    """A path in which DuckDB sees no pattern."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in str(path))


def file_list(files: Sequence[str | Path]) -> str:
    """The paths of files, each read as it stands."""
    return "[" + ", ".join(quoted(no_pattern(file)) for file in files) + "]"
