"""Hand-made features for trees: the row's fields, and counts and feedback shares of earlier events.

All features of a row lie strictly before the row's second.

Shapes: I rows, N events, M values of a multi field, R feedback values, V items.
"""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from openlum.data.time_fields import by_key_then_time
from openlum.rank.batches import RankingData, Rows
from openlum.rank.settings import RankerConfig
from openlum.schema import FieldSpec

MAX_INDICATORS = 64
"""Multi fields with more values get no indicator column per value, only counts and shares."""


@dataclass
class FeatureTable:
    """Feature columns, and which of them are categories."""

    columns: dict[str, np.ndarray] = field(default_factory=dict)
    """Name to (I,)."""
    categories: set[str] = field(default_factory=set)
    """Names of categorical columns."""


class HandFeatures:
    """A function from rows to hand-made features.

    Args:
        data: the rows and events from which features are made.
        config: configuration of the ranker.
    """

    def __init__(self, data: RankingData, config: RankerConfig) -> None:
        self.data, self.config = data, config
        sequences = data.dataset.sequences
        self.user = np.repeat(sequences.user.astype(np.int64), np.diff(sequences.offsets))  # (N,)
        self.events = sequences
        self.begins = int(
            min(sequences.time.min(initial=0), *(int(r.time.min()) if len(r) else 0 for r in data.rows.values()))
        )
        feedback = [spec for spec in data.dataset.specs("condition") if spec.feedback and spec.type == "categorical"]
        self.has_feedback = {
            f"{spec.name}_{value}": (sequences.condition[spec.name] == value).astype(np.float64)
            for spec in feedback
            for value in range(1, spec.size)
        }  # FIELD_VALUE to (N,)

    def __call__(self, rows: Rows) -> FeatureTable:
        """Return the features of rows."""
        table = FeatureTable()
        user, item, time = rows.user.numpy(), rows.item.numpy(), rows.time.numpy()
        for spec in self.config.features:
            kind, name = spec.name.split(".", 1)
            values = self.data.user_features[name][rows.user] if kind == "user" else rows.features[spec.name]
            self._add_field(table, spec, values)
        for spec in self.config.item:
            item_spec = spec.model_copy(update={"name": f"item.{spec.name}"})
            self._add_field(table, item_spec, self.data.item_features[spec.name][rows.item])
        self._add_history(table, "user", self.user[:, None], user[:, None], time)
        self._add_history(table, "item", self.events.item[:, None], item[:, None], time)
        for spec in self.config.item:
            if spec.type in ("categorical", "multi"):
                item_values = self.data.item_features[spec.name].numpy()
                item_values = item_values.reshape(len(item_values), -1)  # (V, M)
                event_keys = _user_value_keys(self.user, item_values[self.events.item], spec.size)
                row_keys = _user_value_keys(user, item_values[item], spec.size)
                self._add_history(table, f"user_{spec.name}", event_keys, row_keys, time)
        return table

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

    def _add_history(
        self, table: FeatureTable, name: str, event_keys: np.ndarray, row_keys: np.ndarray, time: np.ndarray
    ) -> None:
        """Add the number of events before each row with one of the row's keys, and the share of each feedback value in them.

        Args:
            table: gets the columns.
            name: prefix of the columns.
            event_keys: (N, M) keys of the events; -1 is no key.
            row_keys: (I, M) keys of the rows; -1 is no key.
            time: (I,) times of the rows.
        """
        event, column = np.nonzero(event_keys >= 0)
        distinct, key = np.unique(event_keys[event, column], return_inverse=True)
        event_time = self.events.time[event] - self.begins
        order = np.lexsort((event_time, key))
        event = event[order]
        sorted_keys = by_key_then_time(key[order], event_time[order])
        key_index = np.searchsorted(distinct, row_keys)  # (I, M)
        has_events = key_index < len(distinct)
        has_events[has_events] = distinct[key_index[has_events]] == row_keys[has_events]
        first = np.searchsorted(sorted_keys, by_key_then_time(key_index, np.zeros_like(key_index)))
        last = np.searchsorted(sorted_keys, by_key_then_time(key_index, (time - self.begins)[:, None]))
        last = np.where(has_events, last, first)
        count = (last - first).sum(1)
        table.columns[f"{name}_events"] = count
        for feedback, has_value in self.has_feedback.items():
            total = np.concatenate([[0], np.cumsum(has_value[event])])
            share = (total[last] - total[first]).sum(1) / np.maximum(count, 1)
            table.columns[f"{name}_{feedback}"] = np.where(count > 0, share, np.nan)


def _user_value_keys(user: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Return one key for each pair of a user (n,) and a value (n, M); value 0 has the key -1."""
    return np.where(values > 0, user[:, None] * size + values, -1)
