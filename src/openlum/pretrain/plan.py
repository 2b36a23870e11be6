"""The plan of a pre-training: numbers for all keys that are `auto`, from the size of the log and the kind of device."""

import math
from dataclasses import dataclass

import torch

from openlum.data.dataset import Dataset
from openlum.model.settings import ModelSettings
from openlum.model.size import encoder_parameters
from openlum.pretrain.settings import PretrainSettings
from openlum.training.plan import (
    LogSize,
    duration,
    has_gpu,
    log_size,
    passes,
    plan_batch,
    plan_learning_rate,
    plan_model,
    plan_steps,
    warmup_fraction,
)

OPERATIONS_PER_SECOND = {"core": 1.6e10, "gpu": 5e12}
"""Floating-point operations that a training of a small model does per second, for an estimate of its time."""
STEP_SECONDS = 0.01
"""Time of a step that does not depend on its size."""


@dataclass(frozen=True)
class TrainingPlan:
    """The settings of a training with numbers for all keys, and the size of the log that they were planned for."""

    model: ModelSettings
    settings: PretrainSettings
    log: LogSize

    @property
    def steps(self) -> int:
        """About the number of steps, if the training does not end earlier."""
        return max(self.settings.epochs * math.ceil(self.log.events / self.settings.batch_events), 1)

    def __str__(self) -> str:
        """Return the plan in one line."""
        time = duration(self.seconds(torch.get_num_threads(), has_gpu()))
        batch = min(self.settings.batch_events, self.log.events)
        return (
            f"{self.log.events:,} events: at most {self.steps:,} steps of {batch:,} events, "
            f"width {self.model.width}; {time}"
        )

    def seconds(self, threads: int, gpu: bool) -> float:
        """Return an estimate of the time of all steps."""
        settings, shape = self.settings, self.model
        candidates = self.log.items if self.log.items <= settings.full_softmax_items else settings.negatives
        questions = 2 + 3 * settings.feedback_contrast_positions
        operations = 6 * ((2 + questions) * encoder_parameters(shape) + shape.embedding_width * candidates)  # an event
        speed = OPERATIONS_PER_SECOND["gpu"] if gpu else OPERATIONS_PER_SECOND["core"] * threads
        return self.steps * (STEP_SECONDS + min(settings.batch_events, self.log.events) * operations / speed)


def plan_pretraining(log: LogSize, gpu: bool, model: ModelSettings, settings: PretrainSettings) -> TrainingPlan:
    """Return settings with a number for every key. Keys that the user has set stay. The same inputs give the same plan.

    Args:
        log: size of the training events.
        gpu: whether the training is on a GPU.
        model: shape of the model.
        settings: of the training.
    """
    model, batch = plan_model(log, model), plan_batch(log, gpu)
    batch = batch if settings.is_auto("batch_events") else settings.batch_events
    epochs = passes(log.events, batch, plan_steps(log), fewest=2, most=40)
    epochs = epochs if settings.is_auto("epochs") else settings.epochs
    planned = settings.with_plan(
        {
            "batch_events": batch,
            "epochs": epochs,
            "learning_rate": plan_learning_rate(model.width),
            "warmup": warmup_fraction(epochs * math.ceil(log.events / batch)),
            "patience": max(2, math.ceil(epochs / 4)),
        }
    )
    return TrainingPlan(model, planned, log)


def plan_for(dataset: Dataset, model: ModelSettings, settings: PretrainSettings) -> TrainingPlan:
    """Return `plan_pretraining` for a dataset and this machine."""
    return plan_pretraining(log_size(dataset, settings.protocol), has_gpu(), model, settings)
