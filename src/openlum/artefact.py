"""Directories that appear whole or not at all, and the fingerprints that tell whether a step must run again."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from openlum.errors import InputError

MARK = ".openlum"
"""The file that says that a directory is one of ours, and of which kind: one of the same kind may replace it."""
Kind = Literal["log", "dataset", "model", "knowledge", "ranker", "retrieval"]


@contextmanager
def whole_directory(path: str | Path, kind: Kind) -> Iterator[Path]:
    """Yield an empty directory beside `path`; on success it takes the place of `path`, on any error it vanishes.

    Args:
        path: where nothing is yet, or an older artefact of the same kind.
        kind: what is written.

    Raises:
        InputError: there is something else at `path`.
    """
    path = Path(path).resolve()
    check_replaceable(path, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}"
    draft.mkdir()
    try:
        yield draft
        (draft / MARK).write_text(kind)
        if path.exists():
            former = draft.with_name(draft.name + ".old")
            os.replace(path, former)
            os.replace(draft, path)
            shutil.rmtree(former)
        else:
            os.replace(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_replaceable(path: Path, kind: Kind) -> None:
    """Make sure that a directory can be written: nothing is there yet, or an older artefact of the same kind.

    Raises:
        InputError: there is something else, or the directory around it cannot be written to.
    """
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file; name a directory to write to")
    if path.exists() and any(path.iterdir()) and not (path / MARK).exists():
        raise InputError(f"{path}: holds files that lum did not write; name a new or an empty directory")
    former_kind = (path / MARK).read_text() if (path / MARK).exists() else ""
    if former_kind and former_kind != kind:
        raise InputError(f"{path}: is a {former_kind}, and would be replaced by a {kind}; name another directory")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Make sure that a file or a directory can be made at `path`, in directories that are there or can be made.

    Raises:
        InputError: one of them is a file, or may not be written to.
    """
    around = next(parent for parent in path.resolve().parents if parent.exists())
    if not around.is_dir():
        raise InputError(f"{path}: {around} is a file; name another place")
    if not os.access(around, os.W_OK | os.X_OK):
        raise InputError(f"{path}: no permission to write to {around}; name another place")


def fingerprint(*parts: Any) -> str:
    """A short hash of JSON-like values, the same on every machine."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON, whole or not at all; its directory is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(draft, path)


def read_json(path: Path, made_by: str) -> Any:
    """Read the JSON file of an artefact; `made_by` is the command that writes it, for the message where it is absent."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; '{made_by}' writes it") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run '{made_by}' again") from None
