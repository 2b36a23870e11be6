"""Training of one ranker: binary cross-entropy, early stopping on the validation AUC.

Shapes: B rows of a batch, I rows of a split.
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openlum.errors import InputError
from openlum.evaluation.metrics import auc, log_loss
from openlum.model import default_device
from openlum.rank.batches import RankingData
from openlum.rank.rankers import AnyRanker, new_ranker
from openlum.rank.rankers.base import Ranker
from openlum.rank.rankers.generative import GenerativeRanker
from openlum.rank.rankers.late_fusion import LateFusionRanker
from openlum.rank.registry import RANKERS
from openlum.rank.settings import RankerConfig
from openlum.training.loop import BatchLoss, DivergedError, LoopSettings, TrainingLoop, Validation
from openlum.training.schedule import cosine_rate

StepCallback = Callable[[str], None]


@dataclass
class Epoch:
    """Figures of one pass over the training rows."""

    loss: float
    """Mean training loss."""
    valid_auc: float
    """AUC on the validation rows."""
    valid_logloss: float
    """Log loss on the validation rows."""
    seconds: float
    """Duration of the pass, validation included."""


@dataclass
class TrainedRanker:
    """A trained ranker and the course of its training."""

    ranker: AnyRanker
    """The ranker with the weights of the best epoch."""
    best_epoch: int
    """The best epoch, counted from 1. For a ranker that trains itself, the number of its steps (trees). With late fusion it is
    the plain ranker's."""
    valid: np.ndarray
    """(I,) predictions of the validation rows; with late fusion, cross-fitted over users."""
    epochs: list[Epoch] = field(default_factory=list)
    """All passes over the training rows; empty for trees and with late fusion, where the plain ranker has them."""


def build_ranker(config: RankerConfig, data: RankingData, seed: int) -> Ranker | GenerativeRanker:
    """Return a new network, on a GPU if there is one.

    The weights of its plain part depend on the seed alone, not on whether it reads knowledge.
    """
    torch.manual_seed(seed)
    ranker = new_ranker(config)
    assert isinstance(ranker, Ranker | GenerativeRanker)
    ranker.items.set_features(data.item_features)
    ranker.items.set_trained_items(data.trained_items(config))
    return ranker.to(default_device())


def fit(
    config: RankerConfig,
    data: RankingData,
    seed: int,
    step_done: StepCallback = lambda note: None,
    plain: TrainedRanker | None = None,
) -> TrainedRanker:
    """Train a ranker.

    Args:
        config: the ranker's configuration.
        data: the data.
        seed: seed of the weights, the order of the rows and dropout.
        step_done: called after every step with a short note on the progress.
        plain: the same ranker with the same seed, trained without knowledge; late fusion starts from it. By default it is trained
            first.

    Raises:
        InputError: a library that the ranker needs is not installed, or the training diverges in its first epoch.
    """
    if config.late_fusion:
        plain = plain or fit(config.plain, data, seed, step_done)
        late = LateFusionRanker(config, plain.ranker)
        return TrainedRanker(late, plain.best_epoch, late.fit(data))
    if not issubclass(RANKERS.load(config.architecture), nn.Module):
        self_trained: Any = new_ranker(config)
        steps_kept = len(self_trained.fit(data, seed, step_done))
        return TrainedRanker(self_trained, steps_kept, self_trained.predict(data, data.rows["valid"]))
    ranker = build_ranker(config, data, seed)
    torch.manual_seed(seed)  # makes dropout independent of the draws of the initialisation
    with tempfile.TemporaryDirectory() as directory:
        training = _NetworkTraining(ranker, data, seed, step_done, Path(directory))
        try:
            training.run()
        except DivergedError as error:
            if not training.result.epochs:
                raise InputError(f"{config.architecture}: diverged in its first epoch, {error}") from None
            training.load_best()
    return training.result


class _NetworkTraining(TrainingLoop):
    """The training of a network on rows, or on windows of histories with all rows that look back into them."""

    model: Ranker | GenerativeRanker

    def __init__(
        self, ranker: Ranker | GenerativeRanker, data: RankingData, seed: int, step_done: StepCallback, directory: Path
    ) -> None:
        settings = ranker.config.settings
        self.data, self.settings, self.seed, self.step_done = data, settings, seed, step_done
        self.order = torch.Generator().manual_seed(seed)
        self.prediction = np.empty(0, np.float32)
        self.result = TrainedRanker(ranker, 0, self.prediction)
        self.epoch_start = time.perf_counter()
        self.rate_by_epoch = isinstance(ranker, GenerativeRanker)
        peak = (settings.sequence if self.rate_by_epoch else settings).learning_rate
        optimizer = torch.optim.AdamW(ranker.parameters(), peak, weight_decay=settings.weight_decay, fused=True)
        limits = LoopSettings(
            settings.max_epochs, settings.patience, higher_is_better=True, remedy=f"lower {ranker.learning_rate_key}"
        )
        super().__init__(ranker, optimizer, limits, directory)

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield logits and labels, (B,) each, of every batch in random order."""
        train = self.data.rows["train"]
        if isinstance(self.model, GenerativeRanker):
            rng = np.random.default_rng((self.seed, epoch + 1))
            for index, logits in self.model.batch_logits(self.data, train, rng):
                yield logits, train.label[index]
        else:
            order = torch.randperm(len(train), generator=self.order)
            for batch, label in self.data.batches(train, order, self.model.config):
                yield self.model(batch), label

    def loss(self, batch: tuple[Tensor, Tensor]) -> BatchLoss:
        """Return the binary cross-entropy of logits and labels, (B,) each."""
        logits, label = batch
        return BatchLoss(F.binary_cross_entropy_with_logits(logits, label.to(logits.device)), len(label))

    def validate(self) -> Validation:
        """Return the AUC on the validation rows as the score; no score if all rows have the same label."""
        valid = self.data.rows["valid"]
        label, self.prediction = valid.label.numpy(), self.model.predict(self.data, valid)
        if not np.isfinite(self.prediction).all():
            return Validation(math.nan)
        metrics = {"auc": auc(label, self.prediction), "logloss": log_loss(label, self.prediction)}
        return Validation(metrics["auc"] if math.isfinite(metrics["auc"]) else None, metrics)

    def rate(self, position: int) -> float:
        """Return the learning rate as a fraction of the peak: constant, or for a generative ranker a cosine over the epochs."""
        return cosine_rate(position / max(self.settings.max_epochs - 1, 1)) if self.rate_by_epoch else 1.0

    def on_step(self, metrics: dict[str, float]) -> None:
        """Report the loss and the best AUC so far."""
        best = self.progress.best
        note = f", best validation AUC {best.metrics['auc']:.4f}" if best else ""
        self.step_done(f"epoch {self.progress.epoch + 1}, loss {metrics['loss']:.4f}{note}")

    def on_validation(self, validation: Validation, is_best: bool) -> None:
        """Add an epoch to the result."""
        seconds, self.epoch_start = time.perf_counter() - self.epoch_start, time.perf_counter()
        auc_and_logloss = validation.metrics["auc"], validation.metrics["logloss"]
        self.result.epochs.append(Epoch(self.mean_loss, *auc_and_logloss, seconds))
        if is_best:
            self.result.best_epoch, self.result.valid = self.progress.epoch, self.prediction
