"""Names, text and paths as DuckDB's SQL writes them."""

import os
from collections.abc import Sequence
from pathlib import Path

from openlum.errors import InputError

PATTERN = "*?["


def quoted(text: str) -> str:
    """Return a text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Return the name of a table or column as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def escape_glob(path: str | Path) -> str:
    """Return the absolute path, escaped so that DuckDB does not interpret it as a pattern.

    Raises:
        InputError: the path has both a backslash and a pattern character; DuckDB would interpret the backslash as a separator.
    """
    absolute = os.path.abspath(path)
    if "\\" in absolute and any(character in absolute for character in PATTERN):
        raise InputError(
            f"{path}: a path with a backslash and one of the characters {', '.join(PATTERN)} cannot be read; rename it"
        )
    return "".join(f"[{character}]" if character in PATTERN else character for character in absolute)


def file_list(files: Sequence[str | Path]) -> str:
    """Return paths as an SQL list; each path is read literally."""
    return "[" + ", ".join(quoted(escape_glob(file)) for file in files) + "]"
