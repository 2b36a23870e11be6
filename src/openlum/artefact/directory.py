"""Directories that appear whole or not at all, and that say what they hold and what they were made of.

An artefact is a directory with `manifest.json`: its kind, the size and the checksum of every part, and the key of what made it
(`keys.py`). Files and directories whose names begin with a dot are no parts. Pages for people (`.html`, `.md`) may be edited:
`verify.py` alone looks at them.
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
"""The file that says that a directory is one of ours, and of which kind: one of the same kind may replace it."""
Kind = Literal["log", "dataset", "model", "knowledge", "ranker", "retrieval"]
MADE_BY: dict[Kind, str] = {
    "log": "lum data",
    "dataset": "lum prepare",
    "model": "lum pretrain",
    "knowledge": "lum query",
    "ranker": "lum rank",
    "retrieval": "lum retrieve",
}
"""The command that writes each kind; a simulated log is from `lum market`, and `lum run` writes all of them."""
PAGES = (".html", ".md")
"""Endings of parts that are for people to read."""
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Errors of writing; others that have no file name may come from reading something else."""


class Part(Settings):
    """A file of an artefact."""

    bytes: int = Field(ge=0)
    """Its size."""
    sha256: str
    """Its checksum."""


class Manifest(Settings):
    """The content of `manifest.json`."""

    kind: Kind
    """What it is."""
    format: Literal[1] = 1
    """Of the artefact. A version of openlum that writes another one has another number."""
    key: dict[str, str] | None = None
    """What it was made of, as `step_key` tells it; null where a single step made it."""
    parts: dict[str, Part]
    """Path within the directory, with `/`, to the file."""

    @property
    def data(self) -> dict[str, str]:
        """Path to the checksum of every part that is no page."""
        return {name: part.sha256 for name, part in self.parts.items() if not is_page(name)}


@contextmanager
def whole_directory(path: str | Path, kind: Kind) -> Iterator[Path]:
    """Yield an empty directory beside `path`; on success it takes the place of `path`, on any error it vanishes.

    Nobody else can write `path` meanwhile. What a process left behind that was killed here is cleared away.

    Args:
        path: where nothing is yet, or an older artefact of the same kind.
        kind: what is written.

    Raises:
        InputError: there is something else at `path`, or another process writes it.
    """
    path = Path(path).resolve()
    with locked(path):
        draft = path.with_name(f".{path.name}.draft")
        recover(path)
        check_replaceable(path, kind)
        shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed: with the lock there is no other
        draft.mkdir()
        try:
            with named_failures(path):
                yield draft
                write_json(draft / MANIFEST, _manifest(draft, kind).model_dump())
                _put(draft, path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _put(draft: Path, path: Path) -> None:
    """Let a finished draft take the place of `path`; where the system can, there is no moment without it."""
    if not path.exists():
        os.replace(draft, path)
    elif not _exchange(draft, path):
        former = _former(path)
        os.replace(path, former)
        os.replace(draft, path)
        shutil.rmtree(former)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two directories at once; False where the system or the file system cannot (Linux can)."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of linux/fs.h
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def _former(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def recover(path: Path) -> None:
    """Put an artefact back that a process was about to replace when it was killed; else what it replaced is removed.

    Raises:
        InputError: another process is at it.
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
    """Make sure that every part of an artefact is there and as long as it was written. Every reader begins with this.

    Args:
        directory: of the artefact.
        kind: what it is to be.

    Returns:
        What it says of itself. None where it says nothing, such as a model that `save_pretrained` wrote or that is from a Hub.

    Raises:
        InputError: names the part that is missing, of another size, or that was added, and the command that makes it anew.
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


ADDED = "is no part of what was written there"


def differences(directory: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield every file that is missing, of another size, or that was added, and what is wrong with it."""
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
    """Path within the directory to the size of every file that is a part, in the order of their names."""
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
    """Whether a file of an artefact is for people to read, who may edit it."""
    return PurePosixPath(name).suffix in PAGES


def data_checksums(directory: Path) -> dict[str, str]:
    """Path to the checksum of every file, as it is now, that is no page."""
    names = [name for name in files_of(directory) if not is_page(name)]
    return dict(zip(names, checksums([directory / name for name in names]), strict=True))


def _manifest(directory: Path, kind: Kind) -> Manifest:
    sizes = files_of(directory)
    found = zip(sizes.items(), checksums([directory / name for name in sizes]), strict=True)
    return Manifest(kind=kind, parts={name: Part(bytes=size, sha256=checksum) for (name, size), checksum in found})


def read_manifest(directory: Path) -> Manifest | None:
    """What an artefact says of itself; None where it has no manifest.

    Raises:
        InputError: the manifest is damaged, or that of something else.
    """
    file = directory / MANIFEST
    if not file.is_file():
        return None
    try:
        return parse_settings(read_json(file, "lum"), Manifest, where=str(file))
    except InputError as error:
        raise InputError(
            f"{error}. If lum wrote {directory}, remove it and make it anew; otherwise name another directory"
        ) from None


def record_key(directory: Path, key: dict[str, str]) -> None:
    """Write into an artefact's manifest what it was made of."""
    manifest = read_manifest(directory)
    assert manifest is not None
    write_json(directory / MANIFEST, manifest.model_copy(update={"key": key}).model_dump())


@contextmanager
def named_failures(path: Path) -> Iterator[None]:
    """Let a failure to write something under `path` name it: most libraries say only that no space is left.

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
        if code is None or is_named:  # where there are two names, the first is that of the source of a copy
            raise
        raise OSError(code, os.strerror(code), str(path)) from error


def _disk_full(error: Exception) -> int | None:
    """The number of an error of `DISK_FULL`, which safetensors (Rust) and `shutil` have in their text alone."""
    told = re.findall(r"(?:os error|code:|Errno) (\d+)", str(error))
    numbers = [getattr(error, "errno", None), *map(int, told)]
    return next((number for number in numbers if number in DISK_FULL), None)


def check_replaceable(path: Path, kind: Kind) -> None:
    """Make sure that a directory can be written: nothing is there yet, or an older artefact of the same kind.

    Raises:
        InputError: there is something else, or the directory around it cannot be written to.
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
        raise InputError(f"{path}: is a {manifest.kind}, and would be replaced by a {kind}; name another directory")


def fingerprint(*parts: Any) -> str:
    """A short hash of JSON-like values, the same on every machine."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON, whole or not at all; its directory is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    with named_failures(path):
        draft.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(draft, path)


def read_json(path: Path, made_by: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Read the JSON file of an artefact, which holds a mapping.

    Args:
        path: the file.
        made_by: the command that writes it, for the message.
        keys: that it must have.

    Raises:
        InputError: the file is absent or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; '{made_by}' writes it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run '{made_by}' again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}, not a mapping of keys; run '{made_by}' again")
    for key in keys:
        if key not in content:
            raise InputError(f"{path}: key '{key}' is missing; run '{made_by}' again")
    return content
