"""Files of tensors in the safetensors format, which holds numbers and text and never code."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor

from openlum.errors import InputError


def write_tensors(tensors: Mapping[str, Tensor], file: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors by name.

    Raises:
        InputError: the file cannot be written, for example because the disk is full.
    """
    try:
        file.touch()
        mode = file.stat().st_mode  # safetensors writes a new file that only its owner can read
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file, metadata)
        file.chmod(mode)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: cannot be written ({error})") from None


def read_tensors(file: Path, remedy: str) -> dict[str, Tensor]:
    """Return the tensors of a file by name, on the CPU.

    Args:
        file: a file from `write_tensors`.
        remedy: the end of the error message, for example "run 'lum pretrain' again".

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return load_file(file)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; {remedy}") from None
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: cannot be read ({error}); {remedy}") from None


def tensors_to_bytes(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Return tensors by name, and text, in the safetensors format."""
    return save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)


def tensors_from_bytes(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors, on the CPU, and the text that `tensors_to_bytes` was given.

    Raises:
        ValueError: the bytes are damaged.
    """
    try:
        tensors = load(data)
    except (SafetensorError, TypeError) as error:
        raise ValueError(str(error)) from None
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return tensors, header.get("__metadata__", {})
