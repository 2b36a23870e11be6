"""The files of a training: the weights of the best validation, and checkpoints for resuming.

The best weights are the file `best-step-STEP.safetensors`, written once when a validation is the best. A checkpoint is a
directory `NUMBER-step-STEP` beside it; `lum pretrain` writes both under `OUT.work` (see `pretrain/train.py`). It has the weights,
the optimizer's state by parameter, and `progress.json` with the name of the best weights and the checksums of all these files.
Every file appears whole. All are safetensors and JSON, so loading them runs no code.
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

PARTS = ("model.safetensors", "optimizer.safetensors")
PROGRESS = "progress.json"


@dataclass(frozen=True)
class BestValidation:
    """The best validation so far, and the file of its weights."""

    step: int
    score: float | None
    """None if nothing could be measured."""
    metrics: dict[str, float]
    file: str
    """Name of the file in the directory of the training."""
    sha256: str
    """Checksum of the file."""


@dataclass
class TrainingProgress:
    """The progress of a training."""

    step: int = 0
    """Number of steps done."""
    epoch: int = 0
    """Number of finished epochs."""
    epoch_steps: int = 0
    """Number of steps of the current epoch that are done."""
    position: dict[str, int] = field(default_factory=dict)
    """Position of the next batch: the state of the source of the batches."""
    best: BestValidation | None = None
    """The best validation; None before the first one."""
    without_gain: int = 0
    """Number of validations since the best one."""
    validated_step: int | None = None
    """The step of the last validation."""
    loss_sum: float = 0.0
    """Sum of the losses since the last validation, each times the size of its batch."""
    loss_size: int = 0
    """Sum of these sizes."""
    size: int = 0
    """Sum of the sizes of all batches: events or rows."""
    seconds: float = 0.0
    """Time of all training steps, without validation."""


def save_best(
    directory: Path, model: nn.Module, step: int, score: float | None, metrics: dict[str, float]
) -> BestValidation:
    """Write the weights of a validation that is the best so far, and return their description.

    The previous best weights stay until `delete_outdated_weights` is called, because a checkpoint may name them.
    """
    file = directory / f"best-step-{step}.safetensors"
    draft = file.with_name(f".{file.name}")
    write_tensors(model.state_dict(), draft)
    sha256 = sha256_of(draft)
    os.replace(draft, file)
    return BestValidation(step, score, metrics, file.name, sha256)


def load_best(directory: Path, model: nn.Module, best: BestValidation) -> None:
    """Load the weights of the best validation into `model`.

    Raises:
        InputError: the file is missing or damaged.
    """
    remedy = _remedy(directory)
    _check_content(directory / best.file, best.sha256, remedy)
    model.load_state_dict(read_tensors(directory / best.file, remedy))


def delete_outdated_weights(directory: Path, progress: TrainingProgress) -> None:
    """Delete all weights of validations, and all drafts of such files, but the weights that `progress` names."""
    for file in (*directory.glob("best-step-*.safetensors"), *directory.glob(".best-step-*.safetensors")):
        if progress.best is None or file.name != progress.best.file:
            file.unlink()


def save_checkpoint(
    directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: TrainingProgress
) -> None:
    """Write a checkpoint, then delete the previous one.

    Args:
        directory: directory of this training's files.
        model: whose weights to save.
        optimizer: whose state to save.
        progress: progress of the training.
    """
    previous = _checkpoints(directory)
    number = int(previous[-1].name.partition("-")[0]) + 1 if previous else 1
    target = directory / f"{number:06d}-step-{progress.step}"
    draft = directory / f".{target.name}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for name, tensors in zip(PARTS, (model.state_dict(), _state_by_name(model, optimizer)), strict=True):
        write_tensors(tensors, draft / name)
    content = {"progress": asdict(progress), "sha256": {name: sha256_of(draft / name) for name in PARTS}}
    write_json(draft / PROGRESS, content | {"fingerprint": fingerprint(content)})
    os.replace(draft, target)
    for outdated in (*previous, *directory.glob(".[0-9]*-step-*")):  # including drafts of killed trainings
        shutil.rmtree(outdated)


def load_checkpoint(directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> TrainingProgress | None:
    """Load the newest checkpoint into `model` and `optimizer` and return its progress, or None without a checkpoint.

    Raises:
        InputError: if the checkpoint or the best weights that it names are damaged, or if the checkpoint does not fit the model
            or is of a version whose checkpoints could contain code.
    """
    remedy = _remedy(directory)
    if any(directory.glob("step-*")):
        raise InputError(
            f"{directory}: has a checkpoint of an earlier version, which is not loaded because it could run code; {remedy}"
        )
    checkpoints = _checkpoints(directory)
    if not checkpoints:
        return None
    newest = checkpoints[-1]
    progress = _verified_progress(newest, remedy)
    weights, state = (read_tensors(newest / name, remedy) for name in PARTS)
    part = PARTS[0]
    try:
        model.load_state_dict(weights)
        part = PARTS[1]
        _set_state_by_name(model, optimizer, state)
    except (RuntimeError, LookupError, ValueError):
        raise InputError(f"{newest / part}: does not fit the model of this training; {remedy}") from None
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
        if progress.best is not None:
            progress.best = BestValidation(**content["progress"]["best"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{checkpoint / PROGRESS}: damaged ({error}); {remedy}") from None
    for name in PARTS:
        _check_content(checkpoint / name, checksums[name], remedy)
    if progress.best is not None:
        _check_content(checkpoint.with_name(progress.best.file), progress.best.sha256, remedy)
    return progress


def _check_content(file: Path, sha256: str, remedy: str) -> None:
    """Compare the content of a file with its checksum.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        intact = sha256_of(file) == sha256
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); {remedy}") from None
    if not intact:
        raise InputError(f"{file}: damaged, its content has changed since it was written; {remedy}")


def _remedy(directory: Path) -> str:
    return f"delete {directory} to train from the start"


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
