"""Checkpoints for resuming a training.

A checkpoint is a directory `NUMBER-step-STEP`; `lum pretrain` writes it under `OUT.work` (see `pretrain/train.py`). It has
safetensors and JSON files, so loading a checkpoint runs no code. It contains the weights, the weights with the best validation
score, the optimizer's state by parameter, and `progress.json` with the checksums of these files.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from openlum.artefact.checksums import sha256_of
from openlum.artefact.json_file import fingerprint, write_json
from openlum.artefact.tensors import read_tensors, write_tensors
from openlum.errors import InputError

PARTS = ("model.safetensors", "best.safetensors", "optimizer.safetensors")
PROGRESS = "progress.json"


@dataclass
class TrainingProgress:
    """The progress of a training."""

    step: int = 0
    epoch: int = 0
    """Number of finished epochs."""
    loader: dict[str, int] = field(default_factory=dict)
    """Position of the next batch: the state of the loader."""
    best_score: float | None = None
    best_validation: dict[str, float] = field(default_factory=dict)
    without_gain: int = 0
    """Number of validations since the best one."""
    events: int = 0
    seconds: float = 0.0
    """Time of all training steps, without validation."""


def save_checkpoint(
    directory: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
    progress: TrainingProgress,
) -> None:
    """Write a checkpoint, then delete the previous one.

    Args:
        directory: directory of this training's checkpoints.
        model: whose weights to save.
        optimizer: whose state to save.
        best: the weights with the best validation score so far.
        progress: progress of the training.
    """
    previous = _checkpoints(directory)
    number = int(previous[-1].name.partition("-")[0]) + 1 if previous else 1
    target = directory / f"{number:06d}-step-{progress.step}"
    draft = directory / f".{target.name}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for name, tensors in zip(PARTS, (model.state_dict(), best, _state_by_name(model, optimizer)), strict=True):
        write_tensors(tensors, draft / name)
    content = {"progress": asdict(progress), "sha256": {name: sha256_of(draft / name) for name in PARTS}}
    write_json(draft / PROGRESS, content | {"fingerprint": fingerprint(content)})
    os.replace(draft, target)
    for outdated in (*previous, *directory.glob(".*-step-*")):  # including drafts of killed trainings
        shutil.rmtree(outdated)


def load_checkpoint(
    directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor]
) -> TrainingProgress | None:
    """Load the newest checkpoint into `model`, `optimizer` and `best` and return its progress, or None without a checkpoint.

    Raises:
        InputError: if the checkpoint is damaged, does not fit the model, or is of a version whose checkpoints could contain code.
    """
    remedy = f"delete {directory} to train from the start"
    if any(directory.glob("step-*")):
        raise InputError(
            f"{directory}: has a checkpoint of an earlier version, which is not loaded because it could run code; {remedy}"
        )
    checkpoints = _checkpoints(directory)
    if not checkpoints:
        return None
    newest = checkpoints[-1]
    progress = _verified_progress(newest, remedy)
    weights, best_weights, state = (read_tensors(newest / name, remedy) for name in PARTS)
    part = PARTS[1]
    try:
        model.load_state_dict(best_weights)
        part = PARTS[0]
        model.load_state_dict(weights)
        part = PARTS[2]
        _set_state_by_name(model, optimizer, state)
    except (RuntimeError, LookupError, ValueError):
        raise InputError(f"{newest / part}: does not fit the model of this training; {remedy}") from None
    best.update({name: tensor.to(best[name].device) for name, tensor in best_weights.items()})
    return progress


def _verified_progress(checkpoint: Path, remedy: str) -> TrainingProgress:
    """Return the progress of a checkpoint after comparing the checksum of every file.

    Raises:
        InputError: names the first damaged file.
    """
    try:
        content = json.loads((checkpoint / PROGRESS).read_text(encoding="utf-8"))
        expected = content.pop("fingerprint")
        if expected != fingerprint(content):
            raise ValueError("its content has changed since it was written")
        progress, checksums = TrainingProgress(**content["progress"]), content["sha256"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{checkpoint / PROGRESS}: damaged ({error}); {remedy}") from None
    for name in PARTS:
        try:
            intact = sha256_of(checkpoint / name) == checksums[name]
        except OSError as error:
            raise InputError(f"{checkpoint / name}: cannot be read ({error.strerror}); {remedy}") from None
        if not intact:
            raise InputError(f"{checkpoint / name}: damaged, its content has changed since it was written; {remedy}")
    return progress


def _checkpoints(directory: Path) -> list[Path]:
    """Return the complete checkpoints, oldest first."""
    return sorted(directory.glob("[0-9]*-step-*"))


def _state_by_name(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the tensors of the optimizer's state by PARAMETER/KEY. Its settings come from the settings of the training."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def _set_state_by_name(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Set the state of an optimizer from the result of `_state_by_name`."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    index_by_name = {names[parameter]: index for index, parameter in enumerate(parameters)}
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, entry = key.rpartition("/")
        index = index_by_name[name]
        if tensor.dim() and tensor.shape != parameters[index].shape:
            raise ValueError(key)
        state.setdefault(index, {})[entry] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
