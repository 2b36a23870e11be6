"""Locks: only one process at a time writes a path. A lock file lies beside the path.

While a process writes NAME, `.NAME.lock` lies beside it and holds the process's host and number. The operating system's lock on
that file (`flock`) decides. This lock ends when its process ends for any reason. A lock file that a killed process left behind is
therefore free, even if another process now has the same process number. The content of the file is for messages, and for two
cases in which the operating system's lock is not reliable:

- The file names another host. On a network file system (NFS without `lockd`, Lustre mounted with `localflock`) one host may not
  see the locks of another, so the path stays locked until somebody removes the file.
- The file system does not support `flock`. Then the path is locked while a process with that number runs.
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
"""Path, process and thread of every lock that is held. The holding thread may enter `locked` again; a forked process may not."""
UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""Error numbers of `flock` on file systems that do not support it."""


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold the lock of `path`: no other process and no other thread can lock it meanwhile.

    Args:
        path: a file or a directory. It need not exist; missing parent directories are created.

    Raises:
        InputError: another process on this host or on another one is writing `path`, or `path` is not writable.
    """
    path = Path(path).resolve()
    holder = str(path), os.getpid(), threading.get_ident()
    if holder in _held:
        yield
        return
    if not path.name:
        raise InputError(f"{path}: is the root of the file system; name another path")
    check_writable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.lock")
    descriptor = _acquire(file, path)
    _held.add(holder)
    try:
        yield
    finally:
        _held.remove(holder)
        # Removed while still locked, so that a process that has opened the file notices that it is gone.
        file.unlink(missing_ok=True)
        os.close(descriptor)


def check_writable(path: Path) -> None:
    """Check that a file or a directory can be created at `path`. Missing parent directories can be created too.

    Raises:
        InputError: the nearest parent that exists is a file, or is not writable.
    """
    parent = next(parent for parent in path.resolve().parents if parent.exists())
    if not parent.is_dir():
        raise InputError(f"{path}: {parent} is a file; name another path")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{path}: no permission to write to {parent}; name another path")


def _acquire(file: Path, path: Path) -> int:
    """Open and lock the lock file, and write its holder into it. Return the descriptor: closing it ends the lock."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            holder = _other_holder(descriptor)
            if holder is None and _is_at(descriptor, file):
                content = {"host": socket.gethostname(), "pid": os.getpid(), "time": datetime.now(UTC).isoformat()}
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(content).encode(), 0)
                return descriptor
        except OSError as error:  # for example a full disk
            os.close(descriptor)
            raise OSError(error.errno, error.strerror, str(file)) from error
        os.close(descriptor)
        if holder is not None:
            raise InputError(_locked_message(path, file, holder))


def _other_holder(descriptor: int) -> dict[str, Any] | None:
    """Lock an open lock file. Return its holder if another process holds it, and None if this process holds it now."""
    import fcntl  # imported here because Windows has no fcntl: there artefacts can only be read

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        has_lock = True
    except BlockingIOError:
        return _holder(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        has_lock = False
    holder = _holder(descriptor)
    if not holder:
        return None
    is_other_host = holder.get("host") != socket.gethostname()
    return holder if is_other_host or (not has_lock and _is_running(holder.get("pid"))) else None


def _holder(descriptor: int) -> dict[str, Any]:
    """Return the holder that a lock file names; empty if the file is empty or damaged because its process was killed early."""
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _is_at(descriptor: int, file: Path) -> bool:
    """Return whether `file` is still the file that was opened: its former holder may have removed it since."""
    try:
        status = os.stat(file)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), status)


def _is_running(pid: Any) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _locked_message(path: Path, file: Path, holder: dict[str, Any]) -> str:
    process, since = holder.get("pid", "?"), holder.get("time", "?")
    if holder.get("host", socket.gethostname()) == socket.gethostname():
        return f"{path}: process {process} has been writing it since {since}; try again when it has ended"
    return (
        f"{path}: process {process} on host {holder['host']} has been writing it since {since}; try again when it has ended. "
        f"If it has ended already, remove {file}"
    )
