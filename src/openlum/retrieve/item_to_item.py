"""Baselines that know items by the users they share: item-kNN and EASE. Users are sets of items, without order and time.

- item-kNN (Sarwar et al. 2001): an item's score is the sum of its similarities to the user's items that are among its nearest
  `NEIGHBOURS` items. The similarity is a cosine with shrinkage: c_ij / (sqrt(c_i c_j) + `SHRINKAGE`), with the number of users of
  both items c_ij, and of one item c_i.
- EASE (Steck 2019): the linear model of items by items with the least squares, an L2 penalty and a diagonal of 0, in closed form:
  P = inverse(C + penalty I), B_ij = -P_ij / P_jj. The penalty is the one of `PENALTIES` with the best NDCG@10 on the validation
  events.

Shapes: U users, n users with a held-out event, V items.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from openlum.data.dataset import Dataset
from openlum.data.packing import Protocol, training_end, training_events
from openlum.data.sequences import event_mask
from openlum.evaluation.retrieval_metrics import user_metrics
from openlum.retrieve.held_out import HeldOut, Split, eligible_ids
from openlum.retrieve.settings import ITEM_KNN

NEIGHBOURS, SHRINKAGE = 100, 10.0
PENALTIES = (30.0, 100.0, 300.0, 1000.0)
MAX_COUNTS = 1 << 24
"""A chunk of rows of a matrix of items by items has at most so many numbers."""

Weights: TypeAlias = Any
"""(V, V), a sparse or a dense array: the user's items times this matrix are the scores of all items."""


class ItemToItem:
    """The ranks of held-out items by a matrix of items by items.

    Args:
        dataset: whose events are held out.
        items: V; a later item is ranked behind all others.
        exclude_seen: as in `HeldOut`.
        batch_users: number of users per batch.
        protocol: says which events are for training.
    """

    def __init__(self, dataset: Dataset, items: int, exclude_seen: bool, batch_users: int, protocol: Protocol) -> None:
        self.dataset, self.items, self.exclude_seen, self.batch_users = dataset, items, exclude_seen, batch_users
        self.where = eligible_ids(dataset)
        self.users = user_item_matrix(dataset, items, protocol, self.where)  # (U, V)

    def ranks(self, name: str) -> np.ndarray:
        """Return the rank of every user's held-out test item, (n,) by user id, by item-kNN or EASE."""
        return self._ranks("test", item_knn(self.users) if name == ITEM_KNN else self._best_ease())

    def _best_ease(self) -> np.ndarray:
        """Return the weights of EASE with the penalty that is best on the validation events."""
        fits = (ease(self.users, penalty) for penalty in PENALTIES)
        return max(((self._validation_ndcg(weights), weights) for weights in fits), key=lambda fit: fit[0])[1]

    def _validation_ndcg(self, weights: Weights) -> float:
        """Return NDCG@10 on the validation events; 0 if there are none."""
        rank = self._ranks("valid", weights)
        return float(user_metrics(rank, [10])["ndcg@10"].mean()) if len(rank) else 0.0

    def _ranks(self, split: Split, weights: Weights) -> np.ndarray:
        """Return the rank of every user's held-out item, (n,) by user id."""
        users, ranks = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        for sequences in self.dataset.groups_of_sequences():
            held_out = HeldOut(sequences, split, self.items, self.exclude_seen)
            users.append(held_out.user)
            ranks += [held_out.rank(b, self._scores(held_out, b, weights)) for b in held_out.batches(self.batch_users)]
        return np.concatenate(ranks)[np.argsort(np.concatenate(users))]

    def _scores(self, held_out: HeldOut, batch: np.ndarray, weights: Weights) -> Tensor:
        """Return the scores of all items, (n, V), for a batch of users."""
        user, item, _ = held_out.history(batch, self.where)
        scores = as_sets(user, item, (len(batch), self.items)) @ weights
        return torch.from_numpy(scores if isinstance(scores, np.ndarray) else scores.toarray())


def user_item_matrix(
    dataset: Dataset, items: int, protocol: Protocol, where: Mapping[str, np.ndarray]
) -> sparse.csr_array:
    """Return which user has which item in a training event, (U, V) of 0 and 1.

    Args:
        dataset: from `lum prepare`.
        items: V; later items are left out.
        protocol: says which events are for training.
        where: only events that have one of these ids in each of these condition fields.
    """
    users, number, rows = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    for sequences in dataset.groups_of_sequences():
        events = training_events(sequences, training_end(sequences, dataset.info, protocol))
        if where:
            events = events[event_mask(sequences, where)[events]]
        users.append(rows + np.searchsorted(sequences.offsets, events, "right") - 1)
        number.append(sequences.item[events].astype(np.int64))
        rows += len(sequences.user)
    return as_sets(np.concatenate(users), np.concatenate(number), (rows, items))


def as_sets(user: np.ndarray, item: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    """Return the items of users as a matrix of 0 and 1. Unknown and later items are left out."""
    is_known = (item > 0) & (item < shape[1])
    ones = np.ones(int(is_known.sum()), np.float32)
    matrix = sparse.csr_array((ones, (user[is_known], item[is_known])), shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def item_knn(users: sparse.csr_array, neighbours: int = NEIGHBOURS, shrinkage: float = SHRINKAGE) -> sparse.csr_array:
    """Return the similarities of items to their nearest items, (V, V): column i has the neighbours of item i."""
    by_item, number = users.T.tocsr(), users.sum(0)  # (V, U), (V,)
    chunk = max(MAX_COUNTS // users.shape[1], 1)
    parts = [sparse.csr_array((0, users.shape[1]), dtype=np.float32)]
    for begin in range(0, users.shape[1], chunk):
        both = (by_item[begin : begin + chunk] @ users).tocoo()
        row, column, value = both.row, both.col, both.data
        similarity = value / (np.sqrt(number[begin + row] * number[column]) + shrinkage)
        similarity[column == begin + row] = 0
        order = np.lexsort((-similarity, row))
        row, column, similarity = row[order], column[order], similarity[order]
        position = np.arange(len(row)) - np.searchsorted(row, row)  # of each neighbour in its row
        kept = (position < neighbours) & (similarity > 0)
        parts.append(sparse.csr_array((similarity[kept], (row[kept], column[kept])), both.shape, dtype=np.float32))
    return sparse.vstack(parts).T.tocsr()


def ease(users: sparse.csr_array, penalty: float) -> np.ndarray:
    """Return the weights of EASE, (V, V) float32. They take memory for three matrices of this size."""
    counts = torch.from_numpy((users.T @ users).toarray())
    counts.diagonal().add_(penalty)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(counts))
    weights = inverse.div_(-inverse.diagonal().clone())
    weights.fill_diagonal_(0)
    return weights.numpy()
