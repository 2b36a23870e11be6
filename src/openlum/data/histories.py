"""Histories of known users in raw values, as `LargeUserModel.ask` reads them.

Shapes: N events, M values of a multi field, W width of a vector.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from openlum.arguments.values import nearest, shown
from openlum.data.vocabulary import Vocabulary
from openlum.errors import InputError
from openlum.field_spec import FieldSpec


class RawDataset(Protocol):
    """The parts of a `Dataset` that this module needs."""

    @property
    def info(self) -> Any: ...
    @property
    def sequences(self) -> Any: ...
    def vocabulary(self, name: str) -> Vocabulary: ...
    def vocabularies(self, kind: str) -> dict[str, Vocabulary]: ...
    def specs(self, kind: str) -> list[FieldSpec]: ...


def raw_histories(dataset: RawDataset, users: Sequence[Any] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return the events of users in raw values; see `Dataset.histories`."""
    vocabulary = dataset.vocabulary("users")
    sequences = dataset.sequences
    if users is None:
        names, ids = vocabulary.decode(sequences.user), sequences.user
    else:
        if isinstance(users, str | bytes) or not hasattr(users, "__len__"):
            raise InputError(f"user_ids: expected a list of user ids, found {shown(users)}")
        ids = vocabulary.encode(users)
        for user, index in zip(users, ids, strict=True):
            if index == 0:
                raise InputError(f"user_ids: the dataset has no user {shown(user)}; {nearest(user, vocabulary.values)}")
        names = vocabulary.decode(ids)
    return {
        name: raw_history(dataset, row) if row >= 0 else []
        for name, row in zip(names, sequences.user_index(ids).tolist(), strict=True)
    }


def raw_history(dataset: RawDataset, user_index: int) -> list[dict[str, Any]]:
    """Return the events of one user in raw values.

    Args:
        dataset: the dataset.
        user_index: row of the user in `dataset.sequences`.
    """
    sequences = dataset.sequences
    events = slice(int(sequences.offsets[user_index]), int(sequences.offsets[user_index + 1]))
    items = dataset.vocabulary("items").decode(sequences.item[events])
    history: list[dict[str, Any]] = [
        {"item": item, "time": int(time)} for item, time in zip(items, sequences.time[events], strict=True)
    ]
    vocabularies = dataset.vocabularies("condition")
    for spec in dataset.specs("condition"):
        if spec.hashed or spec.name in dataset.info.data_schema.time_fields:
            continue
        values = vocabularies[spec.name].values if spec.name in vocabularies else []
        for event, encoded in zip(history, sequences.condition[spec.name][events], strict=True):
            raw = _raw_value(spec, values, encoded)
            if raw is not None:
                event[spec.name] = raw
    return history


def _raw_value(spec: FieldSpec, values: Sequence[str], encoded: np.ndarray) -> Any:
    """Return a raw value that is encoded as `encoded`, () or (M,) or (W,); None for *any*."""
    if not spec.size:
        if not np.isfinite(encoded).all():
            return None
        return encoded.tolist() if spec.type == "vector" else float(encoded) * spec.std + spec.mean
    if spec.edges is not None:  # a number in buckets: the largest number of its bucket
        index = int(encoded)
        if index == 0:
            return None
        return float(spec.edges[index - 1]) if index <= len(spec.edges) else _above(spec.edges)
    ids = [int(index) for index in np.atleast_1d(encoded) if index > 0]
    if not ids:
        return None
    return [values[index - 1] for index in ids] if spec.type == "multi" else values[ids[0] - 1]


def _above(edges: Sequence[float]) -> float:
    """Return a number in the last bucket."""
    return math.nextafter(edges[-1], math.inf) if edges else 0.0
