"""Checkpoints: they are complete, are verified before use, and run no code."""

import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from openlum.errors import InputError
from openlum.training.checkpoint import (
    PARTS,
    PROGRESS,
    TrainingProgress,
    delete_outdated_weights,
    load_best,
    load_checkpoint,
    save_best,
    save_checkpoint,
)

BEST = "best-step-2.safetensors"

Training = tuple[nn.Module, torch.optim.Optimizer]


def training(seed: int = 0, width: int = 3) -> Training:
    """Return a model with a trained and an untrained layer, and its optimizer after `seed` steps."""
    torch.manual_seed(seed)
    model = nn.ModuleDict({"used": nn.Linear(2, width), "unused": nn.Linear(2, 2)})
    groups = [{"params": [model["unused"].weight, model["used"].bias]}, {"params": [model["used"].weight]}]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    for _ in range(seed):
        model["used"](torch.randn(4, 2)).square().sum().backward()
        optimizer.step()
    return model, optimizer


def all_tensors(training_state: Training) -> dict[str, torch.Tensor]:
    model, optimizer = training_state
    state = {
        f"{index} {key}": value
        for index, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
    }
    return model.state_dict() | state


def progress_with_best(directory: Path) -> TrainingProgress:
    """Return a progress whose best weights, of another step, are in the directory."""
    return TrainingProgress(step=3, best=save_best(directory, training(seed=2)[0], 2, 0.1, {"loss": 0.1}))


@pytest.fixture
def checkpoint_dir(tmp_path: Path) -> Path:
    """A directory with one checkpoint and the best weights."""
    save_checkpoint(tmp_path, *training(seed=3), progress_with_best(tmp_path))
    return tmp_path


def test_a_loaded_checkpoint_equals_the_saved_one(checkpoint_dir: Path, tmp_path_factory) -> None:
    loaded = training()
    progress = load_checkpoint(checkpoint_dir, *loaded)
    assert progress == progress_with_best(tmp_path_factory.mktemp("other"))
    assert same_tensors(all_tensors(training(seed=3)), all_tensors(loaded))
    load_best(checkpoint_dir, loaded[0], progress.best)
    assert same_tensors(training(seed=2)[0].state_dict(), loaded[0].state_dict())


def same_tensors(expected: dict[str, torch.Tensor], tensors: dict[str, torch.Tensor]) -> bool:
    return expected.keys() == tensors.keys() and all(torch.equal(expected[name], tensors[name]) for name in expected)


def test_only_the_named_best_weights_stay(checkpoint_dir: Path) -> None:
    progress = load_checkpoint(checkpoint_dir, *training())
    progress.best = save_best(checkpoint_dir, training(seed=4)[0], 4, 0.0, {})
    (checkpoint_dir / ".best-step-3.safetensors").touch()  # the draft of a killed training
    names = {"best-step-2.safetensors", "best-step-4.safetensors", ".best-step-3.safetensors"}
    assert {file.name for file in checkpoint_dir.glob("*best*")} == names
    delete_outdated_weights(checkpoint_dir, progress)
    assert [file.name for file in checkpoint_dir.glob("*best*")] == ["best-step-4.safetensors"]
    delete_outdated_weights(checkpoint_dir, TrainingProgress())
    assert not list(checkpoint_dir.glob("*best*"))


def test_load_checkpoint_returns_none_without_a_checkpoint(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, *training()) is None


def test_a_new_checkpoint_replaces_the_previous_one_also_at_the_same_step(checkpoint_dir: Path) -> None:
    save_checkpoint(checkpoint_dir, *training(seed=3), TrainingProgress(step=3, epoch=1))
    assert len(list(checkpoint_dir.iterdir())) == 2
    assert load_checkpoint(checkpoint_dir, *training()) == TrainingProgress(step=3, epoch=1)


def test_a_killed_writer_leaves_the_previous_checkpoint(checkpoint_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", die)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(checkpoint_dir, *training(seed=4), TrainingProgress(step=4))
    assert load_checkpoint(checkpoint_dir, *training()).step == 3
    save_checkpoint(checkpoint_dir, *training(seed=5), TrainingProgress(step=5))
    assert len(list(checkpoint_dir.iterdir())) == 2


@pytest.mark.parametrize("name", [*PARTS, BEST, PROGRESS])
@pytest.mark.parametrize("damage", ["flipped", "halved", "empty", "deleted"])
def test_the_message_names_a_damaged_file(checkpoint_dir: Path, name: str, damage: str) -> None:
    file = next(checkpoint_dir.rglob(name))
    content = bytearray(file.read_bytes())
    content[-20] ^= 4
    file.write_bytes({"flipped": content, "halved": content[: len(content) // 2]}.get(damage, b""))
    if damage == "deleted":
        file.unlink()
    with pytest.raises(InputError, match=rf"{name}: .*delete .* to train from the start"):
        load_checkpoint(checkpoint_dir, *training())


def test_the_checkpoint_of_another_model_is_refused(checkpoint_dir: Path) -> None:
    with pytest.raises(InputError, match=r"model\.safetensors: does not fit"):
        load_checkpoint(checkpoint_dir, *training(width=4))


class Payload:
    """An object that writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("where", ["step-00000003", "000001-step-3", "000002-step-4"])
def test_a_planted_payload_never_runs(checkpoint_dir: Path, tmp_path: Path, where: str) -> None:
    """A pickle next to a valid checkpoint, in place of a checkpoint, or as a checkpoint of an earlier version is never loaded."""
    payload = pickle.dumps(Payload(tmp_path / "ran"))
    target = checkpoint_dir / where
    target.mkdir(exist_ok=True)
    for name in (".metadata", "__0_0.distcp", *(PARTS if where == "000002-step-4" else ())):
        (target / name).write_bytes(payload)
    unpickled = []
    sys.addaudithook(lambda event, _: unpickled.append(event) if event == "pickle.find_class" else None)
    if where == "000001-step-3":
        assert load_checkpoint(checkpoint_dir, *training())
    else:
        with pytest.raises(InputError, match="to train from the start"):
            load_checkpoint(checkpoint_dir, *training())
    assert not unpickled
    assert not (tmp_path / "ran").exists()
    pickle.loads(payload)
    assert unpickled  # shows that the audit hook works
    assert (tmp_path / "ran").exists()


def test_the_message_names_the_file_if_the_disk_is_full(checkpoint_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("openlum.artefact.tensors.save_file", fail)
    with pytest.raises(InputError, match=r"model\.safetensors: cannot be written .*No space left"):
        save_checkpoint(checkpoint_dir, *training(), TrainingProgress())
