"""Condition fields from the time of a question. Training and every query use the same function."""

import datetime as dt
from collections.abc import Sequence

import numpy as np

from openlum.field_spec import GAP_BUCKETS, SECONDS

FIRST_EVENT = 1
"""The id of `gap` if there is no earlier event."""


def time_fields(
    names: Sequence[str], time: np.ndarray, previous: np.ndarray, has_previous: np.ndarray, gap_unit: str
) -> dict[str, np.ndarray]:
    """Encode the time of events or questions.

    Args:
        names: any of `hour` (UTC, 1 to 24), `weekday` (Monday is 1) and `gap` (log2 bucket of the time since the last event).
        time: (n,) int64 seconds since 1970.
        previous: (n,) int64 time of the user's previous event; read only where `has_previous`.
        has_previous: (n,) bool.
        gap_unit: unit in which gaps are counted, in whole units: `s`, `h` or `d`.

    Returns:
        The ids of each field, (n,) int64. Id 0 is reserved for *any*.
    """
    fields: dict[str, np.ndarray] = {}
    if "hour" in names:
        fields["hour"] = (time // SECONDS["h"]) % 24 + 1
    if "weekday" in names:
        fields["weekday"] = (time // SECONDS["d"] + 3) % 7 + 1  # day 0 of 1970 was a Thursday
    if "gap" in names:
        unit = SECONDS[gap_unit]
        gap = np.maximum(time // unit - np.where(has_previous, previous, time) // unit, 0)
        bucket = np.minimum(np.log2(1.0 + gap).astype(np.int64), GAP_BUCKETS - 1)
        fields["gap"] = np.where(has_previous, bucket + FIRST_EVENT + 1, FIRST_EVENT)
    return {name: fields[name] for name in names}


def utc_seconds(time: dt.date | np.datetime64) -> float:
    """Return the seconds since 1970 of a date or time from Python, NumPy or pandas; NaN for NaT. Times without a zone are UTC."""
    if isinstance(time, np.datetime64):
        return float("nan") if np.isnat(time) else int(time.astype("datetime64[us]").astype(np.int64)) / 1e6
    if time != time:  # pandas.NaT
        return float("nan")
    if not isinstance(time, dt.datetime):
        time = dt.datetime.combine(time, dt.time())
    return (time if time.tzinfo else time.replace(tzinfo=dt.UTC)).timestamp()


def by_key_then_time(key: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Return one int64 for each pair that sorts by key, then by time.

    Args:
        key: (n,) integers from 0 to 2^30.
        seconds: (n,) int64, from 0 to 2^33 (272 years).
    """
    return (key.astype(np.int64) << 33) | seconds


def seconds_of(pairs: np.ndarray) -> np.ndarray:
    """Return the seconds, (n,) int64, of pairs from `by_key_then_time`."""
    return pairs & ((1 << 33) - 1)


def moment_starts(time: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return for each event the index of the first event of the same user in the same second.

    Events of one user in the same second are simultaneous: only the events before that second are known when they happen.

    Args:
        time: (N,) times of users' events end to end, each user's events in order.
        first: (N,) bool: whether the event is its user's first.

    Returns:
        (N,) int64.
    """
    begins = first | (time != np.roll(time, 1))
    return np.maximum.accumulate(np.where(begins, np.arange(len(time)), 0))
