"""A model with data that differs from its training data."""

from pathlib import Path

import numpy as np
import pytest
import torch

from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.field_spec import FieldSpec
from openlum.model import History, LargeUserModel, ModelSettings, Questions
from openlum.model.compatibility import check_fields
from openlum.pretrain.initialization import build_model
from tests.recode import recode

from .conftest import CONDITION, ITEMS, causal_answers, random_fields, random_history

SHAPE = ModelSettings(width=16, layers=1, heads=2, embedding_width=8)
PRICE = FieldSpec(name="price", type="numeric", mean=3.0)
BUCKETS = FieldSpec(name="price", type="categorical", size=4, edges=[1.0, 2.0])
HASHED = FieldSpec(name="query", type="categorical", size=9, hashed=True)


def replace_ids(values: dict[str, torch.Tensor], rows: torch.Tensor, unknown: bool) -> dict[str, torch.Tensor]:
    """Return the fields with other ids in these rows: 0 if `unknown`, otherwise ids that the model does not have."""
    sizes = {spec.name: spec.size for spec in CONDITION if spec.size}
    out = dict(values)
    for name, size in sizes.items():
        out[name] = values[name].clone()
        out[name][rows] = 0 if unknown else size + 3
    return out


def test_ids_of_values_added_after_training_are_unknown(model: LargeUserModel) -> None:
    history = random_history([6, 4], np.random.default_rng(0))
    rows, user_index = torch.arange(10) % 3 == 0, torch.tensor([0, 0, 1, 1])
    query_condition = random_fields(CONDITION, 4, np.random.default_rng(1))
    answers = []
    for unknown in (False, True):
        item = history.item.masked_fill(rows, 0 if unknown else ITEMS + 5)
        new_history = History(item, replace_ids(history.condition, rows, unknown), history.offsets)
        condition = replace_ids(query_condition, torch.tensor([True, False, True, False]), unknown)
        with torch.no_grad():
            questions = Questions(condition, user_index, torch.tensor([6, 3, 4, 2]))
            group_answers = model.answer_questions(model.encode_history(new_history), questions)
        answers.append(torch.cat([causal_answers(model, new_history), group_answers]))
    assert torch.equal(*answers)
    with torch.no_grad():
        assert torch.equal(model.items(torch.tensor([ITEMS, ITEMS + 9])), model.items(torch.tensor([0, 0])))


def test_a_dataset_that_has_grown_is_compatible(small_dataset: Dataset, tmp_path: Path) -> None:
    model = build_model(small_dataset, SHAPE, seed=0)
    names = ("items", "condition.scenario", "condition.rating", "item.tags")
    values = {name: small_dataset.vocabulary(name).values for name in names}
    model.check_compatible(
        recode(small_dataset, tmp_path / "grown", {name: [*old_values, "new"] for name, old_values in values.items()})
    )
    for name in names[:3]:
        other = recode(small_dataset, tmp_path / name, {name: [*values[name][1:], values[name][0], "new"]})
        with pytest.raises(InputError, match=f"ids of '{name.removeprefix('condition.')}'.*pretrain again"):
            model.check_compatible(other)


def test_a_dataset_with_fewer_values_than_the_model_is_refused(small_dataset: Dataset, tmp_path: Path) -> None:
    values = [*small_dataset.vocabulary("condition.scenario").values, "new"]
    grown = recode(small_dataset, tmp_path / "grown", {"condition.scenario": values})
    with pytest.raises(InputError, match="ids of 'scenario'"):
        build_model(grown, SHAPE, seed=0).check_compatible(small_dataset)


@pytest.mark.parametrize(
    ("spec", "change", "message"),
    [
        (PRICE, {"mean": 4.0}, r"field 'price': 'mean' differs.*\(4.0 and 3.0\); do so"),
        (PRICE, {"std": 2.0}, "'std' differs"),
        (PRICE, {"type": "vector"}, "'type' differs"),
        (PRICE, {"name": "cost"}, r"condition fields \['cost'\], but the model has \['price'\]"),
        (BUCKETS, {"edges": [1.0, 3.0]}, "'edges' differs"),
        (HASHED, {"size": 10}, "'size' differs"),
        (HASHED, {"hashed": False}, "'hashed' differs"),
        (HASHED, {"feedback": True}, "'feedback' differs"),
    ],
)
def test_the_message_names_the_first_difference(spec: FieldSpec, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_fields("condition", [spec], [spec.model_copy(update=change)], "do so")
