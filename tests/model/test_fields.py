"""Items that training has not met, and ids that are hidden now and then."""

import numpy as np
import pytest
import torch

from openlum.model.fields import ItemEncoder

from .conftest import ITEM, ITEMS, random_fields

EVERY = torch.arange(ITEMS)


@pytest.fixture
def encoder() -> ItemEncoder:
    """That has met the items of odd ids."""
    torch.manual_seed(0)
    encoder = ItemEncoder(ITEM, ITEMS, 4, 8, id_dropout=0.3).eval()
    encoder.set_features(random_fields(ITEM, ITEMS, np.random.default_rng(0)))
    encoder.set_trained_items(EVERY % 2 == 1)
    return encoder


def test_an_item_that_was_not_met_is_told_by_its_fields_alone(encoder: ItemEncoder) -> None:
    before = encoder(EVERY)
    with torch.no_grad():
        encoder.get_parameter("encoder.fields.0.table.weight")[1:] += 1
    changed = (encoder(EVERY) != before).any(1)
    assert torch.equal(changed, EVERY % 2 == 1)
    feature = encoder.get_buffer("feature_0")
    feature[4] = (feature[4] + 1) % ITEM[0].size
    assert (encoder(EVERY[4:5]) != before[4:5]).any()


def test_a_hidden_id_looks_like_that_of_an_item_that_was_not_met(encoder: ItemEncoder) -> None:
    """In training alone, and about as often as asked for."""
    shown = encoder(EVERY)
    assert torch.equal(encoder(EVERY), shown)
    encoder.train()
    seen = torch.stack([encoder(EVERY) for _ in range(400)])  # (400, V, E)
    encoder.set_trained_items(torch.zeros(ITEMS, dtype=torch.bool))
    hidden = encoder.eval()(EVERY)
    as_hidden = torch.isclose(seen, hidden, atol=1e-6).all(-1)  # (400, V)
    assert (as_hidden | torch.isclose(seen, shown, atol=1e-6).all(-1)).all()
    assert as_hidden[:, EVERY % 2 == 0].all()
    assert as_hidden[:, EVERY % 2 == 1].float().mean() == pytest.approx(0.3, abs=0.03)


def test_without_fields_an_id_is_never_hidden() -> None:
    encoder = ItemEncoder([], ITEMS, 4, 8, id_dropout=0.9).train()
    assert torch.equal(encoder(EVERY), encoder(EVERY))
