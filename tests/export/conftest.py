"""Models of all kinds of context, and random requests to them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from openlum.data.vocabulary import Vocabulary
from openlum.field_spec import FieldSpec, TimeField
from openlum.model import LargeUserModel, ModelConfig, ModelSettings, Processor
from tests.model.conftest import ITEM, ITEMS, TIME_SIZES

CONTEXT = [
    FieldSpec(name="user.country code", type="categorical", size=4),
    FieldSpec(name="words", type="multi", size=9, width=3),
    FieldSpec(name="linear", type="numeric", mean=3.0, std=2.0),
    FieldSpec(name="query", type="vector", width=5),
    FieldSpec(name="page", type="categorical", size=6, hashed=True),
]
FEEDBACK = [
    FieldSpec(name="rating", type="categorical", size=6, feedback=True),
    FieldSpec(name="seconds", type="numeric", feedback=True),
    FieldSpec(name="share", type="categorical", size=3, feedback=True),
]
SMALL: dict[str, Any] = {"width": 24, "layers": 1, "heads": 2, "embedding_width": 16}
KINDS: dict[str, dict[str, Any]] = {
    "all types of fields": {"condition": [*CONTEXT, *FEEDBACK], "time_fields": ["hour", "gap"]},
    "no feedback": {"condition": CONTEXT, "time_fields": ["hour", "weekday"]},
    "no conditions": {"condition": [*CONTEXT, *FEEDBACK], "conditions": False},
}


def model_of(condition: list[FieldSpec], time_fields: Sequence[TimeField] = (), **settings: Any) -> LargeUserModel:
    """Return a model with random weights; it is small unless the settings say otherwise."""
    torch.manual_seed(0)
    times = [FieldSpec(name=name, type="categorical", size=TIME_SIZES[name]) for name in time_fields]
    config = ModelConfig(
        settings=ModelSettings(**SMALL | settings),
        condition=[*condition, *times],
        item=ITEM,
        items=ITEMS,
        time_fields=list(time_fields),
        fingerprint="abc",
    )
    vocabularies = {
        spec.name: Vocabulary([f"{spec.name} {value}" for value in range(1, spec.size)])
        for spec in condition
        if spec.size and not spec.hashed
    }
    items = Vocabulary([f"i{index}" for index in range(1, ITEMS)])
    titles = ["(unknown)", *items.values]
    model = LargeUserModel(config, Processor(items, titles, vocabularies)).eval()
    torch.nn.init.normal_(model.network.matching_head.correction.weight)  # it begins as 0
    return model


@pytest.fixture(scope="session", params=list(KINDS))
def model(request: pytest.FixtureRequest) -> LargeUserModel:
    return model_of(**KINDS[request.param])


def unit_rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return random vectors of unit length, (..., E)."""
    x = rng.normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def random_context(specs: Sequence[FieldSpec], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the encoded context of a request. It lacks some fields and has ids that entered the vocabulary after training."""
    context = {}
    for spec in specs:
        if rng.random() < 0.3:
            continue
        shape = {"multi": (rng.integers(1, 5),), "vector": (spec.width,)}.get(spec.type, ())
        if spec.size:
            context[spec.name] = rng.integers(0, spec.size + 2, shape)
        else:
            scale = rng.choice([1.0, 1e6, np.nan], p=[0.8, 0.1, 0.1])
            context[spec.name] = np.asarray(rng.normal(size=shape) * scale, np.float32)
    return context
