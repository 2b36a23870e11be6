"""Checks of what a caller passes to a function: the message names the argument and what was expected."""

import datetime as dt
import numbers
import operator
import os
import reprlib
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from openlum.errors import InputError

T = TypeVar("T")
NO_NUMBERS = (bool, np.bool_, np.timedelta64)
"""Kinds that Python or NumPy count among the whole numbers."""
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80


def as_path(name: str, value: Any) -> Path:
    """A path from text or a path, with `~` expanded.

    Args:
        name: of the argument.
        value: what was passed.

    Raises:
        InputError: it is neither, or empty.
    """
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"{name}: expected a path, as text or pathlib.Path, found {shown(value)}")
    path = os.fspath(value)
    if not isinstance(path, str) or not path or "\0" in path:
        raise InputError(f"{name}: expected a path, found {shown(value)}")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{name}: {path}: there is no such home directory") from None


def as_path_or_none(name: str, value: Any) -> Path | None:
    """The same where the argument may be left out."""
    return None if value is None else as_path(name, value)


def check_kind(name: str, value: Any, kind: type[T]) -> T:
    """The value, which is of a kind, such as the settings of a step.

    Raises:
        InputError: it is of another.
    """
    if not isinstance(value, kind):
        raise InputError(f"{name}: expected {kind.__module__}.{kind.__qualname__}, found {shown(value)}")
    return value


def whole_number(name: str, value: Any, least: int) -> int:
    """A whole number, of Python's or NumPy's.

    Raises:
        InputError: it is none (`True` and `2.0` are none), or less than `least`.
    """
    try:
        number = None if isinstance(value, NO_NUMBERS) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise InputError(f"{name}: expected a whole number from {least} on, found {shown(value)}")
    return number


def is_missing(value: Any) -> bool:
    """Whether a raw value is absent: None, not-a-number, and what pandas has for them."""
    try:
        return value is None or bool(value != value)
    except Exception:  # pandas.NA has no truth; an array has several; Decimal('sNaN') compares with nothing
        return isinstance(value, Decimal) or type(value).__name__ == "NAType"


def check_single(where: str, value: Any) -> None:
    """Refuse what cannot be an id or a category: a list, say.

    Raises:
        InputError: begins with `where`.
    """
    if not isinstance(value, str | bytes | numbers.Number | np.generic | dt.date | uuid.UUID):
        raise InputError(f"{where} is {shown(value)}; expected a single value, text or a number")


def shown(value: Any) -> str:
    """A value and its type for a message, on one short line."""
    return f"{brief(value)} ({type(value).__name__})"


def brief(value: Any) -> str:
    """A value for a message, on one short line."""
    return " ".join(_repr.repr(value).split())
