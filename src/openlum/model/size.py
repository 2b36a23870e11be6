"""From the size of a model to its shape: one number of parameters gives layers, width, heads and embedding width.

Shapes: D width of the user encoder, H heads, E embedding width.
"""

import math
from functools import cache

import torch

from openlum.model.encoders import ENCODERS
from openlum.model.settings import ModelSettings

LAYERS = (
    (2e4, 1),
    (5e4, 2),
    (3e5, 2),
    (1e6, 4),
    (1e7, 8),
    (1e8, 12),
    (1e9, 24),
    (7e9, 32),
    (7e10, 80),
)
"""Number of parameters, and the number of layers of a model of this size. Between two rows, layers grow as a power of the size.

From a hundred million on, the rows are those of language models (Brown et al. 2020, Touvron et al. 2023)."""
WIDTH_STEPS = ((128, 4), (512, 8), (1024, 32), (4096, 64), (math.inf, 128))
"""Up to this width, a width is a multiple of this number. Larger multiples suit the tiles of a GPU."""
HEAD_WIDTHS = ((64, 16), (256, 32), (2048, 64), (math.inf, 128))
"""Up to this width, a head has about this width."""


def encoder_parameters(settings: ModelSettings) -> int:
    """Return the number of parameters of the user encoder: all its blocks and norms, without embeddings and heads."""
    return settings.layers * _block_parameters(settings.model_copy(update={"layers": 1})) + 2 * settings.width


def shape_of(size: int, settings: ModelSettings) -> dict[str, int]:
    """Return `layers`, `width`, `heads` and `embedding_width` for a user encoder of about `size` parameters, and its `size`.

    Keys that the user has set stay: the others adapt to them. If the user has set both layers and width, `size` is ignored.

    Args:
        size: number of parameters of the user encoder.
        settings: with the user's keys.
    """
    ideal = ideal_layers(size)
    layer_options = range(max(1, math.floor(ideal * 0.9 - 0.5)), math.ceil(ideal * 1.1 + 0.5) + 1)
    layer_options = range(settings.layers, settings.layers + 1) if not settings.is_auto("layers") else layer_options
    shapes = [_with_width(size, layers, settings) for layers in layer_options]
    chosen = min(
        shapes,
        key=lambda shape: abs(math.log(encoder_parameters(shape) / size)) + 0.2 * abs(math.log(shape.layers / ideal)),
    )
    return {
        "layers": chosen.layers,
        "width": chosen.width,
        "heads": chosen.heads,
        "embedding_width": embedding_width(chosen.width),
        "size": encoder_parameters(chosen),
    }


def ideal_layers(size: int) -> float:
    """Return the number of layers of a model of `size` parameters, by `LAYERS`; not rounded."""
    sizes, layers = zip(*LAYERS, strict=True)
    if size <= sizes[0]:
        return float(layers[0])
    upper = next((index for index, other in enumerate(sizes) if size <= other), len(sizes) - 1)
    lower = upper - 1
    slope = math.log(layers[upper] / layers[lower]) / math.log(sizes[upper] / sizes[lower])
    return float(layers[lower] * (size / sizes[lower]) ** slope)


def embedding_width(width: int) -> int:
    """Return E for a user encoder of width D: D up to 128. Above, E grows as the square root of D, because answers are stored."""
    return width if width <= 128 else round(128 * math.sqrt(width / 128) / 16) * 16


def heads_for(width: int) -> int:
    """Return the number of heads of about the width in `HEAD_WIDTHS`. The width is a multiple of twice this number."""
    target = next(head_width for largest, head_width in HEAD_WIDTHS if width <= largest)
    options = [heads for heads in range(1, width // 2 + 1) if width % (2 * heads) == 0]
    return min(options, key=lambda heads: abs(math.log(width / heads / target)))


def _with_width(size: int, layers: int, settings: ModelSettings) -> ModelSettings:
    """Return the settings with the width, and heads for it, whose user encoder is nearest to `size`."""
    if not settings.is_auto("width"):
        return _of_width(settings.width, layers, settings)
    # A block has c D ** 2 parameters. c is about the same for all widths, so the estimate is near, and its neighbours are tried.
    unit = 2 * settings.heads if not settings.is_auto("heads") else 1
    probe = _of_width(512 * unit, layers, settings)
    estimate = probe.width * math.sqrt(size / encoder_parameters(probe))
    step = math.lcm(next(step for largest, step in WIDTH_STEPS if estimate <= largest), unit)
    nearest = round(estimate / step) * step
    widths = [width for width in range(nearest - step, nearest + 2 * step, step) if width >= 8]
    shapes = [_of_width(width, layers, settings) for width in widths or [max(8, step)]]
    return min(shapes, key=lambda option: abs(math.log(encoder_parameters(option) / size)))


def _of_width(width: int, layers: int, settings: ModelSettings) -> ModelSettings:
    return settings.model_copy(update={"layers": layers, "width": width, "heads": _heads(width, settings)})


def _heads(width: int, settings: ModelSettings) -> int:
    return settings.heads if not settings.is_auto("heads") else heads_for(width)


@cache
def _block_parameters(settings: ModelSettings) -> int:
    """Return the number of parameters of one block, counted on a block without memory."""
    with torch.device("meta"):
        block = ENCODERS.load(settings.encoder)(settings)
    return sum(parameter.numel() for parameter in block.parameters())
