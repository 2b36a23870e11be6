"""What a data set looks like: the figures that `lum prepare` shows and `report.html` draws, computed by the engine."""

from openlum.config import Settings


class FieldProfile(Settings):
    """One condition field over all events."""

    known: float
    """Part of the events that have a value, 0 to 1; a value outside the vocabulary counts as unknown."""
    values: dict[str, int] = {}
    """The most frequent values, raw, and their events; empty for numbers without buckets and for vectors."""
    distinct: int = 0
    """Different values; 0 for numbers and vectors."""


class SplitProfile(Settings):
    """One period."""

    begin: str
    """ISO 8601 UTC, of its first second."""
    end: str
    """ISO 8601 UTC, of the last event or impression in it."""
    events: int
    """Events in it."""
    impressions: int
    """Impressions in it."""
    positives: int
    """Impressions labelled 1."""


class Profile(Settings):
    """Figures of a whole data set."""

    length_quantiles: dict[str, int]
    """Events of a user: `min`, `25 %`, `median`, `75 %`, `95 %`, `max`; users without events do not count."""
    lengths: dict[int, int]
    """Smallest number of events of a bin (1, 2, 4, 8, ...) to users in it."""
    popularity: dict[int, int]
    """Rank of an item (1, 2, 4, 8, ... and the last) to its events; items without events do not count."""
    days: dict[str, int]
    """ISO date (UTC) to events, for the days that have any, ascending."""
    conditions: dict[str, FieldProfile]
    """Condition field of the log to its figures."""
    splits: dict[str, SplitProfile]
    """train, valid and test."""
    collisions: dict[str, float] = {}
    """Hashed field (KIND.FIELD) to the part of its different values that share an id with another."""
