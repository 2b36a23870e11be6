"""Files of tensors: safetensors, which hold numbers and text and never code."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from openlum.errors import InputError


def write_tensors(tensors: Mapping[str, Tensor], file: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors by name.

    Raises:
        InputError: the file cannot be written; the disk is full, say.
    """
    try:
        file.touch()
        mode = file.stat().st_mode  # safetensors writes beside it and renames, and lets nobody else read
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file, metadata)
        file.chmod(mode)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: cannot be written ({error})") from None


def read_tensors(file: Path, remedy: str) -> dict[str, Tensor]:
    """Tensors by name, on the CPU.

    Args:
        file: that `write_tensors` wrote.
        remedy: ends the message.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        return load_file(file)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; {remedy}") from None
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: cannot be read ({error}); {remedy}") from None
