"""Statistics of a data set that `lum prepare` prints and `report.html` draws."""

from openlum.config import Settings


class FieldProfile(Settings):
    """Statistics of a condition field over all events."""

    known: float
    """Share of the events that have a value, 0 to 1; a value outside the vocabulary counts as unknown."""
    values: dict[str, int] = {}
    """The most frequent raw values and their numbers of events; empty for numbers without buckets and for vectors."""
    distinct: int = 0
    """Number of distinct values; 0 for numbers and vectors."""


class SplitProfile(Settings):
    """Statistics of a period."""

    begin: str
    """First second of the period, ISO 8601 in UTC."""
    end: str
    """Second of the last event or impression in the period, ISO 8601 in UTC."""
    events: int
    """Number of events."""
    impressions: int
    """Number of impressions with a label."""
    positives: int
    """Number of impressions labelled 1."""


class Profile(Settings):
    """Statistics of a whole data set."""

    length_quantiles: dict[str, int]
    """Quantiles of the events of a user: `min`, `25 %`, `median`, `75 %`, `95 %`, `max`; users without events do not count."""
    lengths: dict[int, int]
    """For the smallest number of events in each bin (1, 2, 4, 8, ...): the number of users in the bin."""
    popularity: dict[int, int]
    """For item ranks (1, 2, 4, 8, ... and the last): the number of events of that item; items without events do not count."""
    days: dict[str, int]
    """ISO date (UTC) to the number of events, ascending; days without events are left out."""
    conditions: dict[str, FieldProfile]
    """Statistics of each condition field of the log."""
    splits: dict[str, SplitProfile]
    """Statistics of train, valid and test."""
    collisions: dict[str, float] = {}
    """For each hashed field (KIND.FIELD): the share of its distinct values that have the same id as another value."""
