"""One writer at a time: a lock file beside what is written.

`.NAME.lock` lies beside NAME while a process writes it, and says which. The operating system's lock on that file decides
(`flock`): it ends with its process, however that ends, so a file that a killed process left behind locks nothing, and a number
that another process has got since means nothing. What the file says is for messages, and for two cases in which that lock
cannot be trusted:

- the file names another host: on a network file system (NFS without `lockd`, Lustre mounted with `localflock`) locks of different
  hosts may not see each other, so the file stands until somebody removes it;
- the file system has no such locks: then the process of that number is looked for.
"""

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from openlum.errors import InputError

_held: set[tuple[str, int, int]] = set()
"""Path, process and thread of every lock that is held: who holds a lock may take it again. A forked process does not."""
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""What `flock` says where the file system has no locks."""


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Let no other process, and no other thread, write `path` meanwhile.

    Args:
        path: a file or a directory, which need not exist; the directory it lies in is made where there is none.

    Raises:
        InputError: somebody else is writing it, on this host or on another; or nothing can be written there.
    """
    path = Path(path).resolve()
    holder = str(path), os.getpid(), threading.get_ident()
    if holder in _held:
        yield
        return
    if not path.name:
        raise InputError(f"{path}: is the top of the file system; name another place")
    check_writable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.lock")
    descriptor = _take(file, path)
    _held.add(holder)
    try:
        yield
    finally:
        _held.remove(holder)
        file.unlink(missing_ok=True)  # before the lock ends: whoever opened it sees that it is gone
        os.close(descriptor)


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


def _take(file: Path, path: Path) -> int:
    """Open the lock file, lock it and write who holds it; returns the descriptor, with which the lock ends."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            whose = _take_descriptor(descriptor)
            if whose is None and _is_at(descriptor, file):
                content = {"host": socket.gethostname(), "pid": os.getpid(), "time": datetime.now(UTC).isoformat()}
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(content).encode(), 0)
                return descriptor
        except OSError as error:  # a full disk, say
            os.close(descriptor)
            raise OSError(error.errno, error.strerror, str(file)) from error
        os.close(descriptor)
        if whose is not None:
            raise InputError(_refusal(path, file, whose))


def _take_descriptor(descriptor: int) -> dict[str, Any] | None:
    """Lock an open file; returns what it says of its holder where it is somebody else's, and None where it is ours now."""
    import fcntl  # here, for on Windows, which has none, artefacts can be read

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = True
    except BlockingIOError:
        return _said(descriptor)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        alone = False
    said = _said(descriptor)
    if not said:
        return None
    elsewhere = said.get("host") != socket.gethostname()
    return said if elsewhere or (not alone and _runs(said.get("pid"))) else None


def _said(descriptor: int) -> dict[str, Any]:
    """Who holds a lock file, as it says; nothing where it is empty or damaged, as where its process was killed at once."""
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _is_at(descriptor: int, file: Path) -> bool:
    """Whether the file is still the one that was opened: whoever held it may have removed it since."""
    try:
        there = os.stat(file)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _runs(pid: Any) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _refusal(path: Path, file: Path, said: dict[str, Any]) -> str:
    process, since = said.get("pid", "?"), said.get("time", "?")
    if said.get("host", socket.gethostname()) == socket.gethostname():
        return f"{path}: process {process} is writing it, since {since}; try again when it has ended"
    return (
        f"{path}: process {process} of host {said['host']} is writing it, since {since}; try again when it has ended. "
        f"If it has ended already, remove {file}"
    )
