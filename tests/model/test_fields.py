"""Untrained items and id dropout."""

import numpy as np
import pytest
import torch

from openlum.model.fields import ItemEncoder

from .conftest import ITEM, ITEMS, random_fields

ALL_ITEMS = torch.arange(ITEMS)


@pytest.fixture
def encoder() -> ItemEncoder:
    """An encoder whose trained items are those with odd ids."""
    torch.manual_seed(0)
    encoder = ItemEncoder(ITEM, ITEMS, 4, 8, id_dropout=0.3).eval()
    encoder.set_features(random_fields(ITEM, ITEMS, np.random.default_rng(0)))
    encoder.set_trained_items(ALL_ITEMS % 2 == 1)
    return encoder


def test_an_untrained_item_is_encoded_from_its_fields_only(encoder: ItemEncoder) -> None:
    before = encoder(ALL_ITEMS)
    with torch.no_grad():
        encoder.get_parameter("encoder.fields.0.table.weight")[1:] += 1
    changed = (encoder(ALL_ITEMS) != before).any(1)
    assert torch.equal(changed, ALL_ITEMS % 2 == 1)
    feature = encoder.get_buffer("feature_0")
    feature[4] = (feature[4] + 1) % ITEM[0].size
    assert (encoder(ALL_ITEMS[4:5]) != before[4:5]).any()


def test_a_hidden_id_is_encoded_like_the_id_of_an_untrained_item(encoder: ItemEncoder) -> None:
    """Ids are hidden only in training, with about the probability `id_dropout`."""
    with_ids = encoder(ALL_ITEMS)
    assert torch.equal(encoder(ALL_ITEMS), with_ids)
    encoder.train()
    samples = torch.stack([encoder(ALL_ITEMS) for _ in range(400)])  # (400, V, E)
    encoder.set_trained_items(torch.zeros(ITEMS, dtype=torch.bool))
    hidden = encoder.eval()(ALL_ITEMS)
    as_hidden = torch.isclose(samples, hidden, atol=1e-6).all(-1)  # (400, V)
    assert (as_hidden | torch.isclose(samples, with_ids, atol=1e-6).all(-1)).all()
    assert as_hidden[:, ALL_ITEMS % 2 == 0].all()
    assert as_hidden[:, ALL_ITEMS % 2 == 1].float().mean() == pytest.approx(0.3, abs=0.03)


def test_without_fields_an_id_is_never_hidden() -> None:
    encoder = ItemEncoder([], ITEMS, 4, 8, id_dropout=0.9).train()
    assert torch.equal(encoder(ALL_ITEMS), encoder(ALL_ITEMS))
