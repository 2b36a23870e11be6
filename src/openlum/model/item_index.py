"""The search for items: the items whose vectors have the largest inner products with answers.

`ExactIndex` searches the whole catalogue in chunks. `openlum.retrieve.faiss_index` has approximate indexes with the same methods.

Shapes: Q queries, V items with item 0 (unknown), C items that may be found, E width, P pairs of a query and an item.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

SCORES = 1 << 22
"""A search computes at most about this many scores at a time (16 MB), whatever the catalogue and the number of queries."""
QUERIES = 256
"""Number of queries of one chunk."""


class Pairs(NamedTuple):
    """Pairs of a query and an item."""

    query: Tensor
    """(P,) index of the query."""
    item: Tensor
    """(P,) item id."""

    def of_queries(self, begin: int, end: int) -> "Pairs":
        """Return the pairs of the queries from `begin` to `end` (exclusive). Their indices then start at 0."""
        chosen = (self.query >= begin) & (self.query < end)
        return Pairs(self.query[chosen] - begin, self.item[chosen])


class Found(NamedTuple):
    """The items that a search found, best first."""

    item: Tensor
    """(Q, k) item ids."""
    score: Tensor
    """(Q, k) inner products; minus infinity where a query has fewer than k items."""


class ItemIndex(Protocol):
    """A search among the vectors of items."""

    @property
    def vectors(self) -> Tensor:
        """(V, E) vectors of all items."""
        ...

    def search(self, queries: Tensor, k: int, allowed: Tensor | None = None, excluded: Pairs | None = None) -> Found:
        """Return the k items with the largest inner products, or all items that may be found if there are fewer than k.

        Item 0 is never found.

        Args:
            queries: (Q, E).
            k: number of items.
            allowed: (V,) bool, the items that may be found; None for all.
            excluded: further items that single queries may not find.
        """
        ...


class ExactIndex:
    """The exact search.

    Args:
        vectors: (V, E) vectors of all items, on the device of the queries.
    """

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors

    def search(self, queries: Tensor, k: int, allowed: Tensor | None = None, excluded: Pairs | None = None) -> Found:
        """Search; see `ItemIndex.search`."""
        candidates = candidate_ids(self.vectors, allowed)
        excluded = on_device(excluded, queries.device)
        parts = []
        for begin in range(0, max(len(queries), 1), QUERIES):
            chunk = queries[begin : begin + QUERIES]
            parts.append(self._search(chunk, k, candidates, excluded.of_queries(begin, begin + len(chunk))))
        return Found(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _search(self, queries: Tensor, k: int, candidates: Tensor, excluded: Pairs) -> Found:
        """Search among candidates, (C,) ascending ids, for one chunk of queries."""
        position = torch.searchsorted(candidates, excluded.item)  # (P,) in `candidates`
        width = SCORES // QUERIES
        best = Found(candidates.new_zeros(len(queries), 0), queries.new_zeros(len(queries), 0))
        for begin in range(0, len(candidates), width):
            ids = candidates[begin : begin + width]
            is_run = len(candidates) == len(self.vectors) - 1  # all items but item 0: a view instead of a copy
            vectors = self.vectors[1 + begin : 1 + begin + len(ids)] if is_run else self.vectors[ids]
            scores = queries @ vectors.T  # (Q, chunk)
            chosen = (position >= begin) & (position < begin + len(ids))
            query, column = excluded.query[chosen], position[chosen] - begin
            is_candidate = ids[column] == excluded.item[chosen]
            scores[query[is_candidate], column[is_candidate]] = -torch.inf
            score, column = scores.topk(min(k, len(ids)))
            best = top(joined(best, Found(ids[column], score)), k)
        return best


def candidate_ids(vectors: Tensor, allowed: Tensor | None) -> Tensor:
    """Return the ids of the items that may be found, (C,) ascending, without item 0. `allowed` is as in `ItemIndex.search`."""
    if allowed is None:
        return torch.arange(1, len(vectors), device=vectors.device)
    return allowed[1:].nonzero().squeeze(1).to(vectors.device) + 1


def on_device(excluded: Pairs | None, device: torch.device) -> Pairs:
    """Return pairs on a device; no pairs for None."""
    none = torch.empty(0, dtype=torch.int64)
    return Pairs(*(x.to(device) for x in excluded or (none, none)))


def top(found: Found, k: int) -> Found:
    """Return the k best of the items that a search found, in any order, (Q, n) each; all n if there are fewer."""
    score, column = found.score.topk(min(k, found.score.shape[1]))
    return Found(found.item.gather(1, column), score)


def joined(one: Found, other: Found) -> Found:
    """Return the items of both searches of the same queries."""
    return Found(torch.cat([one.item, other.item], 1), torch.cat([one.score, other.score], 1))
