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

    def add(self, name: str, held_out: HeldOut, batch: np.ndarray, scores: Tensor) -> None:
        """Add the ranks by a question, for a batch of users.

        Args:
            name: of the question.
            held_out: the held-out events.
            batch: indices of users.
            scores: (n, V), of cold items from their fields alone. They stay the same.
        """
        rows = self._cold_rows(held_out, batch)
        if len(rows):
            self._add_ranks(name, held_out, batch[rows], scores[torch.from_numpy(rows)])

    def add_popularity(self, held_out: HeldOut, batch: np.ndarray) -> None:
        """Add the ranks by popularity as of the moment, for a batch of users."""
        users = batch[self._cold_rows(held_out, batch)]
        if len(users):
            self._add_ranks(POPULARITY, held_out, users, popularity_scores(held_out, users, self.activity))

    def _cold_rows(self, held_out: HeldOut, batch: np.ndarray) -> np.ndarray:
        """Return the indices in a batch of the users whose held-out item is cold."""
        target = known_ids(torch.from_numpy(held_out.target[batch]), held_out.items)
        return np.flatnonzero(self.is_cold[target].numpy())

    def _add_ranks(self, name: str, held_out: HeldOut, users: np.ndarray, scores: Tensor) -> None:
        scores[:, ~self.is_cold] = -torch.inf
        self.ranks.setdefault(name, []).append(held_out.rank(users, scores))

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
