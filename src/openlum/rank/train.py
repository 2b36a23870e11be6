"""Training of one ranker: binary cross-entropy, early stop on the validation AUC.

Shapes: B rows of a batch, I rows of a split.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from openlum.rank.batches import RankingData, Rows
from openlum.rank.metrics import auc, log_loss
from openlum.rank.rankers import Ranker
from openlum.rank.settings import RankerConfig


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

    ranker: Ranker
    """With the weights of the best epoch."""
    best_epoch: int
    """Counted from 1."""
    epochs: list[Epoch] = field(default_factory=list)
    """All passes made."""


def build_ranker(config: RankerConfig, data: RankingData, seed: int) -> Ranker:
    """A new ranker. Its plain part depends on the seed alone, not on whether there is knowledge."""
    torch.manual_seed(seed)
    ranker = Ranker(config)
    ranker.items.set_features(data.item_features)
    if ranker.knowledge is not None:
        ranker.knowledge.set_scale(*data.similarity_scale())
    return ranker


def fit(
    config: RankerConfig, data: RankingData, seed: int, step_done: Callable[[str], None] = lambda note: None
) -> Fit:
    """Train a ranker.

    Args:
        config: which ranker.
        data: what it learns from.
        seed: of the weights, the order of the rows and dropout.
        step_done: called after every step with a few words on how it goes.
    """
    settings, train, valid = config.settings, data.rows["train"], data.rows["valid"]
    ranker = build_ranker(config, data, seed)
    optimizer = torch.optim.AdamW(ranker.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    order = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # dropout, whatever the initialisation drew
    result, best, state = Fit(ranker, 0), -np.inf, ranker.state_dict()
    for number in range(1, settings.max_epochs + 1):
        began, total = time.perf_counter(), 0.0
        ranker.train()
        for batch, label in data.batches(train, torch.randperm(len(train), generator=order), config):
            loss = F.binary_cross_entropy_with_logits(ranker(batch), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(label)
            best_so_far = f", valid AUC {best:.4f}" if result.epochs else ""
            step_done(f"epoch {number}, loss {float(loss.detach()):.4f}{best_so_far}")
        prediction, truth = predict(ranker, data, valid), valid.label.numpy()
        reached = auc(truth, prediction)
        result.epochs.append(
            Epoch(total / len(train), reached, log_loss(truth, prediction), time.perf_counter() - began)
        )
        if not reached <= best:  # also where it is undefined, for want of a class: then the last epoch counts
            best, state, result.best_epoch = reached, copy.deepcopy(ranker.state_dict()), number
        if number - result.best_epoch >= settings.patience:
            break
    ranker.load_state_dict(state)
    ranker.eval()
    return result


@torch.inference_mode()
def predict(ranker: Ranker, data: RankingData, rows: Rows) -> np.ndarray:
    """Predicted probabilities of the rows of a split, (I,) float32."""
    ranker.eval()
    parts = [ranker(batch).sigmoid() for batch, _ in data.batches(rows, torch.arange(len(rows)), ranker.config)]
    return torch.cat(parts).numpy() if parts else np.empty(0, np.float32)
