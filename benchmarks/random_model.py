"""The model with random weights that benchmarks of speed use."""

import torch

from openlum.data.vocabulary import Vocabulary
from openlum.field_spec import FieldSpec
from openlum.model import LargeUserModel, ModelConfig, ModelSettings, Processor

CATALOGUE = 2000
SIZES = {"scenario": 5, "hour": 25, "rating": 8}
"""Condition fields and their numbers of ids. Seven ratings, *any* and eight learned questions give 16 user vectors."""


def random_model(settings: ModelSettings | None = None) -> LargeUserModel:
    """Return a model of this shape with random weights; without settings, one of the default shape."""
    torch.manual_seed(0)
    config = ModelConfig(
        settings=settings or ModelSettings(),
        condition=[
            FieldSpec(name=name, type="categorical", size=size, feedback=name == "rating")
            for name, size in SIZES.items()
        ],
        item=[],
        items=CATALOGUE,
        time_fields=["hour"],
    )
    items = Vocabulary([str(item) for item in range(1, CATALOGUE)])
    vocabularies = {name: Vocabulary([str(value) for value in range(1, size)]) for name, size in SIZES.items()}
    del vocabularies["hour"]  # a time field: its ids are its values
    model = LargeUserModel(config, Processor(items, ["(unknown)", *items.values], vocabularies)).eval()
    for weight in model.parameters():
        if not weight.any():  # otherwise answers would not depend on the history
            torch.nn.init.normal_(weight, std=0.1)
    return model
