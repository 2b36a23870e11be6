"""Features that an engineer would make by hand for trees: the row's fields, and counts and shares of what happened before it.

All of a row's features lie strictly before the row's second.

Shapes: I rows, N events, M values of a multi field, R feedback values.
"""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from openlum.data.time_fields import by_key_then_time
from openlum.rank.batches import RankingData, Rows
from openlum.rank.settings import RankerConfig
from openlum.schema import FieldSpec

MOST_INDICATORS = 64
"""Multi fields with more values get no column a value, only their counts and shares."""


@dataclass
class Made:
    """Columns, and which of them are categories."""

    columns: dict[str, np.ndarray] = field(default_factory=dict)
    """Name to (I,)."""
    categories: set[str] = field(default_factory=set)
    """Names of categorical columns."""


class HandFeatures:
    """Makes features of rows.

    Args:
        data: whose rows and events they are made of.
        config: of the ranker.
    """

    def __init__(self, data: RankingData, config: RankerConfig) -> None:
        self.data, self.config = data, config
        sequences = data.dataset.sequences
        self.user = np.repeat(sequences.user, np.diff(sequences.offsets))  # (N,)
        self.events = sequences
        self.begins = int(
            min(sequences.time.min(initial=0), *(int(r.time.min()) if len(r) else 0 for r in data.rows.values()))
        )
        feedback = [spec for spec in data.dataset.specs("condition") if spec.feedback and spec.type == "categorical"]
        self.outcomes = {
            f"{spec.name}_{value}": (sequences.condition[spec.name] == value).astype(np.float64)
            for spec in feedback
            for value in range(1, spec.size)
        }  # each (N,)

    def __call__(self, rows: Rows) -> Made:
        """The features of rows."""
        made = Made()
        user, item, time = rows.user.numpy(), rows.item.numpy(), rows.time.numpy()
        for spec in self.config.features:
            kind, name = spec.name.split(".", 1)
            values = self.data.user_features[name][rows.user] if kind == "user" else rows.features[spec.name]
            self._field(made, spec, values)
        for spec in self.config.item:
            named = spec.model_copy(update={"name": f"item.{spec.name}"})
            self._field(made, named, self.data.item_features[spec.name][rows.item])
        self._past(made, "user", self.user[:, None], user[:, None], time)
        self._past(made, "item", self.events.item[:, None], item[:, None], time)
        for spec in self.config.item:
            if spec.type in ("categorical", "multi"):
                table = self.data.item_features[spec.name].numpy()
                table = table.reshape(len(table), -1)  # (V, M)
                of_events = _pairs(self.user, table[self.events.item], spec.size)
                self._past(made, f"user_{spec.name}", of_events, _pairs(user, table[item], spec.size), time)
        return made

    def _field(self, made: Made, spec: FieldSpec, values: Tensor) -> None:
        array = values.numpy()
        if spec.type == "categorical":
            made.columns[spec.name] = array
            made.categories.add(spec.name)
        elif spec.type == "multi":
            if spec.size <= MOST_INDICATORS:
                for value in range(1, spec.size):
                    made.columns[f"{spec.name}_{value}"] = (array == value).any(1)
        elif array.ndim == 1:
            made.columns[spec.name] = array
        else:
            for index in range(array.shape[1]):
                made.columns[f"{spec.name}_{index}"] = array[:, index]

    def _past(self, made: Made, name: str, keys: np.ndarray, wanted: np.ndarray, time: np.ndarray) -> None:
        """How many events with one of the wanted keys, (I, M), lie before the rows, and the share of each feedback value in them.

        A key of -1 is none. `keys` are those of the events, (N, M).
        """
        place, column = np.nonzero(keys >= 0)
        distinct, key = np.unique(keys[place, column], return_inverse=True)
        when = self.events.time[place] - self.begins
        order = np.lexsort((when, key))
        place = place[order]
        sorted_by = by_key_then_time(key[order], when[order])
        number = np.searchsorted(distinct, wanted)  # (I, M)
        there = number < len(distinct)
        there[there] = distinct[number[there]] == wanted[there]
        first = np.searchsorted(sorted_by, by_key_then_time(number, np.zeros_like(number)))
        last = np.searchsorted(sorted_by, by_key_then_time(number, (time - self.begins)[:, None]))
        last = np.where(there, last, first)
        count = (last - first).sum(1)
        made.columns[f"{name}_events"] = count
        for outcome, happened in self.outcomes.items():
            total = np.concatenate([[0], np.cumsum(happened[place])])
            share = (total[last] - total[first]).sum(1) / np.maximum(count, 1)
            made.columns[f"{name}_{outcome}"] = np.where(count > 0, share, np.nan)


def _pairs(user: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """User (n,) and values (n, M) to one key each, (n, M); value 0 has none."""
    return np.where(values > 0, user[:, None] * size + values, -1)
