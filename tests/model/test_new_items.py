"""A new item is known by its fields: it has the embedding of an untrained item of the catalogue with the same fields."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.model import LargeUserModel, ModelSettings
from openlum.pretrain.initialization import build_model
from tests.model.conftest import fill_zero_weights

UNTRAINED = ["i3", "i11", "i16"]


def build(dataset: Dataset, **shape: float) -> LargeUserModel:
    """Return a model whose answers depend on its inputs. The items of `UNTRAINED` have no training events."""
    settings = {"width": 16, "layers": 1, "heads": 2, "embedding_width": 8} | shape
    model = build_model(dataset, ModelSettings.model_validate(settings), seed=0).eval()
    fill_zero_weights(model)
    with torch.no_grad():
        model.network.item_encoder.hidden_id.normal_()
    trained = torch.ones(model.config.items, dtype=torch.bool)
    trained[torch.from_numpy(model.processor.items.encode(UNTRAINED))] = False
    model.network.item_encoder.set_trained_items(trained)
    return model


@pytest.fixture(scope="module")
def model(small_dataset: Dataset) -> LargeUserModel:
    return build(small_dataset)


@pytest.fixture(scope="module")
def items(small_dataset: Dataset, model: LargeUserModel) -> list[dict[str, Any]]:
    """Return copies of the untrained items under new ids, in raw values, as a caller has them."""
    features, specs = small_dataset.item_features(), {spec.name: spec for spec in small_dataset.specs("item")}
    tags, price = small_dataset.vocabulary("item.tags"), specs["price"]
    return [
        {
            "item": f"new {name}",
            "title": f"Copy of {name}",
            "tags": [tags.values[tag - 1] for tag in features["tags"][index] if tag],
            "price": float(features["price"][index]) * price.std + price.mean,
            "content": features["content"][index].tolist(),
        }
        for name, index in zip(UNTRAINED, model.processor.items.encode(UNTRAINED).tolist(), strict=True)
    ]


def test_a_new_item_has_the_embedding_of_an_untrained_item_with_its_fields(
    model: LargeUserModel, items: list[dict[str, Any]]
) -> None:
    grown = model.with_items(items)
    new = [row["item"] for row in items]
    torch.testing.assert_close(grown.embed_items(new), model.embed_items(UNTRAINED), rtol=0, atol=1e-5)
    assert (grown.embed_items(new).diff(dim=0).abs().amax(1) > 1e-3).all(), "the fields matter"


def test_a_new_item_can_be_recommended_asked_about_and_in_a_history(
    model: LargeUserModel, items: list[dict[str, Any]]
) -> None:
    grown, history = model.with_items(items), [{"item": "i5"}]
    similarity = {row["item"]: row for row in grown.recommend(history, k=100)}
    for old, row in zip(UNTRAINED, items, strict=True):
        assert similarity[row["item"]]["similarity"] == pytest.approx(similarity[old]["similarity"], abs=1e-5)
        assert similarity[row["item"]]["title"] == row["title"]
    old, new = (grown.predict_feedback(history, [name])[0]["rating"] for name in ("i3", "new i3"))
    assert list(new.values()) == pytest.approx(list(old.values()), abs=1e-5)
    answers = [grown.ask([{"item": name}], [{}]) for name in ("i3", "new i3")]
    torch.testing.assert_close(*answers, rtol=0, atol=1e-5)
    assert "new i3" not in [row["item"] for row in grown.recommend([{"item": "new i3"}], k=100)]


def test_the_other_items_and_the_given_model_stay_the_same(
    model: LargeUserModel, items: list[dict[str, Any]], tmp_path: Path
) -> None:
    before, recommended = model.catalogue().clone(), model.recommend([{"item": "i5"}], k=100)
    grown = model.with_items(items)
    torch.testing.assert_close(grown.catalogue()[: len(before)], before, rtol=0, atol=1e-6)
    assert torch.equal(model.catalogue(), before)
    assert model.recommend([{"item": "i5"}], k=100) == recommended
    twice = grown.with_items([{"item": "later"}])
    assert twice.processor.items.values[-4:] == [*(row["item"] for row in items), "later"]
    twice.save_pretrained(tmp_path)
    assert torch.equal(LargeUserModel.load(tmp_path).catalogue(), twice.catalogue())


def test_missing_and_new_values_of_fields_are_allowed(model: LargeUserModel) -> None:
    rows = [{"item": "a"}, {"item": "b", "tags": ["never seen"], "price": None}, {"item": "c", "price": 3}]
    a, b, c = model.with_items(rows).embed_items(["a", "b", "c"]).numpy()
    assert np.abs(a - b).max() < 1e-6 < 1e-3 < np.abs(a - c).max()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "expected a list of at least one mapping"),
        ({"item": "a"}, "expected a list of at least one mapping"),
        ([{"price": 3}], "item 0 has no 'item'"),
        ([{"item": "a"}, {"item": "i3"}], "item 1: the id 'i3' .* is in the catalogue already"),
        ([{"item": 7}, {"item": "7"}], "item 1: the id '7' .* is twice in the list"),
        (
            [{"item": "a", "colour": "red"}],
            "item 0: field 'colour': the model has no such item field; choose from tags",
        ),
        ([{"item": "a", "price": "high"}], "item 0: field 'price': 'high' is not a finite number"),
        ([{"item": "a", "content": [1, 2]}], "item 0: field 'content': .* is not a list of 3 finite numbers"),
    ],
)
def test_a_wrong_item_is_explained(model: LargeUserModel, rows: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.with_items(rows)


def test_a_model_that_knows_ids_only_is_refused(small_dataset: Dataset) -> None:
    with pytest.raises(InputError, match=r"with_items: the model was trained with model.id_dropout 0"):
        build(small_dataset, id_dropout=0.0).with_items([{"item": "a"}])
