"""The initialisation of all weights, in one place. The modules call these functions in their constructors.

| weights | initial values |
|---|---|
| embedding tables, first linear layers of blocks | normal with a variance of 1 / columns: rows have an expected length of 1 |
| last linear layers of blocks, `Network.shortcut`, `Network.last`, `MatchingHead.correction` | 0, see `zero_` |
| item id 0, which all untrained items share; `Network.feedback_token`; the bias of HSTU | 0 |
| constant tokens | normal with a standard deviation of 0.02 |
| inverse temperatures | 1 / 0.07 |
| norms | 1 (the default of torch) |
| all other linear layers | uniform between +- 1 / sqrt(inputs) (the default of torch) |

The order in which modules are constructed is the order of random draws. A seed therefore gives the same weights as long as the
constructors keep their order.
"""

import math

import torch
from torch import Tensor, nn

TEMPERATURE = 0.07
"""Initial temperature of the contrastive losses."""
CONSTANT_STD = 0.02
"""Standard deviation of constant tokens."""


def unit_rows_(weight: Tensor) -> None:
    """Fill a matrix (n, m) with normal numbers, so that the expected squared length of a row is 1.

    In a linear layer of m inputs, this keeps the variance of the inputs.
    """
    nn.init.normal_(weight, std=weight.shape[1] ** -0.5)


def zero_(weight: Tensor) -> None:
    """Fill a tensor with 0.

    Every block starts as the identity, because its last layers are 0. Otherwise the noise of untrained blocks hides the
    condition, and training stays on a plateau where answers reflect item popularity only (docs/experiments/market.md). The
    projections `shortcut` and `last` also start as 0, so that tokens start as their own fields.
    """
    nn.init.zeros_(weight)


def constant_tokens(*shape: int) -> nn.Parameter:
    """Return constant tokens, (..., D), which are added to tokens of a kind."""
    return nn.Parameter(torch.randn(*shape) * CONSTANT_STD)


def log_scale() -> nn.Parameter:
    """Return the logarithm of an inverse temperature, (1,). It has one dimension because FSDP2 does not shard scalars."""
    return nn.Parameter(torch.tensor([-math.log(TEMPERATURE)]))
