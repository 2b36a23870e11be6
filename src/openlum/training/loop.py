"""The training loop of the Large User Model, the network rankers and the next-item models.

A subclass gives the batches, the loss of a batch and the validation. The loop does the optimiser steps, sets the learning rate,
keeps the weights of the best validation in a file, ends the training, and writes checkpoints. If the random draws of a subclass
depend on the seed and the step only, a resumed training gives the same weights as an uninterrupted one.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from openlum.data.loader import TrainingLoader
from openlum.errors import InputError
from openlum.training import checkpoint
from openlum.training.checkpoint import TrainingProgress


@dataclass(frozen=True)
class LoopSettings:
    """When a training is validated, saved and ended."""

    epochs: int
    """Maximum number of passes over the training data."""
    patience: int
    """The training ends after this number of consecutive validations without a better score."""
    higher_is_better: bool
    """Whether a higher score of a validation is better; otherwise a lower one is."""
    remedy: str
    """What to do if the training diverges, for the message, such as "lower pretrain.learning_rate"."""
    steps: int | None = None
    """Maximum number of steps."""
    validation_steps: int | None = None
    """The model is validated every time this number of steps is done, and at the end; by default after every epoch."""
    validates_first: bool = False
    """Whether the model is also validated before the first step, so that the training must beat its initial weights."""
    checkpoint_steps: int | None = None
    """A checkpoint is written every time this number of steps is done, after every epoch and after every validation. By default,
    there are no checkpoints."""
    gradient_clip: float | None = None
    """Maximum norm of the gradient."""


@dataclass(frozen=True)
class BatchLoss:
    """The loss of a batch."""

    total: Tensor | None
    """The loss, (); None if there is nothing to learn from this batch. The step then changes no weight."""
    size: int
    """Number of events or rows in the batch: the weight of the batch in the mean loss."""
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Parts of the loss by name, () each, for the metrics."""


@dataclass(frozen=True)
class Validation:
    """The result of a validation."""

    score: float | None
    """The score that decides which weights are kept. None if nothing can be measured: then the last weights are kept."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Further metrics by name."""


class DivergedError(InputError):
    """The loss, or the score of a validation, is not finite."""


class TrainingLoop:
    """The training of a model. A subclass calls this constructor last, because it asks for the first `rate`.

    Args:
        model: to train, on its device.
        optimizer: of the model's parameters; its learning rate is the peak of the schedule.
        limits: when the training is validated, saved and ended.
        directory: directory for the best weights and the checkpoints.
        loader: the source of the batches, if checkpoints must have its position.
    """

    rate_by_epoch = False
    """Whether the learning rate changes after every epoch instead of every step."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        limits: LoopSettings,
        directory: Path,
        loader: TrainingLoader | None = None,
    ) -> None:
        self.model, self.loader = model, loader
        self.optimizer, self.limits, self.directory = optimizer, limits, directory
        self.progress = TrainingProgress()
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])  # the peak, which LambdaLR multiplies
        self._scheduler = self._new_scheduler()
        directory.mkdir(parents=True, exist_ok=True)

    def batches(self, epoch: int) -> Iterator[Any]:
        """Yield the remaining batches of an epoch, counted from 0."""
        raise NotImplementedError

    def loss(self, batch: Any) -> BatchLoss:
        """Return the loss of a batch."""
        raise NotImplementedError

    def validate(self) -> Validation:
        """Validate the current weights."""
        raise NotImplementedError

    def rate(self, position: int) -> float:
        """Return the learning rate as a fraction of the peak at a step, or in an epoch, counted from 0."""
        return 1.0

    def on_step(self, metrics: dict[str, float]) -> None:
        """Called after every step with `loss` (unless the batch had none), the parts of the loss and the learning rate `lr`."""

    def on_validation(self, validation: Validation, is_best: bool) -> None:
        """Called after every validation, with its result and whether it is the best so far."""

    @property
    def is_finished(self) -> bool:
        """Whether the training is at its end."""
        limits, progress = self.limits, self.progress
        is_over = progress.epoch >= limits.epochs or progress.without_gain >= limits.patience
        return is_over or (limits.steps is not None and progress.step >= limits.steps)

    @property
    def mean_loss(self) -> float:
        """The mean training loss per event or row since the last validation."""
        return self.progress.loss_sum / max(self.progress.loss_size, 1)

    def expected_steps(self, steps_per_epoch: int) -> int:
        """Return the number of steps of the whole training: exact at the end, until then with `steps_per_epoch` to come."""
        if self.is_finished:
            return self.progress.step
        this_epoch = max(steps_per_epoch, self.progress.epoch_steps)
        later = (self.limits.epochs - self.progress.epoch - 1) * steps_per_epoch
        expected = self.progress.step - self.progress.epoch_steps + this_epoch + later
        return min(expected, self.limits.steps or expected)

    def resume(self) -> None:
        """Continue from the newest checkpoint, if there is one."""
        progress = checkpoint.load_checkpoint(self.directory, self.model, self.optimizer)
        if progress:
            self.progress = progress
            self._scheduler = self._new_scheduler()
            if self.loader:
                self.loader.load_state(progress.position)

    def run(self, until: int | None = None) -> None:
        """Train to the end. Afterwards the model has the weights of the best validation, in evaluation mode.

        Args:
            until: stop after this step, like an interruption. The model keeps the weights of this step.

        Raises:
            DivergedError: the loss or the score is not finite. `load_best` still loads the weights of the best validation.
        """
        if self.limits.validates_first and self.progress.best is None:
            self._validate()
        while not self.is_finished:
            self.model.train()
            for batch in self.batches(self.progress.epoch):
                self.on_step(self.step(batch))
                if self.progress.step == until:
                    return
                if self._is_due(self.limits.validation_steps) or self.progress.step == self.limits.steps:
                    self._validate()
                    self.model.train()
                elif self._is_due(self.limits.checkpoint_steps):
                    self._checkpoint()
                if self.is_finished:
                    break
            else:
                self._end_epoch()
        self.load_best()

    def step(self, batch: Any) -> dict[str, float]:
        """Do one optimiser step and return its metrics, see `on_step`."""
        start_time, progress = time.perf_counter(), self.progress
        loss, learning_rate = self.loss(batch), self.optimizer.param_groups[0]["lr"]
        metrics: dict[str, float] = {}
        self.optimizer.zero_grad()
        if loss.total is not None:
            value = float(loss.total.detach())
            self._check_finite("training loss", value)
            loss.total.backward()
            if self.limits.gradient_clip:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.limits.gradient_clip)
            metrics = {"loss": value} | {name: float(part.detach()) for name, part in loss.parts.items()}
            progress.loss_sum, progress.loss_size = (
                progress.loss_sum + value * loss.size,
                progress.loss_size + loss.size,
            )
        self.optimizer.step()  # without a loss no parameter has a gradient, so none changes
        if not self.rate_by_epoch:
            self._scheduler.step()
        progress.step, progress.epoch_steps = progress.step + 1, progress.epoch_steps + 1
        progress.size += loss.size
        progress.seconds += time.perf_counter() - start_time
        return metrics | {"lr": learning_rate}

    def load_best(self) -> None:
        """Load the weights of the best validation into the model, in evaluation mode.

        Raises:
            InputError: the file of the weights is damaged.
        """
        assert self.progress.best is not None
        checkpoint.load_best(self.directory, self.model, self.progress.best)
        self.model.eval()

    def _new_scheduler(self) -> LambdaLR:
        """Return the scheduler at the current position. Its state is the number of steps, or of epochs, and nothing else."""
        position = self.progress.epoch if self.rate_by_epoch else self.progress.step
        return LambdaLR(self.optimizer, self.rate, last_epoch=position - 1)

    def _is_due(self, interval: int | None) -> bool:
        return interval is not None and self.progress.step % interval == 0

    def _end_epoch(self) -> None:
        """Count the epoch; validate, unless validations are counted in steps and more steps follow."""
        self.progress.epoch, self.progress.epoch_steps = self.progress.epoch + 1, 0
        if self.rate_by_epoch:
            self._scheduler.step()
        is_validated = self.progress.validated_step == self.progress.step
        if self.limits.validation_steps is None or (self.is_finished and not is_validated):
            self._validate()
        else:
            self._checkpoint()

    def _validate(self) -> None:
        """Validate the current weights, keep them if they are the best, and write a checkpoint."""
        validation, progress, best = self.validate(), self.progress, self.progress.best
        score = validation.score
        if score is not None:
            self._check_finite("validation score", score)
        is_best = best is None or best.score is None or score is None or self._is_better(score, best.score)
        if is_best:
            progress.best = checkpoint.save_best(self.directory, self.model, progress.step, score, validation.metrics)
        progress.without_gain = 0 if is_best else progress.without_gain + 1
        progress.validated_step = progress.step
        self.on_validation(validation, is_best)
        progress.loss_sum, progress.loss_size = 0.0, 0
        self._checkpoint()

    def _is_better(self, score: float, best: float) -> bool:
        return score > best if self.limits.higher_is_better else score < best

    def _checkpoint(self) -> None:
        """Write a checkpoint, if the training has checkpoints; then delete weights that are no longer the best."""
        if self.limits.checkpoint_steps:
            self.progress.position = self.loader.state() if self.loader else {}
            checkpoint.save_checkpoint(self.directory, self.model, self.optimizer, self.progress)
        checkpoint.delete_outdated_weights(self.directory, self.progress)

    def _check_finite(self, name: str, value: float) -> None:
        """Raise a `DivergedError` for a number that is not finite."""
        if not math.isfinite(value):
            raise DivergedError(f"the {name} is {value} at step {self.progress.step}; {self.limits.remedy}")
