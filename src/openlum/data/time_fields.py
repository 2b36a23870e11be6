"""Time known at the moment of a question, as condition fields: one function for training and for every way of asking."""

import datetime as dt
from collections.abc import Sequence

import numpy as np

from openlum.schema import GAP_BUCKETS, SECONDS

FIRST_EVENT = 1
"""The id of `gap` where there is no event before."""


def time_fields(
    names: Sequence[str], time: np.ndarray, previous: np.ndarray, has_previous: np.ndarray, gap_unit: str
) -> dict[str, np.ndarray]:
    """Encode the time of events or questions.

    Args:
        names: of `hour` (UTC, 1 to 24), `weekday` (Monday is 1) and `gap` (log2 bucket of the time since the last event).
        time: (n,) int64 seconds since 1970.
        previous: (n,) int64 time of the user's last event before; read only where `has_previous`.
        has_previous: (n,) bool.
        gap_unit: unit in which gaps are counted, whole units only: `s`, `h` or `d`.

    Returns:
        name to ids, (n,) int64. 0 is left for *any*.
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


def utc_seconds(moment: dt.date | np.datetime64) -> float:
    """Seconds since 1970 of a date or time of Python, NumPy or pandas, which is UTC where it names no other zone; not-a-number of
    NaT."""
    if isinstance(moment, np.datetime64):
        return float("nan") if np.isnat(moment) else int(moment.astype("datetime64[us]").astype(np.int64)) / 1e6
    if moment != moment:  # pandas.NaT
        return float("nan")
    if not isinstance(moment, dt.datetime):
        moment = dt.datetime.combine(moment, dt.time())
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def by_key_then_time(key: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """One int64 that orders by a key, then by time.

    Args:
        key: (n,) int64, from 0 to 2^30.
        seconds: (n,) int64, from 0 to 2^33 (272 years).
    """
    return (key << 33) | seconds


def moment_begins(time: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Index of the first event of each event's moment: events of one user in the same second are one moment, and what is known
    at it are the events before.

    Args:
        time: (N,) of users' events end to end, each user's in order.
        first: (N,) bool: a user's first event.

    Returns:
        (N,) int64.
    """
    begins = first | (time != np.roll(time, 1))
    return np.maximum.accumulate(np.where(begins, np.arange(len(time)), 0))
