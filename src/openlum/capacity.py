"""Whether memory and disk are enough, told before the work begins and not when they run out."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from openlum.errors import InputError

if TYPE_CHECKING:
    from torch import nn

COPIES = 5
"""Of every weight in training: itself, its gradient, two moments of AdamW, and the best one so far."""
BYTES = 4
"""Of a number."""

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files with the memory that a container may use."""


def check_memory(needed: float, what: str, remedy: str) -> None:
    """Refuse what does not fit into the memory of the GPU, or of the machine where there is none.

    Args:
        needed: bytes, at least.
        what: needs them.
        remedy: ends the message.

    Raises:
        InputError: it does not fit; the message has both figures.
    """
    place, there = memory()
    if there is not None and needed > there:
        raise InputError(f"{what} needs at least {_told(needed)} of memory, and {place} has {_told(there)}; {remedy}")


def check_training(build: Callable[[], "nn.Module"], what: str, remedy: str, kept: int = 0) -> int:
    """Refuse to train a network that does not fit into memory.

    Args:
        build: makes the network; it is called where nothing is allocated.
        what: the network, for the message.
        remedy: ends the message.
        kept: numbers that a step keeps for the gradient, at least.

    Returns:
        Bytes of the weights and of what training holds of them.

    Raises:
        InputError: it does not fit; the message has both figures.
    """
    import torch

    with torch.device("meta"):
        weights = sum(weight.numel() for weight in build().parameters())
    needed = BYTES * COPIES * weights
    check_memory(needed + BYTES * kept, f"training {what} of {weights:,} weights", remedy)
    return needed


def check_space(path: Path, needed: float, what: str) -> None:
    """Refuse what does not fit on the disk that `path` is to be written to.

    Raises:
        InputError: it does not fit; the message has both figures.
    """
    there = next(parent for parent in (path.resolve(), *path.resolve().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        figures = f"needs about {_told(needed)} of disk, and {_told(free)} are free"
        raise InputError(f"{path}: {what} {figures}; name another directory, or make room")


def memory() -> tuple[str, int | None]:
    """Where models are trained, and the bytes of memory there; None where nothing tells."""
    import torch

    if torch.cuda.is_available():
        return "the GPU", torch.cuda.get_device_properties(0).total_memory
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return "this machine", None
    limits = [Path(file).read_text().strip() for file in LIMITS if Path(file).exists()]
    return "this machine", min([there, *(int(limit) for limit in limits if limit.isdigit())])


def _told(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
