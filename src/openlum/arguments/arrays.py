"""Arrays that a caller passes, of any library and number format, as NumPy's; what they cannot be is named with its index.

Shapes: n rows, X columns.
"""

import numbers
from typing import Any

import numpy as np

from openlum.arguments.values import is_missing, shown
from openlum.errors import InputError

LARGEST = 1e37
"""Finite numbers beyond this overflow where they are squared in single precision."""


def labels(values: Any, name: str = "label") -> np.ndarray:
    """Labels, (n,) float64, 0 or 1; at least one.

    Raises:
        InputError: one is neither, or missing; or there is none.
    """
    array = _column(name, values)
    if not len(array):
        raise InputError(f"{name}: there are no rows")
    return _where(name, array, (array == 0) | (array == 1), "expected 0 or 1")


def scores(name: str, values: Any, rows: int) -> np.ndarray:
    """Numbers that are compared with each other, (n,) float; infinite ones have an order too.

    Raises:
        InputError: one is not-a-number, or there are not `rows`.
    """
    array = _column(name, values, rows)
    return _where(name, array, ~np.isnan(array), "expected a number")


def figures(name: str, values: Any, rows: int | None = None) -> np.ndarray:
    """Numbers that are averaged, (n,) float.

    Raises:
        InputError: one is not finite, or there are not `rows`.
    """
    array = _column(name, values, rows)
    return _where(name, array, np.abs(array) <= LARGEST, "expected a finite number")


def probabilities(name: str, values: Any, rows: int | None = None) -> np.ndarray:
    """Probabilities, (n,) float.

    Raises:
        InputError: one is not from 0 to 1, or there are not `rows`.
    """
    array = _column(name, values, rows)
    return _where(name, array, (array >= 0) & (array <= 1), "expected 0 to 1")


def table(name: str, values: Any, columns: int | None = None) -> np.ndarray:
    """Finite numbers, (n, X) float.

    Raises:
        InputError: one is not, or there are not `columns`.
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
    """Which group each row is in, (n,) int64 from 0, from ids of any kind.

    Raises:
        InputError: an id is missing, or there are not `rows`.
    """
    array = _array(name, values)
    _check_rows(name, array, rows)
    missing = [is_missing(one) for one in array] if array.dtype.kind == "O" else array != array
    if np.any(missing):
        place = int(np.flatnonzero(missing)[0])
        raise InputError(f"the {name} at index {place} is {array[place]}; expected an id")
    try:
        return np.unique(array, return_inverse=True)[1].astype(np.int64)
    except TypeError:  # ids that have no order among each other
        number: dict[Any, int] = {}
    try:
        return np.array([number.setdefault(one, len(number)) for one in array], np.int64)
    except TypeError:
        raise InputError(f"{name}: expected ids, text or numbers, one a row") from None


def _where(name: str, array: np.ndarray, right: np.ndarray, expected: str) -> np.ndarray:
    """The array, all of whose rows are right."""
    wrong = np.flatnonzero(~right)
    if len(wrong):
        raise InputError(f"the {name} at index {wrong[0]} is {array[wrong[0]]}; {expected}")
    return array


def _column(name: str, values: Any, rows: int | None = None) -> np.ndarray:
    array = _numbers(name, values)
    _check_rows(name, array, rows)
    return array


def _check_rows(name: str, array: np.ndarray, rows: int | None) -> None:
    if array.ndim != 1 or (rows is not None and len(array) != rows):
        expected = "(rows,)" if rows is None else f"({rows},), one a row"
        raise InputError(f"{name}: expected {expected}, found {array.shape}")


def _numbers(name: str, values: Any) -> np.ndarray:
    """Numbers of any format as float64; float32 stays as it is."""
    if str(getattr(values, "dtype", "")) == "torch.bfloat16":  # of which NumPy has none
        values = values.float()
    array = _array(name, values)
    if array.dtype == object:
        return _of_objects(name, array)
    try:
        if array.dtype.kind in "USScmM":
            raise TypeError
        return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name}: expected numbers, found {array.dtype}") from None


def _array(name: str, values: Any) -> np.ndarray:
    """What a library has as an array, of whatever it holds."""
    try:
        if hasattr(values, "detach"):  # PyTorch
            return values.detach().cpu().numpy()
        if isinstance(values, np.ma.MaskedArray):
            return np.ma.filled(values.astype(object), None)
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of different lengths, say
        raise InputError(f"{name}: expected an array, found {shown(values)} ({error})") from None


def _of_objects(name: str, array: np.ndarray) -> np.ndarray:
    """Numbers one by one, as pandas has them in columns of mixed types."""
    out = np.empty(array.shape)
    for place, value in np.ndenumerate(array):
        single = isinstance(value, numbers.Number | np.bool_) and not isinstance(value, complex | np.timedelta64)
        try:
            if not single or is_missing(value):
                raise TypeError
            out[place] = float(value)
        except (TypeError, OverflowError):
            where = f" at index {', '.join(map(str, place))}" if place else ""
            raise InputError(f"the {name}{where} is {shown(value)}; expected a number") from None
    return out
