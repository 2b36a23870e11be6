"""JSON files of artefacts, which are written atomically, and hashes of JSON values."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openlum.errors import InputError

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Error numbers that only writing raises. Other errors without a file name may come from reading another file."""


def fingerprint(*parts: Any) -> str:
    """Return a short hash of JSON-like values, the same on every machine."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON atomically. Missing directories are created."""
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


@contextmanager
def named_failures(path: Path) -> Iterator[None]:
    """Add `path` to a write error without a file name. Most libraries report only 'no space left'.

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
