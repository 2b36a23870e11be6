"""The one text of a value. Ids, categories and elements of lists are compared by it, wherever they come from.

`values.text` is the same rule for the columns of a table.
"""

import math
import re
import reprlib
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

from openlum.errors import InputError

WHOLE = "-?(?:0|[1-9][0-9]*)[.]0+"
"""Text of a whole number that is printed as a float: `7.0`."""
EXPONENT = (
    "-?[0-9](?:[.][0-9]{1,18})?e[+-](?:[0-2]?[0-9]{2}|30[0-7])"
    "|-?[1-9][.][0-9]{1,16}E-?(?:[1-9][0-9]?|[12][0-9]{2}|30[0-7])"
)
"""Text of a float as Python and C (`1e+16`), or Java (`1.0E16`), print it; `1e5`, which may be a code, is none."""
TRUTHS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}
"""How others write true and false."""
LIST_MARK = "|"
"""Stands between the values of a list that is written as text."""
LARGEST_WHOLE = 1e37
"""Whole floats from here on are not written with all their digits."""
MOST_DIGITS = 4000
"""Numbers of more are refused, as Python does."""
DIGITS = {"float64": (14, 15, 16), "float32": (5, 6, 7, 8)}
"""Digits after the first one that are tried, in turn, until they read as the same float; the last always do."""
NUDGE = 1 + 2.0**-40
"""A float32 may lie in the middle between two decimals: times this, every engine rounds it up."""

_printed_whole, _printed_float = re.compile(WHOLE), re.compile(EXPONENT)


def canonical(value: Any) -> str | None:
    """The one text of a raw value; None where it is missing: None, NaN, an infinite float, empty text.

    Args:
        value: text, a number, true or false, a date, a time, a UUID or bytes; of Python, NumPy or pandas.

    Raises:
        InputError: the value is none of these.

    Example:
        >>> [canonical(value) for value in (7, 7.0, "7.0", Decimal("7.50"), "007", True, "TRUE", float("nan"))]
        ['7', '7', '7', '7.5', '007', 'true', 'true', None]
    """
    if isinstance(value, str):
        return _of_text(str.__str__(value))
    if value is None or value is np.ma.masked or type(value).__name__ == "NAType":  # of pandas, which need not be there
        return None
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, datetime | np.datetime64) and value != value:  # NaT
        return None
    for kinds, text in _TEXTS:
        if isinstance(value, kinds) and not isinstance(value, np.timedelta64):  # to NumPy an integer
            try:
                return text(value)
            except (ValueError, OverflowError):  # thousands of digits; a time zone that leads out of the calendar
                break
    if hasattr(value, "as_py"):  # of Arrow
        return canonical(value.as_py())
    if getattr(value, "ndim", None) == 0 and not isinstance(value, np.generic):  # an array or a tensor
        return canonical(value[()] if isinstance(value, np.ndarray) else value.item())
    raise InputError(f"{_shown(value)} is no single value; expected text, a number, true or false, a date or a time")


def _shown(value: Any) -> str:
    try:
        return " ".join(reprlib.repr(value).split())
    except ValueError:  # an integer of thousands of digits
        return f"such a large {type(value).__name__}"


def _of_text(text: str) -> str | None:
    if _printed_whole.fullmatch(text):
        whole = text[: text.index(".")]
        return "0" if whole == "-0" else whole
    if _printed_float.fullmatch(text):
        return _of_float(float(text))
    return TRUTHS.get(text, text) or None


def _of_float(value: Any) -> str | None:
    if not math.isfinite(value):
        return None
    number = float(value)
    if number.is_integer() and abs(number) < LARGEST_WHOLE:
        return str(int(number))
    if isinstance(value, np.float32 | np.float16):  # every engine reads half precision as single
        with np.errstate(over="ignore"):
            tried = [f"{number * NUDGE:.{digits}e}" for digits in DIGITS["float32"]]
            return _of_decimal(Decimal(next((t for t in tried if np.float32(float(t)) == number), tried[-1])))
    tried = [f"{number:.{digits}e}" for digits in DIGITS["float64"]]
    return _of_decimal(Decimal(next((text for text in tried if float(text) == number), tried[-1])))


def _of_decimal(value: Decimal) -> str | None:
    if not value.is_finite():
        return None
    if abs(value.adjusted()) > MOST_DIGITS:
        raise OverflowError
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _of_moment(value: datetime) -> str:
    value = value.astimezone(UTC) if value.tzinfo else value
    return value.replace(tzinfo=None).isoformat(" ", "microseconds").rstrip("0").rstrip(".")


def _of_bytes(value: bytes) -> str | None:
    try:
        return _of_text(bytes(value).decode())
    except UnicodeDecodeError:
        return bytes(value).hex()


def _of_datetime64(value: np.datetime64) -> str | None:
    days = np.datetime_data(value)[0] in ("Y", "M", "W", "D")
    return canonical(value.astype("datetime64[D]" if days else "datetime64[us]").item())


_TEXTS: list[tuple[Any, Callable[[Any], str | None]]] = [
    (int | np.integer, lambda value: str(int(value))),
    (float | np.floating, _of_float),
    (Decimal, _of_decimal),
    (datetime, _of_moment),
    (date, date.isoformat),
    (np.datetime64, _of_datetime64),
    (UUID, str),
    (bytes | bytearray, _of_bytes),
]
"""Kinds of value and what makes text of them; a datetime is a date too, so it comes first."""
