"""The version and the fingerprint of a network's weights, and values that are kept as long as the weights stay the same."""

import hashlib
import json
from collections.abc import Callable
from itertools import chain
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from openlum.model.settings import ModelConfig

T = TypeVar("T")


class _OptimizerSteps:
    """The number of steps of all optimisers in this process, counted from the first call of `count` on."""

    def __init__(self) -> None:
        self._steps = -1

    def count(self) -> int:
        """Return the number."""
        if self._steps < 0:
            self._steps = 0
            register_optimizer_step_post_hook(self._add)
        return self._steps

    def _add(self, *_: Any) -> None:
        self._steps += 1


_optimizer_steps = _OptimizerSteps()


class WeightsVersion:
    """The version of the parameters and buffers of a module.

    Two versions are equal if the module has the same tensors and none of them has changed in between. PyTorch counts the changes
    of every tensor by operations in place, such as those of `load_state_dict`. It does not count those of fused optimisers, so a
    step of any optimiser makes another version. Changes through `Tensor.data`, and through NumPy arrays that share the memory,
    are not counted at all.
    """

    def __init__(self, module: nn.Module) -> None:
        # Detached tensors keep the memory alive, so that no other tensor can get the same address.
        self._tensors = [tensor.detach() for tensor in chain(module.parameters(), module.buffers())]
        # Tensors that were made in inference mode have no counter.
        self._counted = not any(tensor.is_inference() for tensor in self._tensors)
        self._counts = [tensor._version for tensor in self._tensors] if self._counted else []
        self._counts.append(_optimizer_steps.count())

    def equals(self, other: "WeightsVersion") -> bool:
        """Return whether no tensor differs between the two versions."""
        return (
            self._counted
            and self._counts == other._counts
            and list(map(_identity, self._tensors)) == list(map(_identity, other._tensors))
        )


def _identity(tensor: Tensor) -> tuple[int, torch.dtype, torch.Size, tuple[int, ...]]:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


class WeightsCache(Generic[T]):
    """A value that is computed from the weights of a module, and computed again once the weights have changed."""

    def __init__(self) -> None:
        self._entry: tuple[WeightsVersion, T] | None = None

    def get(self, module: nn.Module, compute: Callable[[], T]) -> T:
        """Return the value of `compute` for the current weights of a module."""
        version, entry = WeightsVersion(module), self._entry
        if entry is None or not entry[0].equals(version):
            entry = self._entry = version, compute()
        return entry[1]

    def clear(self) -> None:
        """Forget the value and the weights."""
        self._entry = None


def weights_fingerprint(config: ModelConfig, network: nn.Module) -> str:
    """Return a hash of the configuration and of every number of the weights. All weights are read once."""
    digest = hashlib.sha256(json.dumps(config.model_dump(), sort_keys=True, default=str).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]
