"""The directory of a saved model, local or downloaded from the Hugging Face Hub, and the device that it is loaded to."""

import inspect
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from openlum.arguments.values import as_path
from openlum.errors import InputError

HUB_OPTIONS = set(inspect.signature(snapshot_download).parameters) - {"repo_id"}
"""Options of `from_pretrained` for a model on the Hub."""
HUB_TIMEOUT = 10.0
"""Seconds to wait for a first response of the Hub."""


def model_directory(name: Any, options: dict[str, Any]) -> Path:
    """Return the directory of a model. A model on the Hub is downloaded.

    Args:
        name: a local directory, or OWNER/NAME on the Hub. If there is no such directory, a name of the form OWNER/NAME is looked
            up on the Hub, unless there is a local directory OWNER.
        options: of `huggingface_hub.snapshot_download`.

    Raises:
        InputError: if there is no such model, or an option is unknown.
    """
    unknown = sorted(set(options) - HUB_OPTIONS)
    if unknown:
        raise InputError(
            f"{unknown[0]}: unknown option of from_pretrained; choose from map_location "
            f"and, for a model on the Hub, {', '.join(sorted(HUB_OPTIONS))}"
        )
    path = as_path("pretrained_model_name_or_path", name)
    if path.is_dir():
        return path
    if path.exists():
        raise InputError(f"{path}: is a file; pass the directory of the model")
    owner, separator, rest = str(name).partition("/")
    is_hub_name = separator and not isinstance(name, Path) and not owner.startswith((".", "~")) and "/" not in rest
    if not is_hub_name or Path(owner or "/").exists():
        raise InputError(f"{path}: no such directory; 'lum pretrain' writes one")
    return _download_from_hub(str(name), options)


def available_device(device: Any) -> torch.device:
    """Return the device that `device` names.

    Raises:
        InputError: if there is no such device, or it cannot be used.
    """
    try:
        torch_device = torch.device(device)
        torch.empty(1, device=torch_device).cpu()
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        available = ", ".join(["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))])
        raise InputError(
            f"map_location: the device {device!r} is missing or cannot be used ({_one_line(error)}); choose from: {available}"
        ) from None
    return torch_device


def _download_from_hub(name: str, options: dict[str, Any]) -> Path:
    """Return the directory of a downloaded model. If the Hub cannot be reached, this is an earlier download."""
    try:
        connection_error = "" if options.get("local_files_only") else _connection_error(name, options)
        local = {"local_files_only": True} if connection_error else {}
        return Path(snapshot_download(name, **options | local))
    except GatedRepoError:
        reason = "the owner of this model on the Hub must grant access: request it there, then run 'hf auth login'"
    except RevisionNotFoundError:
        reason = f"the model of this name on the Hub has no revision {options.get('revision')!r}"
    except (RepositoryNotFoundError, HFValidationError):
        reason = "the Hub has no model of this name, or it is private (run 'hf auth login')"
    except Exception as error:  # errors of the network and the proxy are exceptions of several libraries
        reason = f"the model could not be downloaded from the Hub ({connection_error or _one_line(error)})"
    raise InputError(f"{name}: no such directory, and {reason}; 'lum pretrain' writes a model") from None


def _connection_error(name: str, options: dict[str, Any]) -> str:
    """Return why the Hub cannot be reached, or an empty text. One request: the download would retry for half a minute."""
    hub = HfApi(endpoint=options.get("endpoint"), token=options.get("token"))
    try:
        hub.model_info(name, revision=options.get("revision"), timeout=HUB_TIMEOUT)
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        raise
    except Exception as error:
        return _one_line(error)
    return ""


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
