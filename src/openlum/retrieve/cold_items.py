"""Cold items: the users whose held-out item has no training event, so that the model knows the item by its fields only.

Shapes: n users, m users of a cold held-out item, V items, C cold items.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openlum.data.item_activity import ItemActivity
from openlum.evaluation.retrieval_metrics import retrieval_metrics
from openlum.model.fields import ItemEncoder, known_ids
from openlum.retrieve.baselines import popularity_scores
from openlum.retrieve.held_out import HeldOut
from openlum.retrieve.settings import POPULARITY

RANDOM = "random"
"""Name of the random order in the metrics."""


class ColdItems:
    """The ranks of cold held-out items among all cold items, which are collected batch by batch.

    Args:
        items: encoder of the model. Without id dropout and item fields it has no cold items.
        activity: of the dataset.
    """

    def __init__(self, items: ItemEncoder, activity: ItemActivity) -> None:
        self.is_cold = ~items.trained_items.cpu()  # (V,)
        self.is_cold[0] = False
        self.activity = activity
        self.ranks: dict[str, list[np.ndarray]] = {}

    def add(self, held_out: HeldOut, batch: np.ndarray, scores: dict[str, Tensor]) -> None:
        """Add the ranks of a batch of users.

        Args:
            held_out: the held-out events.
            batch: indices of users.
            scores: (n, V) of every question, from the fields of cold items alone. They stay the same.
        """
        target = known_ids(torch.from_numpy(held_out.target[batch]), held_out.items)
        rows = self.is_cold[target].nonzero().squeeze(1)
        if not len(rows):
            return
        users = batch[rows.numpy()]
        own = {name: values[rows.to(values.device)] for name, values in scores.items()}
        own[POPULARITY] = popularity_scores(held_out, users, self.activity)
        for name, values in own.items():
            values[:, ~self.is_cold.to(values.device)] = -torch.inf
            self.ranks.setdefault(name, []).append(held_out.rank(users, values))

    def summary(self, ranks: dict[str, np.ndarray], target: np.ndarray, at: Sequence[int]) -> dict[str, Any] | None:
        """Return the part `cold_items` of the metrics; None if no held-out item is cold.

        Args:
            ranks: method to the rank of every user's held-out item among all items, (n,).
            target: (n,) the held-out items.
            at: cut-offs.
        """
        if not self.ranks:
            return None
        is_cold = self.is_cold.numpy()[np.where(target < len(self.is_cold), target, 0)]  # (n,)
        candidates = int(self.is_cold.sum())
        among_cold = {name: retrieval_metrics(np.concatenate(parts), at) for name, parts in self.ranks.items()}
        among_all = {name: retrieval_metrics(rank[is_cold], at) for name, rank in ranks.items()}
        return {
            "users": int(is_cold.sum()),
            "candidates": candidates,
            "among_cold": among_cold | {RANDOM: random_metrics(candidates, at)},
            "among_all": among_all | {RANDOM: random_metrics(len(self.is_cold) - 1, at)},
        }


def random_metrics(candidates: int, at: Sequence[int]) -> dict[str, float]:
    """Return the expected metrics of a random order: every rank is equally likely."""
    return retrieval_metrics(np.arange(1, candidates + 1), at)
