"""What a log is: the tables a team brings, the role of each column, and the typed fields that come out of them."""

import math
import re
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from openlum.config import RawValue, Settings

FeatureType = Literal["categorical", "multi", "numeric", "vector", "time"]
FieldType = Literal["categorical", "multi", "numeric", "vector"]
TimeField = Literal["hour", "weekday", "gap"]

SECONDS = {"s": 1, "h": 3600, "d": 86400}
GAP_BUCKETS = 32

KEYS_OF_TYPES = {
    "min_count": ("categorical", "multi"),
    "hash_rows": ("categorical", "multi"),
    "max_values": ("multi",),
    "buckets": ("numeric", "time"),
    "minimum": ("numeric",),
    "maximum": ("numeric",),
    "width": ("vector",),
}
"""Key of a feature to the types that it means something for."""


class Feature(Settings):
    """One feature column of a table."""

    type: FeatureType = "categorical"
    """`categorical` (one id), `multi` (a list of ids), `numeric` (standardised), `vector` (fixed width) or `time` (days since
    1970, standardised)."""
    column: str | None = None
    """The column in the table, where it is not the feature's own name."""
    min_count: int = Field(1, ge=1, le=10**12)
    """categorical, multi: values seen less often in the training period become id 0 (unknown)."""
    hash_rows: int | None = Field(None, ge=1, le=10**9)
    """categorical, multi: no vocabulary; values are hashed to this many ids. For fields with very many values."""
    max_values: int = Field(8, ge=1, le=10_000)
    """multi: how many values of a row are kept, in the row's order."""
    buckets: int | None = Field(None, ge=2, le=1000)
    """numeric, time: not standardised but cut into this many buckets of equally many training rows, one id each."""
    minimum: float | None = None
    """numeric: rows with less are refused."""
    maximum: float | None = None
    """numeric: rows with more are refused."""
    width: int | None = Field(None, ge=1, le=100_000)
    """vector: its width."""

    @model_validator(mode="after")
    def _keys_fit_the_type(self) -> "Feature":
        if self.type == "vector" and self.width is None:
            raise ValueError("a vector feature needs 'width'")
        for key, types in KEYS_OF_TYPES.items():
            given = getattr(self, key) != type(self).model_fields[key].default
            if given and self.type not in types:
                raise ValueError(f"'{key}' is for the type {' or '.join(types)}; this feature is {self.type}")
        if self.hash_rows and self.min_count > 1:
            raise ValueError("give 'hash_rows' or 'min_count', not both")
        return self


Name = Annotated[str, StringConstraints(pattern=r"^[\w .-]+$")]
"""Of a field: it becomes part of a file name."""


class ConditionField(Feature):
    """One field of the condition: known before the item is, or the user's feedback to it."""

    feedback: bool = False
    """The field is the user's reaction (rating, click or skip): never known when an impression is ranked."""

    @model_validator(mode="after")
    def _feedback_has_few_values(self) -> "ConditionField":
        if self.feedback and self.hash_rows:
            raise ValueError("feedback is told value by value, so it cannot be hashed: leave out 'hash_rows'")
        return self


class EventTable(Settings):
    """The behaviour log: one row an event."""

    path: str
    """Parquet or CSV, relative to the schema file: a file, a directory of them, or a pattern (`log/2025-*.parquet`)."""
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
    """Parquet or CSV, relative to the schema file: a file, a directory of them, or a pattern (`log/2025-*.parquet`)."""
    id: str
    """Column of the item id."""
    title: str | None = None
    """Column of a title for people to read."""
    complete: bool = True
    """Events and impressions of items without a row here are refused; if false, such items are kept with unknown features."""
    features: dict[Name, Feature] = {}
    """Item features by name."""


class UserTable(Settings):
    """One row a user."""

    path: str
    """Parquet or CSV, relative to the schema file: a file, a directory of them, or a pattern (`log/2025-*.parquet`)."""
    id: str
    """Column of the user id."""
    features: dict[Name, Feature] = {}
    """User features by name."""


class ImpressionTable(Settings):
    """The impression log: one row an item shown, with its label. Condition columns have the names they have in the event log."""

    path: str
    """Parquet or CSV, relative to the schema file: a file, a directory of them, or a pattern (`log/2025-*.parquet`)."""
    user: str
    """Column of the user id."""
    item: str
    """Column of the item id."""
    time: str
    """Column of the time, in the event log's unit."""
    label: str | None = None
    """Column of the label: 0 or 1. A row without one (not known yet) is in no split, but questions are asked of it; without this
    key no row has a label."""
    row: str | None = None
    """Column of a unique integer row id, by which predictions and knowledge are joined to your table; by default rows
    are numbered from 0 in the order of the files."""
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
    values: list[RawValue] = Field(min_length=1)
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


class EngineSettings(Settings):
    """Where tables are computed."""

    name: Literal["duckdb", "spark"] = "duckdb"
    """`duckdb`: in this process. `spark`: PySpark (extra `[spark]`), on this machine or a cluster."""
    memory: str = Field("4GB", pattern=r"^\d{1,9}(\.\d{1,9})?\s?[KMGT]i?B$")
    """duckdb: tables beyond this much memory go to `scratch`. The process as a whole needs about 1 GB more."""
    threads: int | None = Field(None, ge=1, le=1024)
    """duckdb: threads; by default one a core."""
    scratch: str | None = None
    """Directory for what does not fit into memory, and for intermediate tables; by default beside the output. Spark's workers
    must see it."""
    events_per_part: int = Field(8_000_000, ge=1, le=10**12)
    """duckdb: about how many events are ordered at a time; each part is a file of the dataset."""
    spark: dict[str, str] = {}
    """spark: settings of the session, such as `spark.master: yarn`."""

    @field_validator("memory")
    @classmethod
    def _memory_that_there_may_be(cls, memory: str) -> str:
        number, unit = re.fullmatch(r"([\d.]+)\s?([KMGT])i?B", memory).groups()  # type: ignore[union-attr]
        if not 10**7 <= float(number) * 1000 ** ("KMGT".index(unit) + 1) <= 10**15:
            raise ValueError("expected 10MB to 1000TB")
        return memory


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
    earliest: str | None = None
    """Rows before this date (ISO 8601) are refused; by default those before 1970."""
    latest: str | None = None
    """Rows after this date (ISO 8601) are refused; by default nothing after now is accepted."""
    max_user_events: int | None = Field(None, ge=1, le=10**12)
    """All events of users with more than this are refused: robots, shared accounts. By default nobody's."""
    max_rejected: float = Field(0.01, ge=0, le=1)
    """`prepare` stops where more than this part of a table's rows is refused: a fraction, or text such as 1%."""
    engine: EngineSettings = EngineSettings()
    """Where tables are computed: `duckdb`, `spark`, or a mapping with more settings."""

    @field_validator("max_rejected", mode="before")
    @classmethod
    def _percentage(cls, value: Any) -> Any:
        if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?\s?%", value.strip()):
            return float(value.strip().removesuffix("%")) / 100
        return value

    @field_validator("engine", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("earliest", "latest", mode="before")
    @classmethod
    def _date(cls, value: Any) -> Any:
        return value.isoformat() if isinstance(value, date) else value

    @field_validator("earliest", "latest")
    @classmethod
    def _is_a_date(cls, value: str | None) -> str | None:
        if value is not None:
            moment(value, time.min)
        return value

    @model_validator(mode="after")
    def _earliest_is_before_latest(self) -> "Schema":
        if self.earliest and self.latest and moment(self.earliest, time.min) > moment(self.latest, time.max):
            raise ValueError(f"earliest ({self.earliest}) must come before latest ({self.latest})")
        return self

    @model_validator(mode="after")
    def _one_source_of_impressions(self) -> "Schema":
        if self.impressions and self.impressions_from_events:
            raise ValueError("give 'impressions' or 'impressions_from_events', not both")
        for key, rule in (("impressions_from_events", self.impressions_from_events), ("holdout", self.holdout)):
            if rule and rule.field not in self.events.condition:
                raise ValueError(f"'{key}.field' names '{rule.field}', which is no condition field of 'events'")
        self._types_of_rules()
        if self.impressions_from_events and not self.events.condition[self.impressions_from_events.field].feedback:
            raise ValueError(
                f"'impressions_from_events.field' names '{self.impressions_from_events.field}', which would be known before the "
                "label that is made of it: set 'feedback: true' for that field of 'events'"
            )
        if self.impressions:
            known = {name: field for name, field in self.events.condition.items() if not field.feedback}
            for name, feature in (known | self.impressions.context).items():
                if (feature.column or name) == self.impressions.label:
                    raise ValueError(
                        f"field '{name}' is read from '{self.impressions.label}', the label of 'impressions', which nothing may "
                        "know: leave it out of 'context', or set 'feedback: true' in 'events'"
                    )
        taken = {"item", "time"} & set(self.events.condition)
        if taken:
            raise ValueError(
                f"condition field '{taken.pop()}': events have an item and a time already; rename the field"
            )
        clash = set(self.time_fields) & set(self.events.condition)
        if clash:
            raise ValueError(f"condition field '{clash.pop()}' has the name of a time field; rename one")
        return self

    def _types_of_rules(self) -> None:
        """The fields that rules name have values that a rule can be about."""
        if rule := self.impressions_from_events:
            kind = self.events.condition[rule.field].type
            if kind in ("multi", "vector"):
                raise ValueError(
                    f"key 'impressions_from_events.field': '{rule.field}' is {kind}; name a field of one number"
                )
        if holdout := self.holdout:
            kind = self.events.condition[holdout.field].type
            if kind not in ("categorical", "numeric"):
                raise ValueError(
                    f"key 'holdout.field': '{holdout.field}' is {kind}; name a categorical or numeric field"
                )
            if kind == "numeric":
                odd = [value for value in holdout.values if not _is_number(value)]
                if odd:
                    raise ValueError(
                        f"key 'holdout.values': expected numbers, for '{holdout.field}' is numeric (found {odd[0]!r})"
                    )


def _is_number(value: str | int | float) -> bool:
    try:
        return math.isfinite(float(value))
    except (ValueError, OverflowError):
        return False


class FieldSpec(Settings):
    """A field as the models see it, after preparation."""

    name: str
    """Its name in the schema."""
    type: FieldType
    """How it is encoded. Times become `numeric`, and numbers in buckets `categorical`."""
    size: int = 0
    """categorical, multi: rows of the embedding table, with id 0 = any/unknown."""
    hashed: bool = False
    """categorical, multi: ids are hashes of the values (`data/vocabulary.py: hashed_id`); there is no vocabulary."""
    edges: list[float] | None = None
    """categorical: where it is a number in buckets; the id is 1 + the number of edges below it. Ascending."""
    width: int = 1
    """multi: values kept a row; vector: its width; otherwise 1."""
    feedback: bool = False
    """A condition field that is the user's reaction."""
    mean: float = 0.0
    """numeric: raw values less this,"""
    std: float = 1.0
    """divided by this, are what models see."""
    unit: str = ""
    """gap: what it is counted in; a time: `days since 1970`."""

    @property
    def in_vocabulary(self) -> bool:
        """Its ids stand for the values of a vocabulary, unless it is a time field."""
        return self.type in ("categorical", "multi") and not self.hashed and self.edges is None


def moment(text: str, of_day: time) -> int:
    """A date or time (ISO 8601, UTC if it does not say) in microseconds since 1970; `of_day` completes a date.

    Raises:
        ValueError: it is none.
    """
    try:
        try:
            instant = datetime.combine(date.fromisoformat(text), of_day)
        except ValueError:
            instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"'{text}' is no date; expected 2025-12-31 or 2025-12-31T23:59:59") from None
    return round((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def time_field_specs(schema: Schema) -> list[FieldSpec]:
    """The condition fields that `schema.time_fields` adds, all categorical."""
    sizes = {"hour": 24 + 1, "weekday": 7 + 1, "gap": GAP_BUCKETS + 2}
    units = {"gap": schema.gap_unit}
    return [
        FieldSpec(name=name, type="categorical", size=sizes[name], unit=units.get(name, ""))
        for name in schema.time_fields
    ]
