"""Filters of recommendations: by fields of the item table and by lists of ids."""

from typing import Any

import numpy as np
import pytest
import torch

from openlum.data.vocabulary import Vocabulary
from openlum.errors import InputError
from openlum.field_spec import FieldSpec
from openlum.model import LargeUserModel, ModelConfig, ModelSettings, Processor
from openlum.model.item_filter import ItemFilter

V = 40
STOCK, GENRES = ["true", "false"], ["drama", "comedy", "war"]
HISTORIES = [[{"item": "i3"}, {"item": "i5"}], [], [{"item": "i7"}]]


@pytest.fixture(scope="module")
def model() -> LargeUserModel:
    """Return a model of items with a true or false field, a field of lists, and fields that cannot be filtered by."""
    specs = [
        FieldSpec(name="in_stock", type="categorical", size=3),
        FieldSpec(name="genres", type="multi", size=4, width=2),
        FieldSpec(name="price", type="numeric"),
        FieldSpec(name="seller", type="categorical", size=9, hashed=True),
        FieldSpec(name="pages", type="categorical", size=3, edges=[100.0]),
    ]
    settings = ModelSettings(width=16, layers=1, heads=2, embedding_width=8)
    config = ModelConfig(settings=settings, condition=[], item=specs, items=V)
    items = Vocabulary([f"i{index}" for index in range(1, V)])
    vocabularies = {"in_stock": Vocabulary(STOCK), "genres": Vocabulary(GENRES)}
    torch.manual_seed(0)
    model = LargeUserModel(config, Processor(items, ["(unknown)", *items.values], {}, vocabularies)).eval()
    rng = np.random.default_rng(0)
    features = {spec.name: torch.from_numpy(rng.integers(0, max(spec.size, 2), (V, spec.width))) for spec in specs}
    features = {
        spec.name: features[spec.name] if spec.name == "genres" else features[spec.name][:, 0] for spec in specs
    }
    model.network.item_encoder.set_features(features)
    return model


def satisfies(model: LargeUserModel, index: int, stock: set[str] | None, genres: set[str] | None) -> bool:
    """Return whether the item at an index has one of the values of each field; None for any value or none."""
    features = model.network.item_encoder.features()
    own_stock = {STOCK[i - 1] for i in [int(features["in_stock"][index])] if i}
    own_genres = {GENRES[i - 1] for i in features["genres"][index].tolist() if i}
    return all(values is None or own & values for own, values in ((own_stock, stock), (own_genres, genres)))


@pytest.mark.parametrize(
    ("where", "stock", "genres"),
    [
        ({"in_stock": True}, {"true"}, None),
        ({"in_stock": "False"}, {"false"}, None),
        ({"in_stock": [True, False]}, {"true", "false"}, None),
        ({"genres": "war"}, None, {"war"}),
        ({"genres": ["war", "comedy"], "in_stock": True}, {"true"}, {"war", "comedy"}),
    ],
)
@pytest.mark.parametrize("k", [3, V])
def test_a_filter_leaves_the_items_that_satisfy_it_in_their_order(
    model: LargeUserModel, where: dict[str, Any], stock: set[str] | None, genres: set[str] | None, k: int
) -> None:
    denied = {"i9", "i10"}
    every = model.recommend(HISTORIES, k=V)
    filtered = model.recommend(HISTORIES, k, filter={"where": where, "deny": [*denied, "never seen"]})
    for rows, own in zip(every, filtered, strict=True):
        names = [row["item"] for row in rows if satisfies(model, int(row["item"][1:]), stock, genres)]
        expected = [name for name in names if name not in denied][:k]
        assert len(expected) >= 3
        assert [row["item"] for row in own] == expected


def test_the_forms_of_a_filter_agree(model: LargeUserModel) -> None:
    ids = ["i4", "i9", "i20"]
    forms: list[Any] = [ids, set(ids), np.array(ids), {"allow": ids}, {"allow": set(ids)}, ItemFilter(allow=ids)]
    results = [model.recommend(HISTORIES, k=V, filter=form) for form in forms]
    assert all(result == results[0] for result in results)
    assert {row["item"] for row in results[0][1]} == set(ids)
    assert [row["item"] for row in model.recommend([], V, filter={"allow": ids, "deny": ["i4", "i20"]})] == ["i9"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"where": {"stock": True}}, "filter: 'stock' is not a field .*; choose from in_stock, genres"),
        ({"where": {"price": 3}}, "filter: field 'price' is numeric; .* choose from in_stock, genres"),
        ({"where": {"seller": "a"}}, "field 'seller' is hashed"),
        ({"where": {"pages": 3}}, "field 'pages' is in buckets"),
        ({"where": {"genres": ["war", "comdy"]}}, "no item has 'comdy' in the field 'genres'; did you mean 'comedy'?"),
        ({"where": {"in_stock": 7}}, "no item has 7 in the field 'in_stock'; values are true, false"),
        ({"genres": "war"}, "filter: unknown key 'genres'; known keys: where, allow, deny"),
        ({"allow": []}, "filter: key 'allow'"),
        ({"deny": [{}]}, "items: element 0 is {}"),
    ],
)
def test_a_wrong_filter_is_explained(model: LargeUserModel, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        model.recommend([], filter=value)
