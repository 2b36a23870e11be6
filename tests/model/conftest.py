"""A small model with every type of field, and random histories for it."""

import copy
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from openlum.data.vocabulary import Vocabulary
from openlum.field_spec import GAP_BUCKETS, FieldSpec, TimeField
from openlum.model import History, LargeUserModel, ModelConfig, ModelSettings, Processor

CONDITION = [
    FieldSpec(name="scenario", type="categorical", size=4),
    FieldSpec(name="words", type="multi", size=9, width=3),
    FieldSpec(name="price", type="numeric"),
    FieldSpec(name="query", type="vector", width=5),
    FieldSpec(name="rating", type="categorical", size=6, feedback=True),
]
ITEM = [
    FieldSpec(name="brand", type="categorical", size=7),
    FieldSpec(name="genres", type="multi", size=5, width=3),
    FieldSpec(name="content", type="vector", width=4),
]
ITEMS = 30
TIME_SIZES: dict[TimeField, int] = {"hour": 25, "weekday": 8, "gap": GAP_BUCKETS + 2}


def random_fields(specs: list[FieldSpec], n: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Return random fields of `n` tokens."""
    fields = {}
    for spec in specs:
        shape = (n, spec.width) if spec.type in ("multi", "vector") else (n,)
        values = rng.integers(0, spec.size, shape) if spec.size else rng.normal(size=shape).astype(np.float32)
        fields[spec.name] = torch.from_numpy(values)
    return fields


def to_double(fields: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the fields in double precision, for `double_model`."""
    return {name: field.double() if field.is_floating_point() else field for name, field in fields.items()}


def random_history(lengths: list[int], rng: np.random.Generator) -> History:
    """Return random histories of users with these numbers of events."""
    n = sum(lengths)
    item = torch.from_numpy(rng.integers(1, ITEMS, n))
    return History(item, random_fields(CONDITION, n, rng), torch.tensor([0, *np.cumsum(lengths)]))


def fill_zero_weights(model: LargeUserModel) -> None:
    """Give random values to the weights that start at 0. Otherwise blocks are the identity, which hides errors of attention."""
    for name, parameter in model.named_parameters():
        if name.endswith(("_out.weight", ".out.weight", "shortcut.weight", ".bias")) and parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.3)
        elif name.endswith(
            "last.weight"
        ):  # its input is long: with a larger std, the last event would hide the condition
            torch.nn.init.normal_(parameter, std=0.05)
        elif name.endswith("choices.weight"):  # copies would otherwise not depend on the question
            torch.nn.init.normal_(parameter, std=0.1)


def small_model(encoder: Literal["transformer", "hstu"], time_fields: Sequence[TimeField] = ()) -> LargeUserModel:
    """Return a small model, optionally with time fields."""
    times = [FieldSpec(name=name, type="categorical", size=TIME_SIZES[name]) for name in time_fields]
    config = ModelConfig(
        settings=ModelSettings(encoder=encoder, width=32, layers=3, heads=2, embedding_width=16, max_events=64),
        condition=[*CONDITION, *times],
        item=ITEM,
        items=ITEMS,
        time_fields=list(time_fields),
    )
    torch.manual_seed(0)
    items = Vocabulary([f"i{index}" for index in range(1, ITEMS)])
    titles = ["(unknown)", *(f"Item {index}" for index in range(1, ITEMS))]
    conditions = {s.name: Vocabulary([f"{s.name}{v}" for v in range(1, s.size)]) for s in CONDITION if s.size}
    model = LargeUserModel(config, Processor(items, titles, conditions)).eval()
    fill_zero_weights(model)
    model.network.item_encoder.set_features(random_fields(ITEM, ITEMS, np.random.default_rng(1)))
    return model


@pytest.fixture(scope="session", params=["transformer", "hstu"])
def model(request: pytest.FixtureRequest) -> LargeUserModel:
    return small_model(request.param)


@pytest.fixture(scope="session")
def double_model(model: LargeUserModel) -> LargeUserModel:
    """The model in double precision: HSTU normalises attention outputs near 0, which would amplify rounding errors."""
    return copy.deepcopy(model).double()


@torch.no_grad()
def causal_answers(model: LargeUserModel, history: History) -> torch.Tensor:
    """Return the answers (L, E) of one plain autoregressive pass, at the condition token of every event."""
    recorded: list[torch.Tensor] = []
    hook = model.network.user_encoder.token_norm.register_forward_pre_hook(lambda _, inputs: recorded.append(inputs[0]))
    model.encode_history(history)
    hook.remove()
    output, _ = model.network.user_encoder.encode_history(recorded[0], 2 * history.offsets)
    assert output is not None
    return F.normalize(model.network.head(output[0::2]), dim=-1)
