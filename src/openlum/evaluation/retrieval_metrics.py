"""Metrics of full ranking: one item is held out per user and ranked among all items.

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
    """Return the rank of the target item among all items, (n,) int64; rank 1 is best.

    Items with the same score as the target count as ranked before it.

    Args:
        scores: (n, V); items that are excluded from the ranking have minus infinity.
        target: (n,) item ids; a target with the score minus infinity is ranked behind all other items.

    Raises:
        InputError: a score is not-a-number, as in a model that diverged.
    """
    if scores.isnan().any():
        row, item = scores.isnan().nonzero()[0].tolist()
        raise InputError(f"the score of item {item} in row {row} is nan; has the model diverged?")
    target_score = scores.gather(1, target[:, None])
    return (~(scores < target_score)).sum(1)


def retrieval_metrics(rank: Sequence[int] | np.ndarray, at: Sequence[int]) -> dict[str, float]:
    """Return the means over users of HR@k, NDCG@k (with one relevant item: 1 / log2(1 + rank)) and MRR.

    Example:
        >>> retrieval_metrics([1, 3, 20], at=[10])
        {'hr@10': 0.6666666666666666, 'ndcg@10': 0.5, 'mrr': 0.46111111111111114}
    """
    return {name: float(values.mean()) for name, values in user_metrics(rank, at).items()}


def user_metrics(rank: Sequence[int] | np.ndarray, at: Sequence[int]) -> dict[str, np.ndarray]:
    """Return HR@k, NDCG@k and MRR of every user, (n,) each.

    Raises:
        InputError: a rank or a cut-off is not a whole number from 1 on, or there are no ranks.
    """
    ranks = finite_numbers("rank", rank).astype(np.float64)
    if not len(ranks) or ranks.min() < 1:
        raise InputError(f"rank: expected one rank or more, each from 1 on, found {min(ranks, default='none')}")
    if not isinstance(at, Sequence):
        raise InputError(f"at: expected a list of cut-offs, found {shown(at)}")
    metrics = {}
    for k in at:
        k = whole_number("at", k, 1)
        hit = ranks <= k
        metrics[f"hr@{k}"] = hit.astype(np.float64)
        metrics[f"ndcg@{k}"] = hit / np.log2(1 + ranks)
    return metrics | {"mrr": 1 / ranks}


def exclude_items(scores: Tensor, rows: np.ndarray, items: np.ndarray) -> None:
    """Exclude items from the ranking of rows, in place: `scores[rows[i], items[i]] = -inf`."""
    scores[torch.from_numpy(rows), torch.from_numpy(items)] = -torch.inf
