"""Approximate search for items with FAISS (the extra `faiss`), for catalogues where the exact search takes too long.

Shapes: Q queries, V items, F fetched items, E width.
"""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from openlum.errors import InputError
from openlum.model.item_index import QUERIES, SCORES, ExactIndex, Found, Pairs, candidate_ids, on_device, top

FaissKind = Literal["hnsw", "ivf-pq"]
FETCH = 4
"""Number of items that FAISS fetches for each item that is returned. Their exact scores decide."""
LINKS, BUILD_EFFORT, SEARCH_EFFORT = 32, 80, 256
"""HNSW: links of an item, and the numbers of candidates that are kept when an item is added and when a query is searched."""
CELLS, TRAINING_ITEMS, PROBED_SHARE, FEWEST_PROBED = 4, 64, 1 / 32, 16
"""IVF-PQ: the number of cells is so many times the root of V; items that train one cell; the share and the smallest number of the
cells that are searched."""


class FaissIndex:
    """A FAISS index that returns exact scores, and never fewer items than the exact search.

    FAISS fetches candidates. Their exact scores are computed, and the items that may not be found are left out. A query that then
    has too few items is searched exactly.

    Args:
        vectors: (V, E) vectors of all items, of unit length, such as `LargeUserModel.catalogue`.
        kind: `hnsw` (a graph: fast and precise, with the memory of the vectors and of the links) or `ivf-pq` (cells of compressed
            vectors: E / 2 bytes an item in FAISS).

    Raises:
        InputError: FAISS is not installed, or the index cannot have these vectors.

    Example:
        >>> index = FaissIndex(model.catalogue())                                   # doctest: +SKIP
        >>> model.recommend(history, k=10, index=index)                             # doctest: +SKIP
    """

    def __init__(self, vectors: Tensor, kind: FaissKind = "hnsw") -> None:
        faiss = _faiss()
        self.vectors, self.kind = vectors, kind
        v, e = vectors.shape
        x = np.ascontiguousarray(vectors.detach().cpu().numpy(), np.float32)
        if kind == "hnsw":
            self._index = faiss.IndexHNSWFlat(e, LINKS, faiss.METRIC_INNER_PRODUCT)
            self._index.hnsw.efConstruction = BUILD_EFFORT
        elif kind == "ivf-pq":
            if e % 2 or v < 256:
                raise InputError(f"index 'ivf-pq': needs an even width and 256 items or more, found {e} and {v:,}")
            cells = min(int(CELLS * v**0.5), v // 39)  # FAISS asks for 39 items a cell
            self._index = faiss.IndexIVFPQ(faiss.IndexFlatIP(e), e, cells, e // 2, 8, faiss.METRIC_INNER_PRODUCT)
            rows = np.random.default_rng(0).permutation(v)[: max(TRAINING_ITEMS * cells, 10_000)]
            self._index.train(x[rows])
        else:
            raise InputError(f"unknown index '{kind}'; choose from hnsw, ivf-pq")
        self._index.add(x)
        self._exact = ExactIndex(vectors)

    def search(self, queries: Tensor, k: int, allowed: Tensor | None = None, excluded: Pairs | None = None) -> Found:
        """Search; see `ItemIndex.search`."""
        candidates = candidate_ids(self.vectors, allowed)
        k = min(k, len(candidates))
        if len(candidates) * FETCH < len(self.vectors):  # FAISS would fetch few of the items that may be found
            return self._exact.search(queries, k, allowed, excluded)
        excluded = on_device(excluded, queries.device)
        most_excluded = int(excluded.query.bincount().max()) if len(excluded.query) else 0
        fetched = min(FETCH * k + most_excluded, len(self.vectors))
        parts, width = [], max(min(QUERIES, SCORES // (fetched * queries.shape[1])), 1)
        for begin in range(0, max(len(queries), 1), width):
            chunk = queries[begin : begin + width]
            own = excluded.of_queries(begin, begin + len(chunk))
            found = self._approximate(chunk, k, fetched, allowed, own)
            short = (found.score == -torch.inf).any(1).nonzero().squeeze(1)
            for row in short.tolist():
                exact = self._exact.search(chunk[row : row + 1], k, allowed, own.of_queries(row, row + 1))
                found.item[row], found.score[row] = exact.item[0], exact.score[0]
            parts.append(found)
        return Found(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _approximate(self, queries: Tensor, k: int, fetched: int, allowed: Tensor | None, excluded: Pairs) -> Found:
        """Return the best of the items that FAISS fetches for a chunk of queries."""
        x = np.ascontiguousarray(queries.detach().cpu().numpy(), np.float32)
        ids = torch.from_numpy(self._index.search(x, fetched, params=self._effort(fetched))[1]).to(
            queries.device
        )  # (Q, F)
        score = (self.vectors[ids.clamp(min=0)] @ queries[:, :, None]).squeeze(2)
        is_found = ids > 0  # -1: FAISS fetched fewer
        if allowed is not None:
            is_found &= allowed.to(ids.device)[ids.clamp(min=0)]
        items = len(self.vectors)
        pairs = torch.arange(len(ids), device=ids.device)[:, None] * items + ids
        is_found &= ~torch.isin(pairs, excluded.query * items + excluded.item)
        return top(Found(ids, score.masked_fill(~is_found, -torch.inf)), k)

    def _effort(self, fetched: int) -> Any:
        faiss = _faiss()
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=max(SEARCH_EFFORT, fetched))
        return faiss.SearchParametersIVF(nprobe=max(int(self._index.nlist * PROBED_SHARE), FEWEST_PROBED))


def _faiss() -> Any:
    """Return the module.

    Raises:
        InputError: it is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise InputError(
            "FAISS is not installed; install openlum with the extra 'faiss' (pip install '.[faiss]')"
        ) from None
    return faiss
