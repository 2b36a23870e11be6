"""SHA-256 checksums of files. Several threads compute them, and unchanged files are not read again."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from openlum.capacity import available_cores

_cache: dict[str, tuple[list[int], str]] = {}
"""Path of a file to (state, checksum). The checksum is valid while the file has this state."""
SETTLED_NS = 2_000_000_000
"""A file that changed less than this many nanoseconds ago may change again within one tick of its clock. It is not cached."""


def checksums(files: Sequence[Path], fresh: bool = False) -> Iterator[str]:
    """Yield the SHA-256 of every file, in the order of `files`. Several threads compute them.

    Args:
        files: the files to hash.
        fresh: read every byte. Otherwise a file whose size and times of change are the same as before is not read again.
    """
    with ThreadPoolExecutor(min(available_cores(), 8)) as pool:
        yield from pool.map(partial(_checksum, fresh=fresh), files)


def _checksum(file: Path, fresh: bool) -> str:
    path = str(file.resolve())
    if not fresh and path in _cache and _cache[path][0] == _state(file):
        return _cache[path][1]
    before = _state(file)
    checksum = sha256_of(file)
    if before == _state(file) and time.time_ns() - before[-1] > SETTLED_NS:
        _cache[path] = before, checksum
    return checksum


def sha256_of(file: str | Path) -> str:
    """Return the SHA-256 of a file. Every byte is read."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _state(file: Path) -> list[int]:
    """Return size, modification time (mtime) and change time (ctime). No tool can set ctime back."""
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def load_checksums(file: Path) -> None:
    """Load the checksums that `save_checksums` wrote. If the file is missing or damaged, all files are hashed again."""
    try:
        _cache.update(
            {
                path: ([int(number) for number in state], str(checksum))
                for path, (state, checksum) in json.loads(file.read_text(encoding="utf-8")).items()
            }
        )
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return


def save_checksums(file: Path) -> None:
    """Write the cached checksums of the files that still exist."""
    content = {path: entry for path, entry in _cache.items() if os.path.exists(path)}
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(json.dumps(content), encoding="utf-8")
    os.replace(draft, file)
