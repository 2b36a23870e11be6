"""The embeddings of the catalogue are computed once for the weights, and never used for other weights."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch

from openlum.model import LargeUserModel

from .conftest import ITEM, ITEMS, random_fields, small_model

HISTORY = [{"item": "i1"}, {"item": "i2"}]


@pytest.fixture
def model() -> LargeUserModel:
    return small_model("transformer")


@torch.no_grad()
def assert_current(model: LargeUserModel) -> None:
    """Compare the cached embeddings, and the similarities of recommended items, with embeddings that are computed again."""
    model.eval()
    items = model.items()
    torch.testing.assert_close(model.catalogue(), items, rtol=0, atol=1e-6)
    similarity = items @ model.ask(HISTORY, [{}])[0]
    for row in model.recommend(HISTORY, k=5):
        index = int(model.processor.items.encode([row["item"]])[0])
        assert row["similarity"] == pytest.approx(float(similarity[index]), abs=1e-6)


def optimizer_step(model: LargeUserModel, kind: str, **options: bool) -> None:
    optimizer = getattr(torch.optim, kind)(model.network.parameters(), lr=0.1, **options)
    model.items().sum().backward()
    optimizer.step()


def load_other_weights(model: LargeUserModel, assign: bool) -> None:
    other = small_model("transformer")
    with torch.no_grad():
        other.network.item_encoder.encoder.project.weight.mul_(-1)
    model.network.load_state_dict(other.network.state_dict(), assign=assign)


def replace_weights(model: LargeUserModel) -> None:
    """Replace the memory of a parameter twice, so that the second memory may have the address of the first."""
    weight = model.network.item_encoder.encoder.project.weight
    for factor in (2.0, -1.0):
        weight.data = weight.data * factor
        model.catalogue()


@torch.no_grad()
def change_in_place(model: LargeUserModel) -> None:
    model.network.item_encoder.encoder.project.bias[0] += 1


def change_in_inference_mode(model: LargeUserModel) -> None:
    with torch.inference_mode():
        model.network.item_encoder.encoder.project.bias.add_(1)


def change_trained_items(model: LargeUserModel) -> None:
    model.network.item_encoder.set_trained_items(torch.arange(ITEMS) < 10)


def change_features(model: LargeUserModel) -> None:
    model.network.item_encoder.set_features(random_fields(ITEM, ITEMS, np.random.default_rng(7)))


CHANGES: dict[str, Callable[[LargeUserModel], None]] = {
    "AdamW": lambda model: optimizer_step(model, "AdamW"),
    "AdamW foreach": lambda model: optimizer_step(model, "AdamW", foreach=True),
    "AdamW fused": lambda model: optimizer_step(model, "AdamW", fused=True),
    "SGD": lambda model: optimizer_step(model, "SGD"),
    "SGD fused": lambda model: optimizer_step(model, "SGD", fused=True),
    "Adagrad": lambda model: optimizer_step(model, "Adagrad"),
    "load": lambda model: load_other_weights(model, assign=False),
    "load by assignment": lambda model: load_other_weights(model, assign=True),
    "other memory": replace_weights,
    "in place": change_in_place,
    "in inference mode": change_in_inference_mode,
    "trained items": change_trained_items,
    "features": change_features,
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_of_the_weights_changes_the_catalogue(model: LargeUserModel, change: str) -> None:
    assert_current(model)
    before, fingerprint = model.catalogue().clone(), model.weights_fingerprint
    CHANGES[change](model)
    assert not torch.equal(model.eval().catalogue(), before)
    assert model.weights_fingerprint != fingerprint
    assert_current(model)


def test_the_catalogue_is_computed_once_for_the_same_weights(model: LargeUserModel) -> None:
    calls: list[int] = []
    model.network.item_encoder.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    for _ in range(3):
        model.recommend(HISTORY)
        model.train()
    assert calls.count(ITEMS) == 1
    change_in_place(model)
    model.recommend(HISTORY)
    assert calls.count(ITEMS) == 2


def test_a_copy_and_a_converted_model_have_their_own_catalogue(model: LargeUserModel) -> None:
    before = model.catalogue().clone()
    other = copy.deepcopy(model)
    change_in_place(other)
    assert_current(other)
    assert torch.equal(model.catalogue(), before)
    assert model.double().catalogue().dtype == torch.float64
    assert model.float().catalogue().dtype == torch.float32
    assert_current(model)


def test_weights_that_were_made_in_inference_mode_are_never_cached(model: LargeUserModel) -> None:
    """PyTorch does not count their changes."""
    with torch.inference_mode():
        other = copy.deepcopy(model)
        assert_current(other)
        other.network.item_encoder.encoder.project.bias.add_(1)
        assert_current(other)


def test_the_catalogue_can_be_used_with_and_without_gradients(model: LargeUserModel) -> None:
    with torch.inference_mode():
        model.catalogue()
    answer = torch.ones(model.config.settings.embedding_width, requires_grad=True)
    (model.catalogue() @ answer).sum().backward()
    assert answer.grad is not None


def test_a_loaded_model_has_the_fingerprint_of_the_saved_model(model: LargeUserModel, tmp_path) -> None:
    model.save_pretrained(tmp_path)
    assert LargeUserModel.load(tmp_path).weights_fingerprint == model.weights_fingerprint
