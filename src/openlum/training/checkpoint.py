"""Checkpoints to resume from: everything that the rest of a training depends on.

A checkpoint is a directory `NUMBER-step-STEP` of safetensors and JSON, so that reading one runs no code: the weights, the weights
with the best validation, the optimizer's state by parameter, and `progress.json` with the checksums of these files.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from openlum.artefact.checksums import sha256_of
from openlum.artefact.directory import fingerprint, write_json
from openlum.artefact.tensors import read_tensors, write_tensors
from openlum.errors import InputError

PARTS = ("model.safetensors", "best.safetensors", "optimizer.safetensors")
PROGRESS = "progress.json"


@dataclass
class Progression:
    """Where a training stands."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    """Batches done of this epoch."""
    best_loss: float | None = None
    best_validation: dict[str, float] = field(default_factory=dict)
    without_gain: int = 0
    """Validations since the best."""
    events: int = 0
    seconds: float = 0.0
    """Spent in steps, without validation."""


def save_checkpoint(
    directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor], progress: Progression
) -> None:
    """Write a checkpoint; the one before it goes when the new one is whole.

    Args:
        directory: of this training's checkpoints.
        model: its weights.
        optimizer: its state.
        best: the weights with the best validation so far.
        progress: where the training stands.
    """
    former = _checkpoints(directory)
    number = int(former[-1].name.partition("-")[0]) + 1 if former else 1
    target = directory / f"{number:06d}-step-{progress.step}"
    draft = directory / f".{target.name}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for name, tensors in zip(PARTS, (model.state_dict(), best, _state_by_name(model, optimizer)), strict=True):
        write_tensors(tensors, draft / name)
    content = {"progress": asdict(progress), "sha256": {name: sha256_of(draft / name) for name in PARTS}}
    write_json(draft / PROGRESS, content | {"fingerprint": fingerprint(content)})
    os.replace(draft, target)
    for old in (*former, *directory.glob(".*-step-*")):  # also drafts of trainings that were killed
        shutil.rmtree(old)


def load_checkpoint(
    directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor]
) -> Progression | None:
    """Put the newest checkpoint into `model`, `optimizer` and `best`, and return its progress; None where there is none.

    Raises:
        InputError: it is damaged, or was written by a version whose checkpoints could hold code.
    """
    remedy = f"delete {directory} to train from the start"
    if any(directory.glob("step-*")):
        raise InputError(
            f"{directory}: holds a checkpoint of an earlier version, which is not read: it could run code; {remedy}"
        )
    checkpoints = _checkpoints(directory)
    if not checkpoints:
        return None
    newest = checkpoints[-1]
    progress = _check(newest, remedy)
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


def _check(checkpoint: Path, remedy: str) -> Progression:
    """The progress of a checkpoint whose every file is as it was written."""
    try:
        content = json.loads((checkpoint / PROGRESS).read_text(encoding="utf-8"))
        written = content.pop("fingerprint")
        if written != fingerprint(content):
            raise ValueError("its content is not what was written")
        progress, checksums = Progression(**content["progress"]), content["sha256"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{checkpoint / PROGRESS}: is damaged ({error}); {remedy}") from None
    for name in PARTS:
        try:
            intact = sha256_of(checkpoint / name) == checksums[name]
        except OSError as error:
            raise InputError(f"{checkpoint / name}: cannot be read ({error.strerror}); {remedy}") from None
        if not intact:
            raise InputError(f"{checkpoint / name}: is damaged, its content is not what was written; {remedy}")
    return progress


def _checkpoints(directory: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(directory.glob("[0-9]*-step-*"))


def _state_by_name(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """PARAMETER/KEY to a tensor of the optimizer's state. Its settings are the training's."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def _set_state_by_name(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimizer the state that `_state_by_name` took."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    place = {names[parameter]: index for index, parameter in enumerate(parameters)}
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, entry = key.rpartition("/")
        index = place[name]
        if tensor.dim() and tensor.shape != parameters[index].shape:
            raise ValueError(key)
        state.setdefault(index, {})[entry] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
