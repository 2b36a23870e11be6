"""Artefacts: directories that are written atomically, and that describe their content and origin.

An artefact is a directory with a `manifest.json`. The manifest has the kind of the artefact, the size and the checksum of every
part, and the key of the step that wrote it (`manifest.py`, `keys.py`). Files and directories whose names begin with a dot, and
caches of Python (`__pycache__`), are not parts. Pages for people (`.html`, `.md`) may be edited: only `verify.py` checks them.
"""

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openlum.artefact.checksums import checksums
from openlum.artefact.json_file import named_failures, write_json
from openlum.artefact.lock import check_writable, locked
from openlum.artefact.manifest import MADE_BY, MANIFEST, Kind, Manifest, Part, check_format, is_page, read_manifest
from openlum.errors import InputError


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
        InputError: the artefact has another format, or a part is missing, was added or has another size. The message names
            the part and the command that writes the artefact again.
    """
    directory = Path(directory)
    if not directory.exists():
        recover(directory)
    manifest = read_manifest(directory)
    if manifest is None:
        return None
    if manifest.kind != kind:
        raise InputError(f"{directory}: is a {manifest.kind}, not a {kind}; '{MADE_BY[kind]}' writes one")
    check_format(directory, manifest.format, MADE_BY[kind])
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
        directories[:] = [name for name in directories if not name.startswith((".", "__pycache__"))]
        for name in names:
            file = Path(root, name)
            path = file.relative_to(directory).as_posix()
            if not name.startswith(".") and path != MANIFEST and file.is_file():
                sizes[path] = file.stat().st_size
    return dict(sorted(sizes.items()))


def data_checksums(directory: Path) -> dict[str, str]:
    """Return the path and the current checksum of every part that is not a page."""
    names = [name for name in files_of(directory) if not is_page(name)]
    return dict(zip(names, checksums([directory / name for name in names]), strict=True))


def _manifest(directory: Path, kind: Kind) -> Manifest:
    sizes = files_of(directory)
    entries = zip(sizes.items(), checksums([directory / name for name in sizes]), strict=True)
    return Manifest(kind=kind, parts={name: Part(bytes=size, sha256=checksum) for (name, size), checksum in entries})


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
