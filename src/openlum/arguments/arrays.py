"""Checked conversion of a caller's arrays, from any library and number format, to NumPy arrays.

An error names the array and the index of the wrong value. Shapes: n rows, X columns.
"""

import numbers
from typing import Any

import numpy as np

from openlum.arguments.values import is_missing, shown
from openlum.errors import InputError

LARGEST = 1e37
"""A larger finite number overflows if it is squared in single precision."""


def labels(values: Any, name: str = "label") -> np.ndarray:
    """Return labels, (n,) float, each 0 or 1; n is at least one.

    Raises:
        InputError: a label is missing or has another value, or there are no rows.
    """
    array = _column(name, values)
    if not len(array):
        raise InputError(f"{name}: there are no rows")
    return _check_all(name, array, (array == 0) | (array == 1), "expected 0 or 1")


def scores(name: str, values: Any, rows: int) -> np.ndarray:
    """Return numbers that are compared with each other, (n,) float. Infinite numbers are allowed.

    Raises:
        InputError: a value is not a number, or n is not `rows`.
    """
    array = _column(name, values, rows)
    return _check_all(name, array, ~np.isnan(array), "expected a number")


def finite_numbers(name: str, values: Any, rows: int | None = None) -> np.ndarray:
    """Return finite numbers, (n,) float.

    Raises:
        InputError: a value is not finite, or n is not `rows`.
    """
    array = _column(name, values, rows)
    return _check_all(name, array, np.abs(array) <= LARGEST, "expected a finite number")


def probabilities(name: str, values: Any, rows: int | None = None) -> np.ndarray:
    """Return probabilities, (n,) float.

    Raises:
        InputError: a value does not lie between 0 and 1, or n is not `rows`.
    """
    array = _column(name, values, rows)
    return _check_all(name, array, (array >= 0) & (array <= 1), "expected 0 to 1")


def table(name: str, values: Any, columns: int | None = None) -> np.ndarray:
    """Return a table of finite numbers, (n, X) float.

    Raises:
        InputError: a value is not finite, or X is not `columns`.
    """
    array = _numbers(name, values)
    if array.ndim != 2 or (columns is not None and array.shape[1] != columns):
        raise InputError(f"{name}: expected (rows, {columns or 'columns'}), found {array.shape}")
    wrong = np.argwhere(~(np.abs(array) <= LARGEST))
    if len(wrong):
        row, column = wrong[0]
        raise InputError(
            f"column {column} of the {name} is {array[row, column]} at index {row}; expected a finite number"
        )
    return array


def groups(name: str, values: Any, rows: int | None = None) -> np.ndarray:
    """Return the number of each row's group, (n,) int64 from 0, from ids of any type.

    Raises:
        InputError: an id is missing, or n is not `rows`.
    """
    array = _array(name, values)
    _check_rows(name, array, rows)
    missing = [is_missing(value) for value in array] if array.dtype.kind == "O" else array != array
    if np.any(missing):
        index = int(np.flatnonzero(missing)[0])
        raise InputError(f"the {name} at index {index} is {array[index]}; expected an id")
    try:
        return np.unique(array, return_inverse=True)[1].astype(np.int64)
    except TypeError:  # ids of types that cannot be sorted together
        number: dict[Any, int] = {}
    try:
        return np.array([number.setdefault(value, len(number)) for value in array], np.int64)
    except TypeError:
        raise InputError(f"{name}: expected one id for each row, text or a number") from None


def _check_all(name: str, array: np.ndarray, valid: np.ndarray, expected: str) -> np.ndarray:
    """Return the array if all values are valid. Otherwise raise an error that names the index of the first invalid value."""
    wrong = np.flatnonzero(~valid)
    if len(wrong):
        raise InputError(f"the {name} at index {wrong[0]} is {array[wrong[0]]}; {expected}")
    return array


def _column(name: str, values: Any, rows: int | None = None) -> np.ndarray:
    array = _numbers(name, values)
    _check_rows(name, array, rows)
    return array


def _check_rows(name: str, array: np.ndarray, rows: int | None) -> None:
    if array.ndim != 1 or (rows is not None and len(array) != rows):
        expected = "(rows,)" if rows is None else f"({rows},), one value for each row"
        raise InputError(f"{name}: expected {expected}, found {array.shape}")


def _numbers(name: str, values: Any) -> np.ndarray:
    """Return numbers of any format as float64, or float32 unchanged."""
    if str(getattr(values, "dtype", "")) == "torch.bfloat16":  # NumPy has no bfloat16
        values = values.float()
    array = _array(name, values)
    if array.dtype == object:
        return _objects_to_numbers(name, array)
    try:
        if array.dtype.kind in "USScmM":
            raise TypeError
        return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name}: expected numbers, found {array.dtype}") from None


def _array(name: str, values: Any) -> np.ndarray:
    """Return the array of any library as a NumPy array with values of any type."""
    try:
        if hasattr(values, "detach"):  # PyTorch
            return values.detach().cpu().numpy()
        if isinstance(values, np.ma.MaskedArray):
            return np.ma.filled(values.astype(object), None)
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # for example rows of different lengths
        raise InputError(f"{name}: expected an array, found {shown(values)} ({error})") from None


def _objects_to_numbers(name: str, array: np.ndarray) -> np.ndarray:
    """Return an array of Python objects as float64. pandas has such arrays in columns of mixed types."""
    out = np.empty(array.shape)
    for index, value in np.ndenumerate(array):
        is_number = isinstance(value, numbers.Number | np.bool_) and not isinstance(value, complex | np.timedelta64)
        try:
            if not is_number or is_missing(value):
                raise TypeError
            out[index] = float(value)
        except (TypeError, OverflowError):
            where = f" at index {', '.join(map(str, index))}" if index else ""
            raise InputError(f"the {name}{where} is {shown(value)}; expected a number") from None
    return out
