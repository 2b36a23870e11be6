"""Hand-made features for trees: the row's fields, and counts, feedback shares and recencies of earlier events.

All features of a row lie strictly before the row's second.

Shapes: I rows, X features, N events of a shard, M values of a multi field, V items, n events or rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from openlum.data.item_activity import WINDOWS
from openlum.data.sequences import Sequences
from openlum.field_spec import SECONDS, FieldSpec
from openlum.model.batch import Fields
from openlum.rank.batches import RankingData, Rows
from openlum.rank.event_index import EventIndex, EventsBefore, feedback_fields, index_events
from openlum.rank.inputs import ITEM_ACTIVITY
from openlum.rank.settings import RankerConfig

MAX_INDICATORS = 64
"""Multi fields with more values get no indicator column per value, only counts and shares."""
ROWS_AT_ONCE = 1 << 17
"""The features of so many rows are computed at a time, because columns take more memory before they are in the matrix."""


@dataclass
class FeatureTable:
    """Feature columns, and which of them are categories."""

    columns: dict[str, np.ndarray] = field(default_factory=dict)
    """Name to (I,)."""
    categories: set[str] = field(default_factory=set)
    """Names of categorical columns."""


@dataclass(frozen=True)
class FeatureMatrix:
    """The features of rows."""

    values: np.ndarray
    """(I, X) float32."""
    names: list[str]
    """Names of the X columns."""
    categories: list[int]
    """Indices of categorical columns."""


class HandFeatures:
    """A function from rows to hand-made features and, with knowledge, knowledge scores.

    Features of one user are computed shard by shard. Features of an item over all users come from `RankingData.item_events`.

    Args:
        data: the rows and events from which features are made.
        config: configuration of the ranker.
    """

    def __init__(self, data: RankingData, config: RankerConfig) -> None:
        self.data, self.config = data, config
        self.feedback = feedback_fields(data.dataset)
        self.unit = SECONDS[data.dataset.info.data_schema.gap_unit]

    def __call__(self, rows: Rows) -> FeatureMatrix:
        """Return the features of rows."""
        item = rows.item.numpy().astype(np.int64)[:, None]
        item_columns = self._item_columns(self.data.item_events.before(item, rows.time.numpy()))
        values, names, categories = np.empty((len(rows), 0), np.float32), [], []  # type: ignore[var-annotated]
        for buffer, shard, shard_index in self.data.by_shard(rows):
            histories = self._histories(shard.sequences)
            for index in shard_index.split(ROWS_AT_ONCE):
                fields = self.data.fields(buffer, rows, index)
                table = self._features(rows.take(index), fields, histories, item_columns, index.numpy())
                if self.config.knowledge is not None:
                    scores = self.data.buffer_scores(buffer, rows, index, self.config)  # (I, Q)
                    table.columns |= {f"similarity.{number}": score for number, score in enumerate(scores.T)}
                if not names:
                    names = list(table.columns)
                    categories = [number for number, name in enumerate(names) if name in table.categories]
                    values = np.empty((len(rows), len(names)), np.float32)
                for number, column in enumerate(table.columns.values()):
                    values[index.numpy(), number] = column
        return FeatureMatrix(values, names, categories)

    def _features(
        self,
        rows: Rows,
        fields: Fields,
        histories: list[EventIndex],
        item_columns: dict[str, np.ndarray],
        index: np.ndarray,
    ) -> FeatureTable:
        """Return the features of some rows of a shard.

        Args:
            rows: the I rows.
            fields: of the rows.
            histories: of the shard, from `_histories`.
            item_columns: the columns about the items of all rows.
            index: (I,) of the rows in `item_columns`.
        """
        table = FeatureTable()
        for spec in self.config.features:
            if spec != ITEM_ACTIVITY:  # trees have columns for it
                self._add_field(table, spec, fields[spec.name])
        for spec in self.config.item:
            item_spec = spec.model_copy(update={"name": f"item.{spec.name}"})
            self._add_field(table, item_spec, self.data.item_features[spec.name][rows.item.long()])
        last_time: dict[str, np.ndarray] = {}
        keys = self._keys(rows.user.numpy().astype(np.int64), rows.item.numpy())
        for history, (name, row_keys) in zip(histories, keys, strict=True):
            before = history.before(row_keys, rows.time.numpy())
            table.columns |= self._counts(name, before)
            last_time[name] = before.last_time()
            if name == "user":
                table.columns |= {name: column[index] for name, column in item_columns.items()}
            elif name == "user_item":
                table.columns["user_item_last"] = last_time["user_item"] == last_time["user"]
        return table

    def _histories(self, sequences: Sequences) -> list[EventIndex]:
        """Return the events of a shard by each kind of `_keys`."""
        user = np.repeat(sequences.user.astype(np.int64), np.diff(sequences.offsets))  # (N,)
        return [index_events(keys, sequences, self.feedback) for _, keys in self._keys(user, sequences.item)]

    def _keys(self, user: np.ndarray, item: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each kind of keys, by which rows find the user's earlier events, with its name: (n, M), where -1 is no key.

        Args:
            user: (n,) int64 ids of the users of events or rows.
            item: (n,) ids of their items.
        """
        yield "user", user[:, None]
        yield "user_item", _user_value_keys(user, item[:, None], self.config.items)
        for spec in self.config.item:
            if spec.type in ("categorical", "multi"):
                values = self.data.item_features[spec.name].numpy()
                values = values.reshape(len(values), -1)  # (V, M)
                yield f"user_{spec.name}", _user_value_keys(user, values[item], spec.size)

    def _item_columns(self, before: EventsBefore) -> dict[str, np.ndarray]:
        """Return the columns about the item of each row, (I,) float32 each."""
        columns = self._counts("item", before) | {"item_age": self._gap(before.first_time(), before.time)}
        columns |= {f"item_events_{name}": before.count_within(seconds) for name, seconds in WINDOWS.items()}
        return {name: column.astype(np.float32) for name, column in columns.items()}

    def _add_field(self, table: FeatureTable, spec: FieldSpec, values: Tensor) -> None:
        array = values.numpy()
        if spec.type == "categorical":
            table.columns[spec.name] = array
            table.categories.add(spec.name)
        elif spec.type == "multi":
            if spec.size <= MAX_INDICATORS:
                for value in range(1, spec.size):
                    table.columns[f"{spec.name}_{value}"] = (array == value).any(1)
        elif array.ndim == 1:
            table.columns[spec.name] = array
        else:
            for index in range(array.shape[1]):
                table.columns[f"{spec.name}_{index}"] = array[:, index]

    def _counts(self, name: str, before: EventsBefore) -> dict[str, np.ndarray]:
        """Return the number of events before each row, the share of each feedback value, and the gap since the last one."""
        columns = {f"{name}_events": before.count()}
        columns |= {f"{name}_{feedback}": share for feedback, share in before.shares().items()}
        return columns | {f"{name}_gap": self._gap(before.last_time(), before.time)}

    def _gap(self, earlier: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Return the time since earlier times, (I,), in whole units of the schema's `gap_unit`; NaN for NaN.

        On MovieLens-1M, seconds make trees worse (docs/experiments/ml-1m.md). The schema states which times mean something.
        """
        return time // self.unit - earlier // self.unit


def _user_value_keys(user: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Return one key for each pair of a user (n,) and a value (n, M); value 0 (unknown) has the key -1."""
    return np.where(values > 0, user[:, None] * size + values, -1)
