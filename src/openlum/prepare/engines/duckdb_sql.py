"""Names, values and paths as DuckDB's SQL writes them."""

import os
from collections.abc import Sequence
from pathlib import Path

from openlum.errors import InputError

PATTERN = "*?["


def quoted(text: str) -> str:
    """A text."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A table's or a column's name."""
    return '"' + name.replace('"', '""') + '"'


def no_pattern(path: str | Path) -> str:
    """An absolute path in which DuckDB sees no pattern.

    Raises:
        InputError: it has a backslash beside a sign of patterns, which DuckDB takes for a separator then.
    """
    signs = os.path.abspath(path)
    if "\\" in signs and any(sign in signs for sign in PATTERN):
        raise InputError(f"{path}: a path with a backslash and one of {', '.join(PATTERN)} cannot be read; rename it")
    return "".join(f"[{sign}]" if sign in PATTERN else sign for sign in signs)


def file_list(files: Sequence[str | Path]) -> str:
    """The paths of files, each read as it stands."""
    return "[" + ", ".join(quoted(no_pattern(file)) for file in files) + "]"
