"""The cores that this process may use, and checks that memory and disk are large enough before the work begins."""

import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from openlum.errors import InputError

if TYPE_CHECKING:
    from torch import nn

COPIES = 5
"""Numbers per weight during training: the weight, its gradient, two AdamW moments, and the copy of the best weights."""
BYTES = 4
"""Bytes of a number (float32)."""

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files with the memory limit of a container, in bytes."""
CORE_LIMITS = (
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)
"""Files with the CPU time that a container gets, and the period for which it gets it, in microseconds."""


def available_cores() -> int:
    """Return the number of cores that this process may use: its CPU affinity, limited by the CPU time of its container."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS and Windows have none
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(min(cores, _container_cores()), 1)


def _container_cores() -> int:
    """Return the number of cores that the container gets, rounded up. Without a limit it is a very large number."""
    for files in CORE_LIMITS:
        try:
            quota, period = (int(word) for file in files for word in Path(file).read_text().split())
        except (OSError, ValueError):  # no such file, or no limit: "max 100000"
            continue
        if quota > 0 and period > 0:  # -1 is no limit
            return math.ceil(quota / period)
    return sys.maxsize


def check_memory(needed: float, task: str, remedy: str) -> None:
    """Check that a task fits into the memory of the GPU, or of the machine if it has no GPU.

    Args:
        needed: bytes that the task needs at least.
        task: name of the task, for the message.
        remedy: end of the message.

    Raises:
        InputError: the task does not fit. The message has the needed and the existing memory.
    """
    device, size = device_memory()
    if size is not None and needed > size:
        raise InputError(
            f"{task} needs at least {size_in_words(needed)} of memory, and {device} has {size_in_words(size)}; {remedy}"
        )


def check_machine_memory(needed: float, task: str, remedy: str) -> None:
    """Check that a task fits into the memory of the machine. The arguments and the error are those of `check_memory`."""
    size = machine_memory()
    if size is not None and needed > size:
        raise InputError(
            f"{task} needs at least {size_in_words(needed)} of memory, and this machine has {size_in_words(size)}; {remedy}"
        )


def check_training(build: Callable[[], "nn.Module"], network: str, remedy: str, activations: int = 0) -> int:
    """Check that the training of a network fits into memory.

    Args:
        build: returns the network. It is called on torch's meta device, where nothing is allocated.
        network: name of the network, for the message.
        remedy: end of the message.
        activations: numbers that a step keeps at least for the backward pass.

    Returns:
        Bytes of the weights, their gradients and their optimizer state.

    Raises:
        InputError: the training does not fit. The message has the needed and the existing memory.
    """
    import torch

    with torch.device("meta"):
        weights = sum(weight.numel() for weight in build().parameters())
    needed = BYTES * COPIES * weights
    check_memory(needed + BYTES * activations, f"training {network} of {weights:,} weights", remedy)
    return needed


def check_space(path: Path, needed: float, content: str) -> None:
    """Check that `content` of `needed` bytes fits on the disk of `path`.

    Raises:
        InputError: the content does not fit. The message has the needed and the free space.
    """
    directory = next(parent for parent in (path.resolve(), *path.resolve().parents) if parent.exists())
    free = shutil.disk_usage(directory).free
    if needed > free:
        space = f"needs about {size_in_words(needed)} of disk, and {size_in_words(free)} are free"
        raise InputError(f"{path}: {content} {space}; name another directory, or free some space")


def device_memory() -> tuple[str, int | None]:
    """Return the device that models are trained on and its memory in bytes; None if the memory is unknown."""
    import torch

    if torch.cuda.is_available():
        return "the GPU", torch.cuda.get_device_properties(0).total_memory
    return "this machine", machine_memory()


def machine_memory() -> int | None:
    """Return the memory of this machine or its container in bytes; None if it is unknown."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    limits = [Path(file).read_text().strip() for file in LIMITS if Path(file).exists()]
    return min([physical, *(int(limit) for limit in limits if limit.isdigit())])


def size_in_words(size: float) -> str:
    """Return a number of bytes in MB or GB."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
