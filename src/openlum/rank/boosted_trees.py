"""What everything that grows trees with LightGBM shares. The trees are kept as LightGBM's text, never as a pickle."""

from typing import Any

import torch
from torch import Tensor

from openlum.errors import InputError


def import_lightgbm(user: str = "the ranker 'lightgbm'") -> Any:
    """Return the module lightgbm.

    Args:
        user: what needs it, for the message.

    Raises:
        InputError: it is not installed.
    """
    try:
        import lightgbm
    except ImportError:
        raise InputError(
            f"{user} needs LightGBM: run pip install '.[trees]' in the clone of openlum, or pip install lightgbm"
        ) from None
    return lightgbm


def text_to_tensor(text: str) -> Tensor:
    """Return the text of trees as bytes, uint8."""
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def tensor_to_text(tensor: Tensor) -> str:
    """Return the text that `text_to_tensor` turned into bytes."""
    return tensor.numpy().tobytes().decode()
