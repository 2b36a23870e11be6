"""The shape of a model from its size."""

import math

import pytest
import torch

from openlum.config import parse_settings
from openlum.errors import InputError
from openlum.model.settings import ModelSettings
from openlum.model.size import encoder_parameters, heads_for, ideal_layers, shape_of
from openlum.model.user_encoder import UserEncoder

SIZES = [20_000, 31_000, 50_000, 77_777, 100_000, 200_000, 450_000, 1_000_000, 3_300_000, 10**7, 10**8, 10**9]


@pytest.mark.parametrize("encoder", ["transformer", "hstu"])
@pytest.mark.parametrize("size", SIZES)
def test_the_encoder_has_about_as_many_parameters_as_asked_for(size: int, encoder: str) -> None:
    settings = ModelSettings(encoder=encoder)
    plan = shape_of(size, settings)
    with torch.device("meta"):
        network = UserEncoder(settings.with_plan(plan))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert plan["size"] == encoder_parameters(settings.with_plan(plan)) == parameters
    assert parameters == pytest.approx(size, rel=0.06)


@pytest.mark.parametrize("size", [7 * 10**9, 7 * 10**10])
def test_the_rule_extends_to_models_of_many_gpus(size: int) -> None:
    plan = shape_of(size, ModelSettings())
    assert plan["size"] == pytest.approx(size, rel=0.03)
    assert plan["width"] % 128 == 0
    assert plan["width"] / plan["heads"] >= 64


def test_a_hundred_thousand_parameters_are_two_layers_of_width_64() -> None:
    plan = shape_of(100_000, ModelSettings())
    assert (plan["layers"], plan["width"], plan["heads"], plan["embedding_width"]) == (2, 64, 4, 64)


def test_layers_and_width_do_not_fall_with_the_size() -> None:
    layers = [ideal_layers(size) for size in SIZES]
    assert layers == sorted(layers)


@pytest.mark.parametrize(
    "chosen",
    [{"layers": 4}, {"width": 48}, {"heads": 3}, {"width": 40, "heads": 5}, {"layers": 3, "width": 24, "heads": 2}],
)
def test_the_rest_of_a_shape_follows_the_keys_of_the_user(chosen: dict[str, int]) -> None:
    settings = ModelSettings.model_validate(chosen)
    model = settings.with_plan(shape_of(100_000, settings))
    assert {key: getattr(model, key) for key in chosen} == chosen
    assert model.width % (2 * model.heads) == 0


@pytest.mark.parametrize("width", range(8, 512, 4))
def test_heads_fit_every_width(width: int) -> None:
    assert width % (2 * heads_for(width)) == 0
    assert 2 <= width / heads_for(width) <= 256


def test_a_size_without_room_for_a_block_is_refused() -> None:
    with pytest.raises(InputError, match="key 'size': Input should be greater than or equal to 100"):
        parse_settings({"size": 50}, ModelSettings, "model")
    assert shape_of(100, ModelSettings())["width"] == 8
    assert math.isclose(ideal_layers(1), 1.0)
