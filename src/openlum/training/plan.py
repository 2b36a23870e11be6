"""The plan of a training: numbers for keys that are `auto`, from the size of the log. What all kinds of trainings share.

The rules come from measurements on validation events and rows only: `docs/experiments/plan.md`. They depend on the log and on the
kind of device, not on the number of cores, so that a training gives the same model on two machines of a kind.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from openlum.data.dataset import Dataset
from openlum.data.packing import Protocol, training_end, training_events
from openlum.model.settings import ModelSettings
from openlum.model.size import shape_of

STEPS = 2000
"""Steps of a training on a log of up to `SMALL_LOG` events."""
SMALL_LOG = 200_000
LARGEST_BATCH = {"cpu": 2048, "gpu": 16_384}
"""Kind of device to the largest planned number of events of a step."""
WARMUP_STEPS = 150
"""Steps in which the learning rate rises, if there are enough steps."""


@dataclass(frozen=True)
class LogSize:
    """The size of the part of a log that a model is trained on."""

    events: int
    """Number of training events."""
    users: int
    """Number of users with training events."""
    items: int
    """Number of items with training events."""
    median_length: int
    """Median number of training events of these users."""


def log_size(dataset: Dataset, protocol: Protocol) -> LogSize:
    """Return the size of the training events of a dataset under a protocol. The events are read once, some shards at a time."""
    lengths, trained = [], np.zeros(len(dataset.vocabulary("items")), bool)
    for sequences in dataset.groups_of_sequences():
        end = training_end(sequences, dataset.info, protocol)  # (U,)
        trained[sequences.item[training_events(sequences, end)]] = True
        lengths.append(end[end > 0])
        del sequences  # leaves the memory before the next group is read
    length = np.concatenate(lengths)
    return LogSize(int(length.sum()), len(length), int(trained[1:].sum()), int(np.median(length)) if len(length) else 0)


def plan_model(log: LogSize, model: ModelSettings) -> ModelSettings:
    """Return a model's settings with numbers for all keys: shape and dropout.

    Without the user's `size`, the size is 100,000 parameters (two layers of width 64) up to a million events. Above, it grows as
    the square root of the events.
    """
    size = model.size or round(100_000 * max(log.events / 1e6, 1.0) ** 0.5)
    return model.with_plan(shape_of(size, model) | {"dropout": 0.2 if log.events < 500_000 else 0.1})


def plan_batch(log: LogSize, gpu: bool) -> int:
    """Return the number of events of a step: 256 for 30,000 events, and about 0.4 powers of ten more for ten times the events."""
    return power_of_two(256 * (log.events / 30_000) ** 0.4, 64, LARGEST_BATCH["gpu" if gpu else "cpu"])


def plan_steps(log: LogSize) -> int:
    """Return the number of steps that a log needs: `STEPS`, and slowly more for more than `SMALL_LOG` events."""
    return round(STEPS * max(log.events / SMALL_LOG, 1.0) ** 0.35)


def plan_learning_rate(width: int) -> float:
    """Return the peak learning rate of AdamW: 0.002 for width 64. It falls as the square root of the width."""
    return float(f"{min(2e-3 * math.sqrt(64 / width), 3e-3):.2g}")


def has_gpu() -> bool:
    """Return whether models are trained on a GPU."""
    return torch.cuda.is_available()


def power_of_two(value: float, smallest: int, largest: int) -> int:
    """Return the power of two that is nearest to a positive number by ratio, within limits that are powers of two."""
    return int(min(max(2 ** round(math.log2(max(value, 1.0))), smallest), largest))


def passes(examples: int, batch: int, steps: int, fewest: int, most: int) -> int:
    """Return the number of passes over the training examples that gives about `steps` steps, within limits."""
    return min(max(round(steps * batch / max(examples, 1)), fewest), most)


def warmup_fraction(steps: int) -> float:
    """Return the fraction of the steps in which the learning rate rises: `WARMUP_STEPS`, but at most a tenth."""
    return round(min(WARMUP_STEPS / max(steps, 1), 0.1), 4)


def duration(seconds: float) -> str:
    """Return a duration in words, with the precision of an estimate.

    Example:
        >>> duration(230), duration(20), duration(9000)
        ('about 4 minutes', 'less than a minute', 'about 2.5 hours')
    """
    if seconds < 50:
        return "less than a minute"
    if seconds < 90:
        return "about a minute"
    return f"about {seconds / 60:.0f} minutes" if seconds < 5400 else f"about {seconds / 3600:.1f} hours"
