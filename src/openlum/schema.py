"""What a log is: the tables a team brings, the role of each column, and the typed fields that come out of them."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from openlum.config import Settings

FeatureType = Literal["categorical", "multi", "numeric", "vector"]
TimeField = Literal["hour", "weekday", "gap"]

SECONDS = {"s": 1, "h": 3600, "d": 86400}
GAP_BUCKETS = 32


class Feature(Settings):
    """One feature column of a table."""

    type: FeatureType = "categorical"
    """`categorical` (one id), `multi` (a list of ids), `numeric` (standardised) or `vector` (fixed width)."""
    column: str | None = None
    """The column in the table, where it is not the feature's own name."""
    min_count: int = Field(1, ge=1)
    """Values seen less often in the training period become id 0 (unknown)."""
    max_values: int = Field(8, ge=1)
    """multi: how many values of a row are kept, in the row's order."""
    width: int | None = Field(None, ge=1)
    """vector: its width."""

    @model_validator(mode="after")
    def _vector_has_width(self) -> "Feature":
        if self.type == "vector" and self.width is None:
            raise ValueError("a vector feature needs 'width'")
        return self


Name = Annotated[str, StringConstraints(pattern=r"^[\w .-]+$")]
"""Of a field: it becomes part of a file name."""


class ConditionField(Feature):
    """One field of the condition: known before the item is, or the user's feedback to it."""

    feedback: bool = False
    """The field is the user's reaction (rating, click or skip): never known when an impression is ranked."""


class EventTable(Settings):
    """The behaviour log: one row an event."""

    path: str
    """A Parquet or CSV file, relative to the schema file."""
    user: str
    """Column of the user id."""
    item: str
    """Column of the item id."""
    time: str
    """Column of the time: a timestamp, or an integer in `time_unit` since 1970."""
    time_unit: Literal["s", "ms", "us"] = "s"
    """Unit of an integer time column."""
    condition: dict[Name, ConditionField] = {}
    """Condition fields by name. The order is kept."""


class ItemTable(Settings):
    """One row an item."""

    path: str
    """A Parquet or CSV file, relative to the schema file."""
    id: str
    """Column of the item id."""
    title: str | None = None
    """Column of a title for people to read."""
    features: dict[Name, Feature] = {}
    """Item features by name."""


class UserTable(Settings):
    """One row a user."""

    path: str
    """A Parquet or CSV file, relative to the schema file."""
    id: str
    """Column of the user id."""
    features: dict[Name, Feature] = {}
    """User features by name."""


class ImpressionTable(Settings):
    """The impression log: one row an item shown, with its label. Condition columns have the names they have in the event log."""

    path: str
    """A Parquet or CSV file, relative to the schema file."""
    user: str
    """Column of the user id."""
    item: str
    """Column of the item id."""
    time: str
    """Column of the time, in the event log's unit."""
    label: str
    """Column of the label: 0 or 1."""
    row: str | None = None
    """Column of a unique integer row id; by default rows are numbered in the order (time, user, item)."""
    context: dict[Name, Feature] = {}
    """Further features of the impression, known when it is ranked (position on the page, device)."""


class ImpressionRule(Settings):
    """How impressions are made of events where there is no impression log: every event is one, labelled by a field."""

    field: str
    """A condition field of the event log."""
    at_least: float
    """The label is 1 where the field's value is at least this."""


class Holdout(Settings):
    """Which events count for the leave-last-out split of retrieval."""

    field: str
    """A condition field of the event log."""
    values: list[str]
    """Only events with one of these values can be held out."""


class Splits(Settings):
    """Global time boundaries of training, validation and test, as fractions of the time-ordered events."""

    valid: float = Field(0.8, gt=0, lt=1)
    """Events from here on are validation."""
    test: float = Field(0.9, gt=0, lt=1)
    """Events from here on are test."""

    @model_validator(mode="after")
    def _in_order(self) -> "Splits":
        if self.valid >= self.test:
            raise ValueError(f"valid ({self.valid}) must come before test ({self.test})")
        return self


class Schema(Settings):
    """A data set as its owner has it."""

    name: str
    """Name of the data set."""
    events: EventTable
    """The behaviour log."""
    items: ItemTable | None = None
    """The item table, if there is one."""
    users: UserTable | None = None
    """The user table, if there is one."""
    impressions: ImpressionTable | None = None
    """The impression log, if there is one; otherwise `impressions_from_events`."""
    impressions_from_events: ImpressionRule | None = None
    """The rule that makes impressions of events."""
    time_fields: list[TimeField] = ["hour", "weekday", "gap"]
    """Time known when a question is asked, as further condition fields: hour (UTC), weekday, log2 of the gap before it."""
    gap_unit: Literal["s", "h", "d"] = "s"
    """The gap is counted in whole units of this."""
    holdout: Holdout | None = None
    """Restricts which events retrieval holds out; by default any."""
    splits: Splits = Splits()
    """The time split."""
    latest: str | None = None
    """Events after this date (ISO 8601) are refused; by default nothing after now is accepted."""

    @model_validator(mode="after")
    def _one_source_of_impressions(self) -> "Schema":
        if self.impressions and self.impressions_from_events:
            raise ValueError("give 'impressions' or 'impressions_from_events', not both")
        for key, rule in (("impressions_from_events", self.impressions_from_events), ("holdout", self.holdout)):
            if rule and rule.field not in self.events.condition:
                raise ValueError(f"'{key}.field' names '{rule.field}', which is no condition field of 'events'")
        taken = {"item", "time"} & set(self.events.condition)
        if taken:
            raise ValueError(
                f"condition field '{taken.pop()}': events have an item and a time already; rename the field"
            )
        clash = set(self.time_fields) & set(self.events.condition)
        if clash:
            raise ValueError(f"condition field '{clash.pop()}' has the name of a time field; rename one")
        return self


class FieldSpec(Settings):
    """A field as the models see it, after preparation."""

    name: str
    """Its name in the schema."""
    type: FeatureType
    """How it is encoded."""
    size: int = 0
    """categorical, multi: rows of the embedding table, with id 0 = any/unknown."""
    width: int = 1
    """multi: values kept a row; vector: its width; otherwise 1."""
    feedback: bool = False
    """A condition field that is the user's reaction."""
    mean: float = 0.0
    """numeric: raw values less this,"""
    std: float = 1.0
    """divided by this, are what models see."""
    unit: str = ""
    """gap: what it is counted in."""


def time_field_specs(schema: Schema) -> list[FieldSpec]:
    """The condition fields that `schema.time_fields` adds, all categorical."""
    sizes = {"hour": 24 + 1, "weekday": 7 + 1, "gap": GAP_BUCKETS + 2}
    units = {"gap": schema.gap_unit}
    return [
        FieldSpec(name=name, type="categorical", size=sizes[name], unit=units.get(name, ""))
        for name in schema.time_fields
    ]
