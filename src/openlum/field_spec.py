"""Fields as models see them, after preparation."""

from collections.abc import Sequence
from typing import Literal

from openlum.config import Settings

FieldType = Literal["categorical", "multi", "numeric", "vector"]
TimeField = Literal["hour", "weekday", "gap"]

SECONDS = {"s": 1, "h": 3600, "d": 86400}
GAP_BUCKETS = 32


class FieldSpec(Settings):
    """A field as the models see it, after preparation."""

    name: str
    """Name of the field in the schema."""
    type: FieldType
    """Type of the encoded values. Times become `numeric`, and numbers in buckets `categorical`."""
    size: int = 0
    """categorical, multi: rows of the embedding table, including id 0 (any/unknown)."""
    hashed: bool = False
    """categorical, multi: ids are hashes of the values (`data/vocabulary.py: hashed_id`); there is no vocabulary."""
    edges: list[float] | None = None
    """categorical: the largest value of each bucket except the last, ascending, if the field is a number in buckets. The id is
    1 + the number of edges below the value."""
    width: int = 1
    """multi: values kept in a row; vector: number of elements; otherwise 1."""
    feedback: bool = False
    """The condition field is the user's reaction."""
    mean: float = 0.0
    """numeric: models see (raw value - mean) / std."""
    std: float = 1.0
    """numeric: see `mean`."""
    unit: str = ""
    """gap: the unit in which it is counted; time: `days since 1970`."""

    @property
    def in_vocabulary(self) -> bool:
        """Whether the ids stand for the values of a vocabulary. This is also true for time fields, which have no vocabulary."""
        return self.type in ("categorical", "multi") and not self.hashed and self.edges is None


def time_field_specs(names: Sequence[TimeField], gap_unit: str) -> list[FieldSpec]:
    """Return the condition fields that are computed from the time; all are categorical."""
    sizes = {"hour": 24 + 1, "weekday": 7 + 1, "gap": GAP_BUCKETS + 2}
    units = {"gap": gap_unit}
    return [FieldSpec(name=name, type="categorical", size=sizes[name], unit=units.get(name, "")) for name in names]
