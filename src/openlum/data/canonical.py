"""The canonical text of a value. Ids, categories and elements of lists are compared by this text, whatever their source.

`prepare/canonical_expression.py` has the same rule for the columns of tables.
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
"""Text of a whole number printed as a float: `7.0`."""
EXPONENT = (
    "-?[0-9](?:[.][0-9]{1,18})?e[+-](?:[0-2]?[0-9]{2}|30[0-7])"
    "|-?[1-9][.][0-9]{1,16}E-?(?:[1-9][0-9]?|[12][0-9]{2}|30[0-7])"
)
"""Text of a float as printed by Python and C (`1e+16`) or by Java (`1.0E16`). `1e5` does not match, because it may be a code."""
TRUTHS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}
"""True and false as other programs write them."""
LIST_MARK = "|"
"""Separator of the values of a list that is written as text."""
LARGEST_WHOLE = 1e37
"""Whole floats of this size or more are not written with all their digits."""
MAX_DIGITS = 4000
"""Numbers with more digits are refused, as Python refuses them."""
DIGITS = {"float64": (14, 15, 16), "float32": (5, 6, 7, 8)}
"""Digits after the first digit, tried in turn until the text parses to the same float; the last number always suffices."""
NUDGE = 1 + 2.0**-40
"""A float32 may lie exactly between two decimals. Multiplying it by this factor makes every engine round up."""

_printed_whole, _printed_float = re.compile(WHOLE), re.compile(EXPONENT)


def canonical_text(value: Any) -> str | None:
    """Return the canonical text of a raw value; None if it is missing: None, NaN, an infinite float, empty text.

    Args:
        value: text, a number, true or false, a date, a time, a UUID or bytes; from Python, NumPy or pandas.

    Raises:
        InputError: the value has another type.

    Example:
        >>> [canonical_text(value) for value in (7, 7.0, "7.0", Decimal("7.50"), "007", True, "TRUE", float("nan"))]
        ['7', '7', '7', '7.5', '007', 'true', 'true', None]
    """
    if isinstance(value, str):
        return _from_text(str.__str__(value))
    if (
        value is None or value is np.ma.masked or type(value).__name__ == "NAType"
    ):  # of pandas, which may not be installed
        return None
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, datetime | np.datetime64) and value != value:  # NaT
        return None
    for kinds, text in _CONVERSIONS:
        if isinstance(value, kinds) and not isinstance(value, np.timedelta64):  # NumPy considers it an integer
            try:
                return text(value)
            except (
                ValueError,
                OverflowError,
            ):  # thousands of digits, or a date beyond the calendar after the time zone
                break
    if hasattr(value, "as_py"):  # an Arrow scalar
        return canonical_text(value.as_py())
    if getattr(value, "ndim", None) == 0 and not isinstance(value, np.generic):  # an array or a tensor
        return canonical_text(value[()] if isinstance(value, np.ndarray) else value.item())
    raise InputError(
        f"{_short_repr(value)} is not a single value; expected text, a number, true or false, a date or a time"
    )


def _short_repr(value: Any) -> str:
    try:
        return " ".join(reprlib.repr(value).split())
    except ValueError:  # an integer of thousands of digits
        return f"a very large {type(value).__name__}"


def _from_text(text: str) -> str | None:
    if _printed_whole.fullmatch(text):
        whole = text[: text.index(".")]
        return "0" if whole == "-0" else whole
    if _printed_float.fullmatch(text):
        return _from_float(float(text))
    return TRUTHS.get(text, text) or None


def _from_float(value: Any) -> str | None:
    if not math.isfinite(value):
        return None
    number = float(value)
    if number.is_integer() and abs(number) < LARGEST_WHOLE:
        return str(int(number))
    if isinstance(value, np.float32 | np.float16):  # engines read half precision as single precision
        with np.errstate(over="ignore"):
            prints = [f"{number * NUDGE:.{digits}e}" for digits in DIGITS["float32"]]
            return _from_decimal(Decimal(next((t for t in prints if np.float32(float(t)) == number), prints[-1])))
    prints = [f"{number:.{digits}e}" for digits in DIGITS["float64"]]
    return _from_decimal(Decimal(next((text for text in prints if float(text) == number), prints[-1])))


def _from_decimal(value: Decimal) -> str | None:
    if not value.is_finite():
        return None
    if abs(value.adjusted()) > MAX_DIGITS:
        raise OverflowError
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _from_datetime(value: datetime) -> str:
    value = value.astimezone(UTC) if value.tzinfo else value
    return value.replace(tzinfo=None).isoformat(" ", "microseconds").rstrip("0").rstrip(".")


def _from_bytes(value: bytes) -> str | None:
    try:
        return _from_text(bytes(value).decode())
    except UnicodeDecodeError:
        return bytes(value).hex()


def _from_datetime64(value: np.datetime64) -> str | None:
    days = np.datetime_data(value)[0] in ("Y", "M", "W", "D")
    return canonical_text(value.astype("datetime64[D]" if days else "datetime64[us]").item())


_CONVERSIONS: list[tuple[Any, Callable[[Any], str | None]]] = [
    (int | np.integer, lambda value: str(int(value))),
    (float | np.floating, _from_float),
    (Decimal, _from_decimal),
    (datetime, _from_datetime),
    (date, date.isoformat),
    (np.datetime64, _from_datetime64),
    (UUID, str),
    (bytes | bytearray, _from_bytes),
]
"""Types of values and the functions that return their text. A datetime is also a date, so datetime comes first."""
