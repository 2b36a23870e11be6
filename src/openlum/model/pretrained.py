"""Where a saved model lies: a local directory, or a copy of one from the Hub; and the device that it is loaded to."""

import inspect
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from openlum.arguments.values import as_path
from openlum.errors import InputError

OPTIONS = set(inspect.signature(snapshot_download).parameters) - {"repo_id"}
"""What may be said of a model on the Hub."""
PATIENCE = 10.0
"""Seconds for the Hub to answer at all."""


def model_directory(name: Any, options: dict[str, Any]) -> Path:
    """The directory of a model.

    Args:
        name: of a local directory, or OWNER/NAME on the Hub. Where there is no such directory it is a name on the Hub if it has
            that form and there is no directory OWNER.
        options: of `huggingface_hub.snapshot_download`.

    Raises:
        InputError: there is none.
    """
    unknown = sorted(set(options) - OPTIONS)
    if unknown:
        raise InputError(
            f"{unknown[0]}: from_pretrained takes map_location, and for the Hub {', '.join(sorted(OPTIONS))}"
        )
    path = as_path("pretrained_model_name_or_path", name)
    if path.is_dir():
        return path
    if path.exists():
        raise InputError(f"{path}: is a file; name the directory of the model")
    owner, separator, rest = str(name).partition("/")
    on_the_hub = separator and not isinstance(name, Path) and not owner.startswith((".", "~")) and "/" not in rest
    if not on_the_hub or Path(owner or "/").exists():
        raise InputError(f"{path}: no such directory; 'lum pretrain' writes one")
    return _from_the_hub(str(name), options)


def available_device(device: Any) -> torch.device:
    """A device that is here.

    Raises:
        InputError: it is not, or cannot be used, or is none.
    """
    try:
        named = torch.device(device)
        torch.empty(1, device=named).cpu()
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        there = ", ".join(["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))])
        raise InputError(
            f"map_location: the device {device!r} is not here or cannot be used ({_one_line(error)}); there are: {there}"
        ) from None
    return named


def _from_the_hub(name: str, options: dict[str, Any]) -> Path:
    """The directory with the copy of a model of the Hub; a former copy where the Hub cannot be reached."""
    try:
        unreachable = "" if options.get("local_files_only") else _unreachable(name, options)
        local = {"local_files_only": True} if unreachable else {}
        return Path(snapshot_download(name, **options | local))
    except GatedRepoError:
        reason = "the Hub's owner of that name must grant access; ask for it there, then 'hf auth login'"
    except RevisionNotFoundError:
        reason = f"the Hub's model of that name has no revision {options.get('revision')!r}"
    except (RepositoryNotFoundError, HFValidationError):
        reason = "the Hub has no model of that name, or a private one ('hf auth login')"
    except Exception as error:  # the network's and the proxy's errors are those of libraries below
        reason = f"the Hub gave no model of that name ({unreachable or _one_line(error)})"
    raise InputError(f"{name}: no such directory, and {reason}; 'lum pretrain' writes a model") from None


def _unreachable(name: str, options: dict[str, Any]) -> str:
    """Why the Hub cannot be reached, or nothing. One look: the download itself would try for half a minute."""
    hub = HfApi(endpoint=options.get("endpoint"), token=options.get("token"))
    try:
        hub.model_info(name, revision=options.get("revision"), timeout=PATIENCE)
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        raise
    except Exception as error:
        return _one_line(error)
    return ""


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
