"""Training of one ranker: binary cross-entropy, early stop on the validation AUC.

Shapes: B rows of a batch, I rows of a split.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from openlum.errors import InputError
from openlum.evaluation.metrics import auc, log_loss
from openlum.model import default_device
from openlum.rank.batches import RankingData
from openlum.rank.rankers import AnyRanker, new_network
from openlum.rank.rankers.base import Ranker
from openlum.rank.rankers.generative import GenerativeRanker
from openlum.rank.rankers.late import LateRanker
from openlum.rank.rankers.lightgbm import Trees
from openlum.rank.settings import GENERATIVE, RankerConfig
from openlum.training.schedule import cosine_rate

Progress = Callable[[str], None]


@dataclass
class Epoch:
    """What one pass over the training rows came to."""

    loss: float
    """Mean training loss."""
    valid_auc: float
    """AUC on the validation rows."""
    valid_logloss: float
    """Log loss on the validation rows."""
    seconds: float
    """Time of the pass, validation included."""


@dataclass
class Fit:
    """A trained ranker."""

    ranker: AnyRanker
    """With the weights of the best epoch."""
    best_epoch: int
    """Counted from 1; for trees, how many there are. Where knowledge joins late, the plain ranker's."""
    valid: np.ndarray
    """(I,) predictions of the validation rows; where knowledge joins late, by weights fitted to the rows of other users."""
    epochs: list[Epoch] = field(default_factory=list)
    """All passes made; none for trees, and where knowledge joins late: the plain ranker made them."""


def build_ranker(config: RankerConfig, data: RankingData, seed: int) -> Ranker | GenerativeRanker:
    """A new network, on a GPU where there is one. Its plain part depends on the seed alone, not on whether there is knowledge."""
    torch.manual_seed(seed)
    ranker = new_network(config)
    ranker.items.set_features(data.item_features)
    ranker.items.set_trained_items(data.trained_items(config))
    return ranker.to(default_device())


def fit(
    config: RankerConfig,
    data: RankingData,
    seed: int,
    step_done: Progress = lambda note: None,
    plain: Fit | None = None,
) -> Fit:
    """Train a ranker.

    Args:
        config: which ranker.
        data: what it learns from.
        seed: of the weights, the order of the rows and dropout.
        step_done: called after every step with a few words on how it goes.
        plain: the same ranker and seed without knowledge, which one that knowledge joins late begins with; trained where there
            is none.

    Raises:
        InputError: a library that the ranker needs is not installed, or the ranker diverges before it has learned anything.
    """
    if config.late:
        plain = plain or fit(config.plain, data, seed, step_done)
        late = LateRanker(config, plain.ranker)
        return Fit(late, plain.best_epoch, late.fit(data))
    if config.architecture == "lightgbm":
        trees = Trees(config)
        grown = len(trees.fit(data, seed, step_done))
        return Fit(trees, grown, trees.predict(data, data.rows["valid"]))
    ranker = build_ranker(config, data, seed)
    torch.manual_seed(seed)  # dropout, whatever the initialisation drew
    steps = _Sequences(ranker, data, seed) if isinstance(ranker, GenerativeRanker) else _Rows(ranker, data, seed)
    return _descend(ranker, steps, data, step_done)


def _descend(
    ranker: Ranker | GenerativeRanker, steps: "_Rows | _Sequences", data: RankingData, step_done: Progress
) -> Fit:
    settings, valid = ranker.config.settings, data.rows["valid"]
    result, best, state = Fit(ranker, 0, np.empty(0, np.float32)), -np.inf, ranker.state_dict()
    for number in range(1, settings.max_epochs + 1):
        began, total, rows = time.perf_counter(), 0.0, 0
        ranker.train()
        for logits, label in steps.epoch(number):
            loss = F.binary_cross_entropy_with_logits(logits, label.to(logits.device))
            steps.optimizer.zero_grad()
            loss.backward()
            steps.optimizer.step()
            total, rows = total + float(loss.detach()) * len(label), rows + len(label)
            best_so_far = f", valid AUC {best:.4f}" if result.epochs else ""
            step_done(f"epoch {number}, loss {float(loss.detach()):.4f}{best_so_far}")
        prediction, truth = ranker.predict(data, valid), valid.label.numpy()
        if not (np.isfinite(total) and np.isfinite(prediction).all()):  # diverged: what came before stands
            break
        reached = auc(truth, prediction)
        seconds = time.perf_counter() - began
        result.epochs.append(Epoch(total / max(rows, 1), reached, log_loss(truth, prediction), seconds))
        if not reached <= best:  # also where it is undefined, for want of a class: then the last epoch counts
            best, state = reached, copy.deepcopy(ranker.state_dict())
            result.best_epoch, result.valid = number, prediction
        if number - result.best_epoch >= settings.patience:
            break
    if not result.best_epoch:
        name = ranker.config.architecture
        key = "sequence.learning_rate" if name in GENERATIVE else "learning_rate"
        raise InputError(f"{name}: diverged in its first epoch, its loss is not finite; lower rank.{key}")
    ranker.load_state_dict(state)
    ranker.eval()
    return result


class _Rows:
    """Steps of rankers that read rows, in random order."""

    def __init__(self, ranker: Ranker, data: RankingData, seed: int) -> None:
        self.ranker, self.data = ranker, data
        settings = ranker.config.settings
        self.optimizer = torch.optim.AdamW(
            ranker.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.order = torch.Generator().manual_seed(seed)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits and labels, (B,) each, of every batch."""
        train = self.data.rows["train"]
        order = torch.randperm(len(train), generator=self.order)
        for batch, label in self.data.batches(train, order, self.ranker.config):
            yield self.ranker(batch), label


class _Sequences:
    """Steps of generative rankers: windows of users, with all rows that look back through them."""

    def __init__(self, ranker: GenerativeRanker, data: RankingData, seed: int) -> None:
        self.ranker, self.data, self.seed = ranker, data, seed
        self.rate = ranker.config.settings.sequence.learning_rate
        self.optimizer = torch.optim.AdamW(
            ranker.parameters(), self.rate, weight_decay=ranker.config.settings.weight_decay
        )

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits and labels, (B,) each, of every batch."""
        train, epochs = self.data.rows["train"], self.ranker.config.settings.max_epochs
        rate = cosine_rate((number - 1) / max(epochs - 1, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * rate
        for index, logits in self.ranker.score(self.data, train, np.random.default_rng((self.seed, number))):
            yield logits, train.label[index]
