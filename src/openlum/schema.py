"""The schema of a log: the user's tables, the role of each column, and the typed fields that preparation makes of them."""

import math
import re
from datetime import date, time
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from openlum.config import RawValue, Settings
from openlum.field_spec import TimeField
from openlum.file_format import DEFAULT_CSV, CsvFormat, DateOrder, TimeUnit, parse_time

FeatureType = Literal["categorical", "multi", "numeric", "vector", "time"]

KEYS_OF_TYPES = {
    "min_count": ("categorical", "multi"),
    "hash_rows": ("categorical", "multi"),
    "max_values": ("multi",),
    "buckets": ("numeric", "time"),
    "minimum": ("numeric",),
    "maximum": ("numeric",),
    "width": ("vector",),
    "time_unit": ("time",),
    "date_order": ("time",),
}
"""For each key of a feature: the types to which it applies."""


class Feature(Settings):
    """One feature column of a table."""

    type: FeatureType = "categorical"
    """`categorical` (one id), `multi` (a list of ids), `numeric` (standardised), `vector` (fixed width) or `time` (days since
    1970, standardised)."""
    column: str | None = None
    """Name of the column in the table; by default the name of the feature."""
    min_count: int = Field(1, ge=1, le=10**12)
    """categorical, multi: values with fewer occurrences in the training period become id 0 (unknown)."""
    hash_rows: int | None = Field(None, ge=1, le=10**9)
    """categorical, multi: no vocabulary; values are hashed to this many ids. For fields with very many values."""
    max_values: int = Field(8, ge=1, le=10_000)
    """multi: how many values of a row are kept, in the order of the row."""
    buckets: int | None = Field(None, ge=2, le=1000)
    """numeric, time: divide the values into this many buckets with equally many training rows; each bucket is an id."""
    minimum: float | None = None
    """numeric: rows with a smaller value are rejected."""
    maximum: float | None = None
    """numeric: rows with a larger value are rejected."""
    width: int | None = Field(None, ge=1, le=100_000)
    """vector: the number of elements."""
    time_unit: TimeUnit | None = None
    """time: unit of numeric times since 1970; `yyyymmdd` for dates written as numbers, such as 20220425."""
    date_order: DateOrder | None = None
    """time: `dmy` if 01/02/1995 is the first of February, `mdy` if it is the second of January."""

    @model_validator(mode="after")
    def _keys_fit_the_type(self) -> "Feature":
        if self.type == "vector" and self.width is None:
            raise ValueError("a vector feature needs 'width'")
        for key, types in KEYS_OF_TYPES.items():
            is_set = getattr(self, key) != type(self).model_fields[key].default
            if is_set and self.type not in types:
                raise ValueError(
                    f"'{key}' applies only to the type {' or '.join(types)}, but this feature is {self.type}; remove the key"
                )
        if self.hash_rows and self.min_count > 1:
            raise ValueError("'hash_rows' and 'min_count' exclude each other; remove one of them")
        return self


Name = Annotated[str, StringConstraints(pattern=r"^[\w .-]+$")]
"""Name of a field; it becomes part of a file name."""


class ConditionField(Feature):
    """One field of the condition: a value that is known before the item is shown, or the user's feedback to the item."""

    feedback: bool = False
    """The field is the user's reaction (rating, click or skip), which is never known when an impression is ranked."""

    @model_validator(mode="after")
    def _feedback_has_few_values(self) -> "ConditionField":
        if self.feedback and self.hash_rows:
            raise ValueError("feedback is predicted value by value, so it cannot be hashed; remove 'hash_rows'")
        return self


class EventTable(Settings):
    """The behaviour log: one row for each event."""

    path: str
    """Parquet or CSV, relative to the schema file: a file, a directory of them, or a pattern (`log/2025-*.parquet`)."""
    csv: CsvFormat = DEFAULT_CSV
    """Format of CSV files; `lum schema` proposes it."""
    user: str
    """Column of the user id."""
    item: str
    """Column of the item id."""
    time: str
    """Column of the time: a timestamp, a date in a usual spelling, or a number in `time_unit`."""
    time_unit: TimeUnit = "s"
    """Unit of numeric times since 1970; `yyyymmdd` for dates written as numbers, such as 20220425 or 20220425173000."""
    date_order: DateOrder | None = None
    """`dmy` if 01/02/1995 is the first of February, `mdy` if it is the second of January. Without this key, such times are
    rejected. It applies to the impressions too."""
    condition: dict[Name, ConditionField] = {}
    """Condition fields by name. Their order is kept."""


class ItemTable(Settings):
    """The item table: one row for each item."""

    path: str
    """Parquet or CSV, relative to the schema file: a file, a directory of them, or a pattern (`log/2025-*.parquet`)."""
    csv: CsvFormat = DEFAULT_CSV
    """Format of CSV files; `lum schema` proposes it."""
    id: str
    """Column of the item id."""
    title: str | None = None
    """Column of the title that reports and pages show."""
    complete: bool = True
    """Events and impressions of items without a row in this table are rejected; if false, they are kept with unknown features."""
    features: dict[Name, Feature] = {}
    """Item features by name."""


class UserTable(Settings):
    """The user table: one row for each user."""

    path: str
    """Parquet or CSV, relative to the schema file: a file, a directory of them, or a pattern (`log/2025-*.parquet`)."""
    csv: CsvFormat = DEFAULT_CSV
    """Format of CSV files; `lum schema` proposes it."""
    id: str
    """Column of the user id."""
    features: dict[Name, Feature] = {}
    """User features by name."""


class ImpressionTable(Settings):
    """The impression log: one row for each item shown, with its label.

    Condition columns have the same names as in the event log."""

    path: str
    """Parquet or CSV, relative to the schema file: a file, a directory of them, or a pattern (`log/2025-*.parquet`)."""
    csv: CsvFormat = DEFAULT_CSV
    """Format of CSV files; `lum schema` proposes it."""
    user: str
    """Column of the user id."""
    item: str
    """Column of the item id."""
    time: str
    """Column of the time, in the event log's unit."""
    label: str | None = None
    """Column of the label: 0 or 1. A row without a label (not known yet) belongs to no split, but the model is queried for it.
    Without this key, no row has a label."""
    row: str | None = None
    """Column of a unique integer row id, by which predictions and knowledge are joined to your table; by default, rows are
    numbered from 0 in the order of the files."""
    request: str | None = None
    """Column of the id of the request: the rows of a user with the same value were candidates together (one page, one list). With
    it, rankers are also evaluated within each request. A row without a value is a request of its own."""
    context: dict[Name, Feature] = {}
    """Further features of the impression that are known when it is ranked (position on the page, device)."""


NegativeRule = Literal["same time", "popularity", "uniform"]


class ImpressionRule(Settings):
    """The rule that turns events into impressions if there is no impression log. Either a condition field labels the events
    (`field` and `at_least`), or every event has label 1 and items without an event of the user are sampled for label 0
    (`negatives`)."""

    field: str | None = None
    """A condition field of the event log."""
    at_least: float | None = None
    """The label is 1 where the field's value is at least this number."""
    negatives: int | None = Field(None, ge=1, le=1000)
    """For every event, this many rows with label 0 and other items. None of these items ever occurs with the user in the log."""
    how: NegativeRule = "same time"
    """How negatives are drawn. `same time`: items of events at the event's time or soon after, so that neither popularity nor age
    reveals the label. `popularity`: items of any events of the log. `uniform`: every item with events has the same
    probability."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of the draws of negatives."""

    @model_validator(mode="after")
    def _one_rule(self) -> "ImpressionRule":
        by_field = [key for key in ("field", "at_least") if getattr(self, key) is not None]
        if self.negatives is not None and by_field:
            raise ValueError(
                f"'negatives' and '{by_field[0]}' exclude each other: with 'negatives', every event has label 1; remove one of "
                "them"
            )
        if self.negatives is None:
            if len(by_field) < 2:
                raise ValueError(
                    "name 'field' and 'at_least' to label events, or 'negatives' to sample items for label 0"
                )
            for key in ("how", "seed"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"'{key}' applies only to sampled negatives; add 'negatives', or remove '{key}'")
        return self


class Holdout(Settings):
    """The events that the leave-last-out split of retrieval may hold out."""

    field: str
    """A condition field of the event log."""
    values: list[RawValue] = Field(min_length=1)
    """Only events with one of these values can be held out."""


class Splits(Settings):
    """Global time boundaries of training, validation and test, as fractions of the time-ordered events."""

    valid: float = Field(0.8, gt=0, lt=1)
    """Fraction of the events before the validation period."""
    test: float = Field(0.9, gt=0, lt=1)
    """Fraction of the events before the test period."""

    @model_validator(mode="after")
    def _in_order(self) -> "Splits":
        if self.valid >= self.test:
            raise ValueError(f"valid ({self.valid}) must come before test ({self.test})")
        return self


class EngineSettings(Settings):
    """The engine that computes tables."""

    name: Literal["duckdb", "spark"] = "duckdb"
    """`duckdb`: in this process. `spark`: PySpark (extra `[spark]`), on this machine or a cluster."""
    memory: str = Field("4GB", pattern=r"^\d{1,9}(\.\d{1,9})?\s?[KMGT]i?B$")
    """duckdb: memory for tables; larger tables go to `scratch`. The whole process needs about 1 GB more."""
    threads: int | None = Field(None, ge=1, le=1024)
    """duckdb: number of threads; by default one for each core that the process may use."""
    scratch: str | None = None
    """Directory for intermediate tables and for tables that do not fit into memory; by default beside the output. Spark's workers
    must see it."""
    events_per_part: int = Field(2**20, ge=1, le=10**12)
    """Approximate number of events that are ordered at a time. The users of each part are a shard of the dataset, and training
    and querying read some shards at a time. On a cluster, raise it with the number of workers."""
    spark: dict[str, str] = {}
    """spark: settings of the session, such as `spark.master: yarn`."""

    @field_validator("memory")
    @classmethod
    def _memory_in_range(cls, memory: str) -> str:
        number, unit = re.fullmatch(r"([\d.]+)\s?([KMGT])i?B", memory).groups()  # type: ignore[union-attr]
        if not 10**7 <= float(number) * 1000 ** ("KMGT".index(unit) + 1) <= 10**15:
            raise ValueError(f"expected 10MB to 1000TB, not {memory}")
        return memory


class Schema(Settings):
    """A data set as its owner stores it."""

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
    """The rule that makes impressions of events, if there is no impression log."""
    time_fields: list[TimeField] = ["hour", "weekday", "gap"]
    """Condition fields made from the time of a question: hour (UTC), weekday, and log2 of the gap since the user's last event."""
    gap_unit: Literal["s", "h", "d"] = "s"
    """The unit in which the gap is counted, in whole units."""
    holdout: Holdout | None = None
    """Restricts the events that retrieval may hold out; by default every event may be held out."""
    splits: Splits = Splits()
    """The time split."""
    earliest: str | None = None
    """Rows before this date (ISO 8601) are rejected; by default, rows before 1970."""
    latest: str | None = None
    """Rows after this date (ISO 8601) are rejected; by default, rows in the future."""
    max_user_events: int | None = Field(None, ge=1, le=10**12)
    """All events of users with more events than this are rejected, such as robots and shared accounts. By default there is no
    limit."""
    max_rejected: float = Field(0.01, ge=0, le=1)
    """`prepare` stops if more than this share of a table's rows is rejected: a fraction, or text such as 1%."""
    engine: EngineSettings = EngineSettings()
    """The engine that computes tables: `duckdb`, `spark`, or a mapping with more settings."""

    @property
    def has_requests(self) -> bool:
        """Whether impressions belong to requests: the impression log names them, or an event and its negatives are one."""
        rule = self.impressions_from_events
        return bool(self.impressions and self.impressions.request) or bool(rule and rule.negatives)

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
            parse_time(value, time.min)
        return value

    @model_validator(mode="after")
    def _earliest_is_before_latest(self) -> "Schema":
        if self.earliest and self.latest and parse_time(self.earliest, time.min) > parse_time(self.latest, time.max):
            raise ValueError(f"earliest ({self.earliest}) must come before latest ({self.latest})")
        return self

    @model_validator(mode="after")
    def _one_source_of_impressions(self) -> "Schema":
        if self.impressions and self.impressions_from_events:
            raise ValueError("'impressions' and 'impressions_from_events' exclude each other; remove one of them")
        for key, rule in (("impressions_from_events", self.impressions_from_events), ("holdout", self.holdout)):
            if rule and rule.field is not None and rule.field not in self.events.condition:
                raise ValueError(
                    f"'{key}.field' names '{rule.field}', which is not a condition field of 'events'; name a field of 'condition'"
                )
        self._check_types_of_rules()
        labelled_by = self.impressions_from_events.field if self.impressions_from_events else None
        if labelled_by is not None and not self.events.condition[labelled_by].feedback:
            raise ValueError(
                f"'impressions_from_events.field' names '{labelled_by}', which models would see before "
                f"they predict the label; set 'feedback: true' for '{labelled_by}' in 'events'"
            )
        if self.impressions:
            inputs = {name: field for name, field in self.events.condition.items() if not field.feedback}
            if self.impressions.label is not None and self.impressions.request == self.impressions.label:
                raise ValueError(
                    f"'impressions.request' names '{self.impressions.label}', the label of 'impressions'; name the column of the "
                    "request's id, or remove 'request'"
                )
            for name, feature in (inputs | self.impressions.context).items():
                if (feature.column or name) == self.impressions.label:
                    raise ValueError(
                        f"field '{name}' is read from '{self.impressions.label}', the label of 'impressions', which models must "
                        "not see: remove the field from 'context', or set 'feedback: true' for it in 'events'"
                    )
        reserved = {"item", "time"} & set(self.events.condition)
        if reserved:
            raise ValueError(f"condition field '{reserved.pop()}': this name is reserved; rename the field")
        clash = set(self.time_fields) & set(self.events.condition)
        if clash:
            raise ValueError(
                f"condition field '{clash.pop()}' has the name of a time field; rename the condition field"
            )
        return self

    def _check_types_of_rules(self) -> None:
        """Raise a `ValueError` if a rule names a field of a type that the rule cannot use."""
        rule = self.impressions_from_events
        if rule and rule.field is not None:
            kind = self.events.condition[rule.field].type
            if kind in ("multi", "vector"):
                raise ValueError(
                    f"key 'impressions_from_events.field': '{rule.field}' is {kind}; name a field with a single number"
                )
        if holdout := self.holdout:
            kind = self.events.condition[holdout.field].type
            if kind not in ("categorical", "numeric"):
                raise ValueError(
                    f"key 'holdout.field': '{holdout.field}' is {kind}; name a categorical or numeric field"
                )
            if kind == "numeric":
                not_numbers = [value for value in holdout.values if not _is_number(value)]
                if not_numbers:
                    raise ValueError(
                        f"key 'holdout.values': '{holdout.field}' is numeric, but {not_numbers[0]!r} is not a number"
                    )


def _is_number(value: str | int | float) -> bool:
    try:
        return math.isfinite(float(value))
    except (ValueError, OverflowError):
        return False
