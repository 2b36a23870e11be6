"""A model and data that is not quite what it was trained on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.model import History, LargeUserModel, ModelSettings, Questions
from openlum.model.compatibility import check_fields
from openlum.pretrain.initial import build_model
from openlum.schema import FieldSpec
from tests.recode import recode

from .conftest import CONDITION, ITEMS, causal_answers, random_fields, random_history

SHAPE = ModelSettings(width=16, layers=1, heads=2, embedding_width=8)
PRICE = FieldSpec(name="price", type="numeric", mean=3.0)
BUCKETS = FieldSpec(name="price", type="categorical", size=4, edges=[1.0, 2.0])
HASHED = FieldSpec(name="query", type="categorical", size=9, hashed=True)


def beyond(values: dict[str, torch.Tensor], chosen: torch.Tensor, unknown: bool) -> dict[str, torch.Tensor]:
    """Ids of chosen rows replaced by ones that the model does not have, or by 0."""
    sizes = {spec.name: spec.size for spec in CONDITION if spec.size}
    out = dict(values)
    for name, size in sizes.items():
        out[name] = values[name].clone()
        out[name][chosen] = 0 if unknown else size + 3
    return out


def test_ids_that_came_after_training_are_unknown(model: LargeUserModel) -> None:
    history = random_history([6, 4], np.random.default_rng(0))
    chosen, user = torch.arange(10) % 3 == 0, torch.tensor([0, 0, 1, 1])
    asked = random_fields(CONDITION, 4, np.random.default_rng(1))
    found = []
    for unknown in (False, True):
        item = history.item.masked_fill(chosen, 0 if unknown else ITEMS + 5)
        past = History(item, beyond(history.condition, chosen, unknown), history.offsets)
        condition = beyond(asked, torch.tensor([True, False, True, False]), unknown)
        with torch.no_grad():
            later = model.answer_questions(
                model.encode_history(past), Questions(condition, user, torch.tensor([6, 3, 4, 2]))
            )
        found.append(torch.cat([causal_answers(model, past), later]))
    assert torch.equal(*found)
    with torch.no_grad():
        assert torch.equal(model.items(torch.tensor([ITEMS, ITEMS + 9])), model.items(torch.tensor([0, 0])))


def test_a_dataset_that_has_grown_fits(small_dataset: Dataset, tmp_path: Path) -> None:
    model = build_model(small_dataset, SHAPE, seed=0)
    names = ("items", "condition.scenario", "condition.rating", "item.tags")
    words = {name: small_dataset.vocabulary(name).values for name in names}
    model.check_compatible(
        recode(small_dataset, tmp_path / "grown", {n: [*values, "new"] for n, values in words.items()})
    )
    for name in names[:3]:
        other = recode(small_dataset, tmp_path / name, {name: [*words[name][1:], words[name][0], "new"]})
        with pytest.raises(InputError, match=f"ids of '{name.removeprefix('condition.')}'.*pretrain again"):
            model.check_compatible(other)


def test_a_dataset_that_is_behind_the_model_is_refused(small_dataset: Dataset, tmp_path: Path) -> None:
    words = [*small_dataset.vocabulary("condition.scenario").values, "new"]
    grown = recode(small_dataset, tmp_path / "grown", {"condition.scenario": words})
    with pytest.raises(InputError, match="ids of 'scenario'"):
        build_model(grown, SHAPE, seed=0).check_compatible(small_dataset)


@pytest.mark.parametrize(
    ("spec", "change", "message"),
    [
        (PRICE, {"mean": 4.0}, r"field 'price': 'mean' differs.*\(4.0 and 3.0\); do so"),
        (PRICE, {"std": 2.0}, "'std' differs"),
        (PRICE, {"type": "vector"}, "'type' differs"),
        (PRICE, {"name": "cost"}, r"\['cost'\] are not those of the model, \['price'\]"),
        (BUCKETS, {"edges": [1.0, 3.0]}, "'edges' differs"),
        (HASHED, {"size": 10}, "'size' differs"),
        (HASHED, {"hashed": False}, "'hashed' differs"),
        (HASHED, {"feedback": True}, "'feedback' differs"),
    ],
)
def test_the_first_difference_is_named(spec: FieldSpec, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_fields("condition", [spec], [spec.model_copy(update=change)], "do so")
