"""Behaviours and rows of rankers, collected from the shards of a dataset.

Shapes: I rows of a split, N events of a shard, V items, n behaviours of all users.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from openlum.data.dataset import SPLITS, Dataset, Split
from openlum.data.sequences import Impressions, Sequences, concatenate
from openlum.model.batch import Fields


@dataclass
class CollectedRows:
    """The impressions of a split, by row id, and their histories."""

    impressions: Impressions
    """The I impressions."""
    history_start: np.ndarray
    """(I,) index of the user's first behaviour in `CollectedBehaviours`."""
    history_stop: np.ndarray
    """(I,) index one past the last behaviour that lies before the row."""


@dataclass
class CollectedBehaviours:
    """The behaviours of all users end to end, shard by shard. Ids are int32."""

    item: torch.Tensor
    """(n,) item ids."""
    condition: Fields
    """Condition fields, (n, ...)."""
    trained_items: torch.Tensor
    """(V,) bool: the items of behaviours in the training period."""
    trained_items_of_events: torch.Tensor
    """(V,) bool: the items of all events in the training period."""
    rows: dict[Split, CollectedRows] = field(default_factory=dict)
    """The rows of each split."""


def collect(dataset: Dataset, fields: list[str], where: Mapping[str, np.ndarray], items: int) -> CollectedBehaviours:
    """Read the shards one by one, and return the behaviours and the rows of all users.

    Args:
        dataset: from `lum prepare`.
        fields: names of the condition fields of a behaviour, without time fields.
        where: an event is a behaviour if each of these condition fields has one of these ids.
        items: V.
    """
    item, condition = [np.empty(0, np.int32)], {name: [] for name in fields}  # type: ignore[var-annotated]
    trained = np.zeros((2, items), bool)
    rows: dict[Split, list[tuple[Impressions, np.ndarray, np.ndarray]]] = {split: [] for split in SPLITS}
    number = 0
    for shard in dataset.shards():
        sequences = shard.sequences
        mask = behaviour_mask(sequences, where)
        early = sequences.time < dataset.info.valid_time
        trained[0, sequences.item[mask & early]] = trained[1, sequences.item[early]] = True
        before = number + np.concatenate([[0], np.cumsum(mask)])  # (N + 1,)
        item.append(sequences.item[mask])
        for name, values in condition.items():
            values.append(sequences.condition[name][mask])
        for split in SPLITS:
            impressions = shard.impressions(split)
            user_index = sequences.user_index(impressions.user)
            start = np.where(user_index < 0, 0, sequences.offsets[np.maximum(user_index, 0)])  # (I,) into the events
            stop = start + np.where(user_index < 0, 0, impressions.prefix)
            rows[split].append((impressions, before[start], before[stop]))
        number += int(mask.sum())
    return CollectedBehaviours(
        torch.from_numpy(np.concatenate(item)),
        {name: torch.from_numpy(np.concatenate(values)) for name, values in condition.items()},
        trained_items=torch.from_numpy(trained[0]),
        trained_items_of_events=torch.from_numpy(trained[1]),
        rows={split: _joined(parts) for split, parts in rows.items()},
    )


def behaviour_mask(sequences: Sequences, where: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return which events are behaviours, (N,) bool; `where` is that of `collect`."""
    mask = np.ones(len(sequences.item), bool)
    for name, ids in where.items():
        matches = np.isin(sequences.condition[name], ids)
        mask &= matches.any(-1) if matches.ndim > 1 else matches
    return mask


def _joined(parts: list[tuple[Impressions, np.ndarray, np.ndarray]]) -> CollectedRows:
    impressions, start, stop = (list(values) for values in zip(*parts, strict=True))
    order = np.argsort(np.concatenate([part.row for part in impressions]), kind="stable")
    return CollectedRows(
        concatenate(impressions).take(order), np.concatenate(start)[order], np.concatenate(stop)[order]
    )
