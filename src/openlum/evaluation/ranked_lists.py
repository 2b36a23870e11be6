"""Metrics of full ranking with one item held out.

Shapes: n users, V items.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from openlum.arguments.arrays import finite_numbers
from openlum.arguments.values import shown, whole_number
from openlum.errors import InputError


def rank_of_target(scores: Tensor, target: Tensor) -> Tensor:
    """Rank of one item among all, 1 is best, (n,) int64. Items with an equal score count as ranked before it.

    Args:
        scores: (n, V); items that do not take part have minus infinity.
        target: (n,) item ids; one with minus infinity is behind all others.

    Raises:
        InputError: a score is not-a-number, as those of a model that diverged are.
    """
    if scores.isnan().any():
        row, item = scores.isnan().nonzero()[0].tolist()
        raise InputError(f"the score of item {item} in row {row} is nan; has the model diverged?")
    own = scores.gather(1, target[:, None])
    return (~(scores < own)).sum(1)


def ranking_metrics(rank: Sequence[int] | np.ndarray, at: Sequence[int]) -> dict[str, float]:
    """Means over users of HR@k, NDCG@k (one relevant item, so 1 / log2(1 + rank)) and MRR.

    Example:
        >>> ranking_metrics([1, 3, 20], at=[10])
        {'hr@10': 0.6666666666666666, 'ndcg@10': 0.5, 'mrr': 0.46111111111111114}
    """
    return {name: float(found.mean()) for name, found in user_metrics(rank, at).items()}


def user_metrics(rank: Sequence[int] | np.ndarray, at: Sequence[int]) -> dict[str, np.ndarray]:
    """The same of every user, (n,) each.

    Raises:
        InputError: a rank is no number from 1 on, or there is none; or a cut-off is none.
    """
    ranks = finite_numbers("rank", rank).astype(np.float64)
    if not len(ranks) or ranks.min() < 1:
        raise InputError(f"rank: expected one or more, from 1 on, found {min(ranks, default='none')}")
    if not isinstance(at, Sequence):
        raise InputError(f"at: expected a list of cut-offs, found {shown(at)}")
    metrics = {}
    for k in at:
        k = whole_number("at", k, 1)
        hit = ranks <= k
        metrics[f"hr@{k}"] = hit.astype(np.float64)
        metrics[f"ndcg@{k}"] = hit / np.log2(1 + ranks)
    return metrics | {"mrr": 1 / ranks}


def exclude(scores: Tensor, rows: np.ndarray, items: np.ndarray) -> None:
    """Take items out of the ranking of rows, in place: `scores[rows[i], items[i]] = -inf`."""
    scores[torch.from_numpy(rows), torch.from_numpy(items)] = -torch.inf
