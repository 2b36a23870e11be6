"""Checkpoints to resume from: everything that the rest of a training depends on."""

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from openlum.artefact import read_json, write_json
from openlum.errors import InputError


def save_checkpoint(
    directory: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
    progress: dict[str, Any],
) -> None:
    """Write a checkpoint to `directory/step-N`; the one before it goes when the new one is whole.

    Args:
        directory: of this training's checkpoints.
        model: its weights.
        optimizer: its state.
        best: the weights with the best validation so far.
        progress: JSON values, with `step`.
    """
    target = directory / f"step-{progress['step']:08d}"
    draft = directory / f".{target.name}"
    shutil.rmtree(draft, ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it saves without a process group, as it should
        try:
            dcp.save(_tensors(model, optimizer, best), checkpoint_id=draft, no_dist=True)
        except CheckpointException as error:  # a BaseException that wraps whatever happened, an interrupt too
            raise next(iter(error.failures.values()))[0] from None
    write_json(draft / "progress.json", progress)
    if target.exists():  # the end of an epoch can fall on a step with a checkpoint
        os.replace(target, directory / f".{target.name}.old")
    os.replace(draft, target)
    shutil.rmtree(directory / f".{target.name}.old", ignore_errors=True)
    for old in directory.glob("step-*"):
        if old != target:
            shutil.rmtree(old)


def load_checkpoint(
    directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor]
) -> dict[str, Any] | None:
    """Put the newest checkpoint into `model`, `optimizer` and `best`, and return its progress; None where there is none."""
    found = sorted(directory.glob("step-*"))
    if not found:
        return None
    progress = read_json(found[-1] / "progress.json", "lum pretrain")
    tensors = _tensors(model, optimizer, best)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.load(tensors, checkpoint_id=found[-1], no_dist=True)
    except (Exception, CheckpointException) as error:  # the latter is a BaseException
        if isinstance(error, CheckpointException) and any(
            isinstance(e, KeyboardInterrupt) for e, _ in error.failures.values()
        ):
            raise KeyboardInterrupt from None
        message = f"{found[-1]}: the checkpoint cannot be read ({error}); delete {directory} to train from the start"
        raise InputError(message) from error
    model.load_state_dict(tensors["model"])
    set_optimizer_state_dict(model, optimizer, tensors["optimizer"])
    best.update(tensors["best"])
    return progress


def _tensors(model: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor]) -> dict[str, Any]:
    return {"model": model.state_dict(), "optimizer": get_optimizer_state_dict(model, optimizer), "best": best}
