"""The content of `dataset.json`, and the names of the splits and of the kinds of fields."""

from typing import Literal

from openlum.config import Settings
from openlum.data.profile import Profile
from openlum.field_spec import FieldSpec
from openlum.schema import Schema

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
UNLABELLED: Literal["unlabelled"] = "unlabelled"
ImpressionSet = Literal[Split, "unlabelled"]
"""A split, or the impressions without a label, which belong to no split."""
KINDS = ("condition", "item", "user", "context")
"""The kinds of fields."""
MADE_BY = "lum prepare"


class DatasetInfo(Settings):
    """The content of `dataset.json`."""

    name: str
    """Name of the data set."""
    data_schema: Schema
    """The schema that the data set was prepared with."""
    condition: list[FieldSpec]
    """Condition fields: the fields of the log first, then the time fields."""
    item: list[FieldSpec]
    """Item fields, without the id."""
    user: list[FieldSpec]
    """User fields, without the id."""
    context: list[FieldSpec]
    """Context fields of impressions."""
    counts: dict[str, int]
    """Counts of events, users, items, impressions (with and without a label) and impressions_unlabelled. For every table that was
    read: TABLE_in (rows read), TABLE (accepted rows) and TABLE_rejected."""
    rejected: dict[str, int] = {}
    """Reason to the number of rejected rows; the rows are in rejected/."""
    notes: dict[str, int] = {}
    """Data-quality notes that reject no row (such as items without a row in the item table), with their counts."""
    valid_time: int
    """First second of the validation period."""
    test_time: int
    """First second of the test period."""
    impressions: dict[Split, int]
    """Number of impressions in each split."""
    label_rule: str
    """The source of the impressions and their labels, in words."""
    profile: Profile
    """Statistics of the data set."""
    preparations: int = 1
    """1 for a new dataset; each append adds 1."""
    fingerprint: str
    """Text that changes whenever the content changes."""
