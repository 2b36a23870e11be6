"""Artefacts: directories that are written completely or not at all, and that describe their content and origin.

An artefact is a directory with a `manifest.json`. The manifest has the kind of the artefact, the size and the checksum of every
part, and the key of the step that wrote it (`keys.py`). Files and directories whose names begin with a dot are not parts.
Pages for people (`.html`, `.md`) may be edited: only `verify.py` checks them.
"""

import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field

from openlum.artefact.checksums import checksums
from openlum.artefact.lock import check_writable, locked
from openlum.config import Settings, parse_settings
from openlum.errors import InputError

MANIFEST = "manifest.json"
"""The file that marks a directory as an artefact and names its kind. Only an artefact of the same kind may replace it."""
Kind = Literal["log", "dataset", "model", "knowledge", "ranker", "retrieval"]
MADE_BY: dict[Kind, str] = {
    "log": "lum data",
    "dataset": "lum prepare",
    "model": "lum pretrain",
    "knowledge": "lum query",
    "ranker": "lum rank",
    "retrieval": "lum retrieve",
}
"""Kind to the command that writes it. `lum market` writes a simulated log, and `lum run` writes all kinds."""
PAGES = (".html", ".md")
"""File name endings of pages for people."""
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Error numbers that only writing raises. Other errors without a file name may come from reading another file."""


class Part(Settings):
    """A file of an artefact."""

    bytes: int = Field(ge=0)
    """Size of the file."""
    sha256: str
    """SHA-256 of the file, in hexadecimal digits."""


class Manifest(Settings):
    """The content of `manifest.json`."""

    kind: Kind
    """Kind of the artefact."""
    format: Literal[1] = 1
    """Version of the artefact's layout. An openlum version that writes another layout has another number."""
    key: dict[str, str] | None = None
    """Key of the step that wrote the artefact, from `step_key`; null if the step did not run in a pipeline."""
    parts: dict[str, Part]
    """Path within the directory, separated by `/`, to the size and checksum of the file."""

    @property
    def data(self) -> dict[str, str]:
        """Path to the checksum of every part that is not a page."""
        return {name: part.sha256 for name, part in self.parts.items() if not is_page(name)}


@contextmanager
def whole_directory(path: str | Path, kind: Kind) -> Iterator[Path]:
    """Yield an empty draft directory beside `path`. On success it replaces `path`; on any error it is removed.

    No other process can write `path` meanwhile. Remains of a killed process are removed first.

    Args:
        path: a path that does not exist, or that holds an older artefact of the same kind.
        kind: the kind of the new artefact.

    Raises:
        InputError: `path` holds other files, or another process writes it.
    """
    path = Path(path).resolve()
    with locked(path):
        draft = path.with_name(f".{path.name}.draft")
        recover(path)
        check_replaceable(path, kind)
        shutil.rmtree(draft, ignore_errors=True)  # left by a killed process: the lock excludes a running one
        draft.mkdir()
        try:
            with named_failures(path):
                yield draft
                write_json(draft / MANIFEST, _manifest(draft, kind).model_dump())
                _replace(draft, path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _replace(draft: Path, path: Path) -> None:
    """Replace `path` by a finished draft. If the system can swap directories, `path` exists at every moment."""
    if not path.exists():
        os.replace(draft, path)
    elif not _exchange(draft, path):
        former = _former(path)
        os.replace(path, former)
        os.replace(draft, path)
        shutil.rmtree(former)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two directories in one system call. Return False if the system or the file system cannot do it (Linux can)."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    working_directory, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of linux/fs.h
    status = rename(working_directory, os.fsencode(first), working_directory, os.fsencode(second), exchange)
    return bool(status == 0)


def _former(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def recover(path: Path) -> None:
    """Repair an artefact whose replacement was interrupted by a killed process.

    The former artefact is put back if `path` does not exist; otherwise the former artefact is removed.

    Raises:
        InputError: another process writes the artefact.
    """
    path = path.resolve()
    former = _former(path)
    if not former.is_dir():
        return
    with locked(path):
        if path.exists():
            shutil.rmtree(former, ignore_errors=True)
        else:
            os.replace(former, path)


def check_parts(directory: str | Path, kind: Kind) -> Manifest | None:
    """Check that every part of an artefact exists and has the size in its manifest. Every reader calls this first.

    Args:
        directory: the artefact.
        kind: the expected kind.

    Returns:
        The manifest. None if the directory has no manifest: a model from `save_pretrained` or from a Hub has none.

    Raises:
        InputError: a part is missing, was added or has another size. The message names the part and the command that writes
            the artefact again.
    """
    directory = Path(directory)
    if not directory.exists():
        recover(directory)
    manifest = read_manifest(directory)
    if manifest is None:
        return None
    if manifest.kind != kind:
        raise InputError(f"{directory}: is a {manifest.kind}, not a {kind}; '{MADE_BY[kind]}' writes one")
    for file, problem in differences(directory, manifest):
        if not is_page(file) and (problem != ADDED or file.endswith(".parquet")):
            raise InputError(f"{directory / file}: {problem}; run '{MADE_BY[kind]}' again")
    return manifest


ADDED = "was added after the artefact was written"


def differences(directory: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield every file that is missing, was added or has another size than in the manifest, and the problem in words."""
    sizes = files_of(directory)
    for name, part in manifest.parts.items():
        if name not in sizes:
            yield name, "is missing"
        elif sizes[name] != part.bytes:
            yield name, f"has {sizes[name]:,} bytes, but {part.bytes:,} were written"
    for name in sizes:
        if name not in manifest.parts:
            yield name, ADDED


def files_of(directory: Path) -> dict[str, int]:
    """Return the path within the directory and the size of every part, sorted by path."""
    sizes = {}
    for root, directories, names in os.walk(directory, followlinks=True):
        directories[:] = [name for name in directories if not name.startswith(".")]
        for name in names:
            file = Path(root, name)
            path = file.relative_to(directory).as_posix()
            if not name.startswith(".") and path != MANIFEST and file.is_file():
                sizes[path] = file.stat().st_size
    return dict(sorted(sizes.items()))


def is_page(name: str) -> bool:
    """Return whether a file of an artefact is a page for people, who may edit it."""
    return PurePosixPath(name).suffix in PAGES


def data_checksums(directory: Path) -> dict[str, str]:
    """Return the path and the current checksum of every part that is not a page."""
    names = [name for name in files_of(directory) if not is_page(name)]
    return dict(zip(names, checksums([directory / name for name in names]), strict=True))


def _manifest(directory: Path, kind: Kind) -> Manifest:
    sizes = files_of(directory)
    entries = zip(sizes.items(), checksums([directory / name for name in sizes]), strict=True)
    return Manifest(kind=kind, parts={name: Part(bytes=size, sha256=checksum) for (name, size), checksum in entries})


def read_manifest(directory: Path) -> Manifest | None:
    """Return the manifest of an artefact; None if the directory has no manifest.

    Raises:
        InputError: the manifest is damaged, or another program wrote it.
    """
    file = directory / MANIFEST
    if not file.is_file():
        return None
    try:
        return parse_settings(read_json(file, "lum"), Manifest, where=str(file))
    except InputError as error:
        raise InputError(
            f"{error}. If lum wrote {directory}, remove it and run its step again; otherwise name another directory"
        ) from None


def record_key(directory: Path, key: dict[str, str]) -> None:
    """Write the key of the step that wrote an artefact into its manifest."""
    manifest = read_manifest(directory)
    assert manifest is not None
    write_json(directory / MANIFEST, manifest.model_copy(update={"key": key}).model_dump())


@contextmanager
def named_failures(path: Path) -> Iterator[None]:
    """Add `path` to an error of writing that names no file: most libraries report only that no space is left.

    Raises:
        OSError: with a file name.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        code = _disk_full(error)
        is_named = isinstance(error, OSError) and error.filename is not None and error.filename2 is None
        if code is None or is_named:  # if an error has two names, the first one is the source of a copy
            raise
        raise OSError(code, os.strerror(code), str(path)) from error


def _disk_full(error: Exception) -> int | None:
    """Return the number of an error in `DISK_FULL`, else None. safetensors (Rust) and `shutil` have it only in their message."""
    numbers_in_message = re.findall(r"(?:os error|code:|Errno) (\d+)", str(error))
    numbers = [getattr(error, "errno", None), *map(int, numbers_in_message)]
    return next((number for number in numbers if number in DISK_FULL), None)


def check_replaceable(path: Path, kind: Kind) -> None:
    """Check that an artefact can be written to `path`: nothing exists there, or an older artefact of the same kind.

    Raises:
        InputError: `path` holds other files, or the directory around it is not writable.
    """
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file; name a directory to write to")
    check_writable(path)
    if not path.exists() or not any(path.iterdir()):
        return
    manifest = read_manifest(path)
    if manifest is None:
        raise InputError(
            f"{path}: holds files that lum did not write (it has no {MANIFEST}); name a new or an empty directory"
        )
    if manifest.kind != kind:
        raise InputError(f"{path}: is a {manifest.kind} and cannot be replaced by a {kind}; name another directory")


def fingerprint(*parts: Any) -> str:
    """Return a short hash of JSON-like values, the same on every machine."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, completely or not at all. Missing directories are created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    with named_failures(path):
        draft.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(draft, path)


def read_json(path: Path, command: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Return the mapping in a JSON file of an artefact.

    Args:
        path: the file.
        command: the command that writes the file, for messages.
        keys: keys that the mapping must have.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; '{command}' writes it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run '{command}' again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of keys, found a {type(content).__name__}; run '{command}' again")
    for key in keys:
        if key not in content:
            raise InputError(f"{path}: key '{key}' is missing; run '{command}' again")
    return content
