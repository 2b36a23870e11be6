"""The plan of a next-item model: numbers for keys that are `auto`, from the size of the log and the kind of device."""

import math

from openlum.data.dataset import Dataset
from openlum.retrieve.settings import SequentialSettings
from openlum.training.plan import (
    LogSize,
    has_gpu,
    log_size,
    passes,
    plan_batch,
    plan_learning_rate,
    plan_model,
    plan_steps,
)

STEPS_FACTOR = 2
"""A next-item model has one token per event and one loss. It may take this many times the steps of a Large User Model."""


def plan_sequential(log: LogSize, gpu: bool, settings: SequentialSettings) -> SequentialSettings:
    """Return settings with a number for every key. Keys that the user has set stay.

    Args:
        log: size of the training events.
        gpu: whether the training is on a GPU.
        settings: of the next-item model.
    """
    model, batch = plan_model(log, settings.model), plan_batch(log, gpu)
    batch = batch if settings.is_auto("batch_events") else settings.batch_events
    epochs = passes(log.events, batch, STEPS_FACTOR * plan_steps(log), fewest=4, most=60)
    epochs = epochs if settings.is_auto("epochs") else settings.epochs
    return settings.model_copy(update={"model": model}).with_plan(
        {
            "batch_events": batch,
            "epochs": epochs,
            "learning_rate": plan_learning_rate(model.width),
            "patience": max(3, math.ceil(epochs / 4)),
        }
    )


def plan_sequential_for(dataset: Dataset, settings: SequentialSettings) -> SequentialSettings:
    """Return `plan_sequential` for a dataset and this machine."""
    return plan_sequential(log_size(dataset, "last"), has_gpu(), settings)
