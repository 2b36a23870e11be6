"""The files that a path of the schema names, and the columns that the names of their directories define."""

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from openlum.errors import InputError

ENDINGS = (".parquet", ".csv", ".csv.gz", ".tsv", ".tsv.gz")
"""Endings of the files that a directory or an open pattern names. A file that is named by itself is CSV unless it is Parquet."""
MARKS = "*?["
"""A path with one of these characters is a pattern, unless a file or directory has exactly that name."""
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""Directory value for rows without a value."""


def find_files(root: Path, path: str) -> list[Path]:
    """Return the files that a path names: one file, the files below a directory, or the files that match a pattern.

    Names that begin with `_` or `.` are not data (drafts, checkpoints, logs of other tools), unless the path itself contains
    such a name. `_dt=2026-01-01` is the directory of a column, so it is data.

    A file of another ending is read as CSV if the path names it (`u.data`), or names its ending (`log/*.txt`).

    Raises:
        InputError: the path names no file, or a pattern matches a file whose ending is neither of Parquet nor of CSV.
    """
    full_path = root / path
    if full_path.is_file():
        return [full_path]
    if full_path.is_dir():
        files = sorted(filter(_is_data, _below(full_path, set())))
        if not files:
            raise InputError(f"{full_path}: no file in this directory ends in {', '.join(ENDINGS)}")
    elif any(mark in path for mark in MARKS):
        start = Path(Path(path).anchor) if Path(path).is_absolute() else root
        matches = set(_matches(start, Path(path).relative_to(Path(path).anchor).parts))
        walked: set[str] = set()
        files = sorted(
            {file for m in matches for file in ([m] if m.is_file() else filter(_is_data, _below(m, walked)))}
        )
        if not files:
            raise InputError(f"{full_path}: no file matches this pattern")
    else:
        raise InputError(f"{full_path}: no such file")
    named_ending = Path(path).suffix.lower()
    for file in files:
        if not _is_data(file) and file.suffix.lower() != named_ending:
            raise InputError(
                f"{file}: expected a file that ends in {', '.join(ENDINGS)}; for other endings, name the file itself or a "
                f"pattern with its ending, such as '*{file.suffix}'"
            )
    return files


def find_files_of_schema(root: Path, path: str) -> list[Path]:
    """Return the files that a path of the schema names; an error says that the path is in the schema.

    Raises:
        InputError: as in `find_files`.
    """
    try:
        return find_files(root, path)
    except InputError as error:
        raise InputError(f"{error}; check the path in the schema") from None


def count_other_files(root: Path, path: str) -> int:
    """Count the files below a directory that `find_files` ignores because they are neither Parquet nor CSV."""
    return sum(not _is_data(file) for file in _below(root / path, set())) if (root / path).is_dir() else 0


def partition_columns(file: str | Path) -> dict[str, str | None]:
    """Return the columns that a file's directories define (`dt=2026-01-01/`), with their values: text, or None where missing."""
    pairs = [name.split("=", 1) for name in Path(os.path.abspath(file)).parent.parts if "=" in name.lstrip("=")]
    return {unquote(name): None if value in ("", NO_VALUE) else unquote(value) for name, value in pairs}


def is_parquet(file: Path) -> bool:
    """Return whether a file is read as Parquet; every other file is CSV."""
    return file.name.lower().endswith(".parquet")


def _below(directory: Path, walked: set[str]) -> Iterator[Path]:
    """Yield the files at any depth below a directory that are not private; a file reached by several links is yielded once."""
    for parent, directories, names in os.walk(directory, followlinks=True):
        real = os.path.realpath(parent)
        if real in walked:
            directories.clear()
            continue
        walked.add(real)
        directories[:] = sorted(name for name in directories if not _is_private(name))
        for name in names:
            if not _is_private(name):
                yield Path(parent, name)


def _matches(directory: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    """Yield the paths that match a pattern, part by part; private names match only parts that begin with the same character."""
    first, rest = parts[0], parts[1:]
    if first == "**":
        if rest:
            yield from _matches(directory, rest)
        else:
            yield directory
        for entry in _entries(directory):
            if entry.is_dir() and not entry.is_symlink() and not _is_private(entry.name):
                yield from _matches(entry, parts)
        return
    if any(mark in first for mark in MARKS) and not (directory / first).exists():
        fits = [e for e in _entries(directory) if fnmatch.fnmatchcase(e.name, first)]
        fits = [e for e in fits if not _is_private(e.name) or first[0] == e.name[0]]
    else:
        fits = [directory / first]
    for entry in fits:
        if rest and entry.is_dir():
            yield from _matches(entry, rest)
        elif not rest and entry.exists():
            yield entry


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _is_data(file: Path) -> bool:
    return file.name.lower().endswith(ENDINGS)


def _is_private(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name)
