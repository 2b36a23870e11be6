"""The first pass over the training events: what the training must know before its first step.

Shapes: V items.
"""

from dataclasses import dataclass

import numpy as np

from openlum.data.loader import TrainingLoader
from openlum.data.packing import batches, training_events


@dataclass(frozen=True)
class TrainingSet:
    """Numbers of training events, users and steps."""

    item_counts: np.ndarray
    """(V,) number of training events of each item."""
    events: int
    """Number of training events."""
    users: int
    """Number of users with training events."""
    steps_per_epoch: int
    """Number of steps of the first epoch; those of later epochs differ by a few."""


def count_training_set(loader: TrainingLoader, items: int) -> TrainingSet:
    """Read all shards once, in the order of the first epoch, and return the numbers. The loader is closed and keeps its position.

    Args:
        loader: of one process.
        items: V.
    """
    state, item_counts = loader.state(), np.zeros(items, np.int64)
    users = steps = 0
    loader.load_state({"epoch": 0, "buffer": 0, "batch": 0})
    while loader.epoch == 0:
        loader.open()
        end = loader.training_end(loader.sequences)  # (U,)
        events = training_events(loader.sequences, end)
        item_counts += np.bincount(loader.sequences.item[events], minlength=items)
        users += int((end > 0).sum())
        steps += sum(1 for _ in batches(loader.spans(), loader.batch_events))
        loader.skip_buffer()
    loader.close()
    loader.load_state(state)
    return TrainingSet(item_counts, int(item_counts.sum()), users, steps)
