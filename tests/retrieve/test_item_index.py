"""One contract for every index of items: the search equals a plain sort of all scores, with filters and in chunks."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openlum.errors import InputError
from openlum.model import LargeUserModel, item_index
from openlum.model.item_index import ExactIndex, ItemIndex, Pairs
from openlum.retrieve import faiss_index
from openlum.retrieve.faiss_index import FaissIndex
from tests.model.conftest import ITEMS, small_model

V, E, Q = 700, 8, 11


def faiss(kind: str) -> Callable[[Tensor], ItemIndex]:
    """Return a builder of a FAISS index that skips the test where FAISS is missing."""

    def build(vectors: Tensor) -> ItemIndex:
        pytest.importorskip("faiss")
        return FaissIndex(vectors, kind)  # type: ignore[arg-type]

    return build


BUILDERS: dict[str, Callable[[Tensor], ItemIndex]] = {
    "exact": ExactIndex,
    "hnsw": faiss("hnsw"),
    "ivf-pq": faiss("ivf-pq"),
}


@pytest.fixture(scope="module")
def vectors() -> Tensor:
    return F.normalize(torch.randn(V, E, generator=torch.Generator().manual_seed(0)), dim=1)


@pytest.fixture(scope="module")
def queries() -> Tensor:
    return F.normalize(torch.randn(Q, E, generator=torch.Generator().manual_seed(1)), dim=1)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make several chunks of queries and many chunks of items."""
    for module in (item_index, faiss_index):
        monkeypatch.setattr(module, "SCORES", 256)
        monkeypatch.setattr(module, "QUERIES", 4)


def plain_search(queries: Tensor, vectors: Tensor, k: int, allowed: Tensor, excluded: Pairs) -> list[list[int]]:
    """Return the ids of the items of each query by a sort of all scores."""
    found = []
    for query, x in enumerate(queries):
        denied = {0, *excluded.item[excluded.query == query].tolist()}
        order = (vectors @ x).argsort(descending=True).tolist()
        found.append([item for item in order if allowed[item] and item not in denied][:k])
    return found


@pytest.mark.parametrize("name", BUILDERS)
class TestContract:
    """What holds for every index."""

    def test_scores_are_inner_products_in_order(self, name: str, vectors: Tensor, queries: Tensor) -> None:
        found = BUILDERS[name](vectors).search(queries, 7)
        expected = (vectors[found.item] * queries[:, None]).sum(-1)
        torch.testing.assert_close(found.score, expected, rtol=0, atol=1e-6)
        assert (found.score.diff(dim=1) <= 0).all()
        assert all(len(set(row)) == 7 and 0 not in row for row in found.item.tolist())

    @pytest.mark.parametrize("share", [0.0, 0.005, 0.1, 0.6, 1.0])
    def test_never_fewer_allowed_items_than_there_are(
        self, name: str, vectors: Tensor, queries: Tensor, share: float
    ) -> None:
        """Also where nearly all of the best items are excluded, and where fewer than k items are allowed."""
        rng = torch.Generator().manual_seed(2)
        allowed = torch.rand(V, generator=rng) < share
        near = (queries @ vectors.T).topk(60).indices
        excluded = Pairs(torch.arange(Q).repeat_interleave(60), near.flatten())
        found = BUILDERS[name](vectors).search(queries, 20, allowed, excluded)
        expected = plain_search(queries, vectors, 20, allowed, excluded)
        for query, plain in enumerate(expected):
            own = found.item[query][found.score[query] > -torch.inf].tolist()
            assert len(own) == len(plain)
            assert allowed[own].all()
            assert not set(own) & {0, *near[query].tolist()}
            if share < 1 / faiss_index.FETCH or name == "exact":
                assert own == plain

    def test_excluded_items_are_excluded_for_their_query_only(
        self, name: str, vectors: Tensor, queries: Tensor
    ) -> None:
        index = BUILDERS[name](vectors)
        best = index.search(queries, 1).item[:, 0]
        found = index.search(queries, 1, excluded=Pairs(torch.tensor([5, 9, 5]), best[[5, 9, 5]])).item[:, 0]
        assert (found != best).nonzero().flatten().tolist() == [5, 9]

    def test_most_of_the_exact_items_are_found(self, name: str, vectors: Tensor, queries: Tensor) -> None:
        found = BUILDERS[name](vectors).search(queries, 10).item.tolist()
        exact = plain_search(queries, vectors, 10, torch.ones(V, dtype=torch.bool), Pairs(*torch.empty(2, 0).long()))
        hits = [len(set(own) & set(plain)) for own, plain in zip(found, exact, strict=True)]
        assert np.mean(hits) >= (10 if name == "exact" else 7)

    def test_no_queries(self, name: str, vectors: Tensor) -> None:
        assert BUILDERS[name](vectors).search(torch.empty(0, E), 3).item.shape == (0, 3)


def test_no_matrix_is_larger_than_a_chunk(vectors: Tensor, queries: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    plain = Tensor.__matmul__

    def recorded(one: Tensor, other: Tensor) -> Tensor:
        result = plain(one, other)
        sizes.append(result.numel())
        return result

    monkeypatch.setattr(Tensor, "__matmul__", recorded)
    ExactIndex(vectors).search(queries, 5)
    assert 0 < max(sizes) <= item_index.SCORES


def test_a_faiss_index_that_cannot_be_built_is_explained(vectors: Tensor) -> None:
    pytest.importorskip("faiss")
    with pytest.raises(InputError, match="256 items or more, found 8 and 200"):
        FaissIndex(vectors[:200], "ivf-pq")
    with pytest.raises(InputError, match="unknown index 'tree'; choose from hnsw, ivf-pq"):
        FaissIndex(vectors, "tree")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model() -> LargeUserModel:
    return small_model("transformer")


HISTORIES = [[{"item": "i3"}, {"item": "i7"}, {"item": "i3"}], [], [{"item": "i9"}, {"item": "unknown"}]]


@pytest.mark.parametrize("allowed", [None, ["i3", "i9", "i11", "i20"]])
@pytest.mark.parametrize("k", [1, 4, ITEMS])
def test_recommendations_equal_a_sort_of_all_scores(model: LargeUserModel, allowed: list[str] | None, k: int) -> None:
    """With copies: items of the history have more than their inner product."""
    for history, rows in zip(HISTORIES, model.recommend(HISTORIES, k, filter=allowed, exclude_seen=False), strict=True):
        state = model.user_state(history)
        with torch.no_grad():
            scores = model.score_items(state.history, state.encode_questions([{}]), model.items())[0]
        names = [name for name in model.processor.items.values if allowed is None or name in allowed]
        by_item = dict(zip(names, scores[model.processor.items.encode(names)].tolist(), strict=True))
        expected = sorted(by_item, key=lambda name: -by_item[name])[:k]
        assert [row["item"] for row in rows] == expected
        assert [row["similarity"] for row in rows] == pytest.approx([by_item[name] for name in expected], abs=1e-5)


def test_an_index_recommends_what_the_exact_search_recommends(model: LargeUserModel) -> None:
    pytest.importorskip("faiss")
    index = FaissIndex(model.catalogue())  # the graph of so few items is complete
    for exclude_seen in (True, False):
        exact, found = (model.recommend(HISTORIES, 5, exclude_seen=exclude_seen, index=own) for own in (None, index))
        assert [[row["item"] for row in rows] for rows in found] == [[row["item"] for row in rows] for rows in exact]


def test_an_index_of_other_weights_is_refused() -> None:
    model, index = small_model("transformer"), ExactIndex(small_model("transformer").catalogue())
    model.recommend([], index=index)  # other memory, the same numbers
    with torch.no_grad():
        model.network.item_encoder.encoder.project.bias[0] += 1
    with pytest.raises(InputError, match="index: has the items of other weights"):
        model.recommend([], index=index)
