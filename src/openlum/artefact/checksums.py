"""SHA-256 of files, several at a time, and not twice of a file that has not changed."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

_remembered: dict[str, tuple[list[int], str]] = {}
"""Path to the state of the file, and its checksum in that state."""
SETTLED_NS = 2_000_000_000
"""A file that changed less than this long ago may change again within one tick of its clock, and is not remembered."""


def checksums(files: Sequence[Path], fresh: bool = False) -> Iterator[str]:
    """Yield the SHA-256 of every file, in their order.

    Args:
        files: to be hashed by several threads.
        fresh: read every byte. Otherwise a file is not read again whose size and times of change are as they were.
    """
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        yield from pool.map(partial(_checksum, fresh=fresh), files)


def _checksum(file: Path, fresh: bool) -> str:
    path = str(file.resolve())
    if not fresh and path in _remembered and _remembered[path][0] == _state(file):
        return _remembered[path][1]
    before = _state(file)
    checksum = sha256_of(file)
    if before == _state(file) and time.time_ns() - before[-1] > SETTLED_NS:
        _remembered[path] = before, checksum
    return checksum


def sha256_of(file: str | Path) -> str:
    """The SHA-256 of a file, of which every byte is read."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _state(file: Path) -> list[int]:
    """Size, time of the last change of the content, and of any change, which no tool can set back."""
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def remember_checksums(file: Path) -> None:
    """Take over what `store_checksums` wrote; nothing where the file is absent or damaged, for then all is hashed again."""
    try:
        _remembered.update(
            {
                path: ([int(number) for number in state], str(checksum))
                for path, (state, checksum) in json.loads(file.read_text(encoding="utf-8")).items()
            }
        )
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return


def store_checksums(file: Path) -> None:
    """Write what is remembered of the files that are still there."""
    kept = {path: known for path, known in _remembered.items() if os.path.exists(path)}
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(json.dumps(kept), encoding="utf-8")
    os.replace(draft, file)
