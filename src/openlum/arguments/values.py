"""Checks of the arguments of functions. An error names the argument, the expected value and the value that was passed."""

import datetime as dt
import difflib
import numbers
import operator
import os
import reprlib
import uuid
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from openlum.errors import InputError

T = TypeVar("T")
NO_NUMBERS = (bool, np.bool_, np.timedelta64)
"""Types that Python or NumPy treat as integers but that are not numbers."""
MAX_COMPARED = 100_000
"""A wrong value is compared with at most this many choices."""
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80


def as_path(name: str, value: Any) -> Path:
    """Return a path from text or a path, with `~` expanded.

    Args:
        name: name of the argument.
        value: the value that the caller passed.

    Raises:
        InputError: the value is not text or a path, or it is empty.
    """
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"{name}: expected a path, as text or pathlib.Path, found {shown(value)}")
    path = os.fspath(value)
    if not isinstance(path, str) or not path or "\0" in path:
        raise InputError(f"{name}: expected a path, found {shown(value)}")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{name}: {path}: no such home directory") from None


def as_path_or_none(name: str, value: Any) -> Path | None:
    """Return None for None; else the same as `as_path`."""
    return None if value is None else as_path(name, value)


def check_kind(name: str, value: Any, kind: type[T]) -> T:
    """Return the value if it is an instance of `kind`, for example the settings of a step.

    Raises:
        InputError: the value has another type.
    """
    if not isinstance(value, kind):
        raise InputError(f"{name}: expected {kind.__module__}.{kind.__qualname__}, found {shown(value)}")
    return value


def whole_number(name: str, value: Any, minimum: int) -> int:
    """Return a whole number from an integer of Python or NumPy.

    Raises:
        InputError: the value is not an integer (`True` and `2.0` are not), or it is less than `minimum`.
    """
    try:
        number = None if isinstance(value, NO_NUMBERS) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < minimum:
        raise InputError(f"{name}: expected a whole number of at least {minimum}, found {shown(value)}")
    return number


def is_missing(value: Any) -> bool:
    """Return whether a raw value is missing: None, not-a-number, and the missing values of pandas."""
    try:
        return value is None or bool(value != value)
    except Exception:  # pandas.NA and arrays have no truth value; Decimal('sNaN') cannot be compared
        return isinstance(value, Decimal) or type(value).__name__ == "NAType"


def check_single(where: str, value: Any) -> None:
    """Check that a value can be an id or a category; a list, for example, cannot.

    Raises:
        InputError: the value is a list, a mapping or another container. The message begins with `where`.
    """
    if not isinstance(value, str | bytes | numbers.Number | np.generic | dt.date | uuid.UUID):
        raise InputError(f"{where} is {shown(value)}; expected a single value, text or a number")


def nearest(value: Any, choices: Sequence[str]) -> str:
    """Return the choices that resemble a value most, or the first ones, for a message: `did you mean ...?` or `there are ...`."""
    similar = difflib.get_close_matches(str(value), choices[:MAX_COMPARED], n=3)
    more = " ..." if len(choices) > 8 else ""
    return f"did you mean {' or '.join(similar)}?" if similar else f"there are {', '.join(choices[:8])}{more}"


def shown(value: Any) -> str:
    """Return a value and its type for a message, on one short line."""
    return f"{brief(value)} ({type(value).__name__})"


def brief(value: Any) -> str:
    """Return a value for a message, on one short line."""
    return " ".join(_repr.repr(value).split())
