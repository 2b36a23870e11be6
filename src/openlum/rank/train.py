"""Training of one ranker: binary cross-entropy, early stopping on the validation AUC.

Shapes: B rows of a batch, I rows of a split.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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
    steps = (
        _SequenceSteps(ranker, data, seed) if isinstance(ranker, GenerativeRanker) else _RowSteps(ranker, data, seed)
    )
    return _train_network(ranker, steps, data, step_done)


def _train_network(
    ranker: Ranker | GenerativeRanker, steps: "_RowSteps | _SequenceSteps", data: RankingData, step_done: StepCallback
) -> TrainedRanker:
    settings, valid = ranker.config.settings, data.rows["valid"]
    result, best, state = TrainedRanker(ranker, 0, np.empty(0, np.float32)), -np.inf, ranker.state_dict()
    for number in range(1, settings.max_epochs + 1):
        began, total, rows = time.perf_counter(), 0.0, 0
        ranker.train()
        for logits, label in steps.epoch(number):
            loss = F.binary_cross_entropy_with_logits(logits, label.to(logits.device))
            steps.optimizer.zero_grad()
            loss.backward()
            steps.optimizer.step()
            total, rows = total + float(loss.detach()) * len(label), rows + len(label)
            best_so_far = f", best validation AUC {best:.4f}" if result.epochs else ""
            step_done(f"epoch {number}, loss {float(loss.detach()):.4f}{best_so_far}")
        prediction, valid_label = ranker.predict(data, valid), valid.label.numpy()
        if not (np.isfinite(total) and np.isfinite(prediction).all()):  # diverged: the best earlier epoch is kept
            break
        valid_auc = auc(valid_label, prediction)
        seconds = time.perf_counter() - began
        result.epochs.append(Epoch(total / max(rows, 1), valid_auc, log_loss(valid_label, prediction), seconds))
        if not valid_auc <= best:  # also true for not-a-number (one class only): then the last epoch is kept
            best, state = valid_auc, copy.deepcopy(ranker.state_dict())
            result.best_epoch, result.valid = number, prediction
        if number - result.best_epoch >= settings.patience:
            break
    if not result.best_epoch:
        raise InputError(
            f"{ranker.config.architecture}: diverged in its first epoch, its loss is not finite; lower {ranker.learning_rate_key}"
        )
    ranker.load_state_dict(state)
    ranker.eval()
    return result


class _RowSteps:
    """Training steps of rankers that read rows, in random order."""

    def __init__(self, ranker: Ranker, data: RankingData, seed: int) -> None:
        self.ranker, self.data = ranker, data
        settings = ranker.config.settings
        self.optimizer = torch.optim.AdamW(
            ranker.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.order = torch.Generator().manual_seed(seed)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield logits and labels, (B,) each, of every batch."""
        train = self.data.rows["train"]
        order = torch.randperm(len(train), generator=self.order)
        for batch, label in self.data.batches(train, order, self.ranker.config):
            yield self.ranker(batch), label


class _SequenceSteps:
    """Training steps of generative rankers: windows of histories, with all rows that look back into them."""

    def __init__(self, ranker: GenerativeRanker, data: RankingData, seed: int) -> None:
        self.ranker, self.data, self.seed = ranker, data, seed
        self.rate = ranker.config.settings.sequence.learning_rate
        self.optimizer = torch.optim.AdamW(
            ranker.parameters(), self.rate, weight_decay=ranker.config.settings.weight_decay
        )

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield logits and labels, (B,) each, of every batch."""
        train, epochs = self.data.rows["train"], self.ranker.config.settings.max_epochs
        rate = cosine_rate((number - 1) / max(epochs - 1, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * rate
        for index, logits in self.ranker.batch_logits(self.data, train, np.random.default_rng((self.seed, number))):
            yield logits, train.label[index]
