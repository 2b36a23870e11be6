"""Checkpoints: whole or absent, checked before they are used, and never code."""

import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from openlum.errors import InputError
from openlum.training.checkpoint import PARTS, PROGRESS, Progression, load_checkpoint, save_checkpoint

Training = tuple[nn.Module, torch.optim.Optimizer, dict[str, torch.Tensor]]


def training(seed: int = 0, width: int = 3) -> Training:
    """A model of two layers, of which one is never trained, its optimizer after some steps, and other weights as the best."""
    torch.manual_seed(seed)
    model = nn.ModuleDict({"used": nn.Linear(2, width), "unused": nn.Linear(2, 2)})
    best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    groups = [{"params": [model["unused"].weight, model["used"].bias]}, {"params": [model["used"].weight]}]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    for _ in range(seed):
        model["used"](torch.randn(4, 2)).square().sum().backward()
        optimizer.step()
    return model, optimizer, best


def numbers(parts: Training) -> dict[str, torch.Tensor]:
    model, optimizer, best = parts
    state = {
        f"{index} {key}": value
        for index, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
    }
    return model.state_dict() | {f"best {name}": tensor for name, tensor in best.items()} | state


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A directory with a checkpoint."""
    save_checkpoint(tmp_path, *training(seed=3), Progression(step=3, best_validation={"loss": 0.1}))
    return tmp_path


def test_a_checkpoint_gives_back_what_was_saved(saved: Path) -> None:
    other = training()
    assert load_checkpoint(saved, *other) == Progression(step=3, best_validation={"loss": 0.1})
    expected, found = numbers(training(seed=3)), numbers(other)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_without_a_checkpoint_nothing_changes(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, *training()) is None


def test_the_newest_replaces_the_one_before_also_at_the_same_step(saved: Path) -> None:
    save_checkpoint(saved, *training(seed=3), Progression(step=3, epoch=1))
    assert len(list(saved.iterdir())) == 1
    assert load_checkpoint(saved, *training()) == Progression(step=3, epoch=1)


def test_a_killed_writer_leaves_the_former_checkpoint(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", die)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(saved, *training(seed=4), Progression(step=4))
    assert load_checkpoint(saved, *training()) == Progression(step=3, best_validation={"loss": 0.1})
    save_checkpoint(saved, *training(seed=5), Progression(step=5))
    assert len(list(saved.iterdir())) == 1


@pytest.mark.parametrize("name", [*PARTS, PROGRESS])
@pytest.mark.parametrize("damage", ["flipped", "halved", "empty", "deleted"])
def test_a_damaged_file_is_named(saved: Path, name: str, damage: str) -> None:
    file = next(saved.glob(f"*/{name}"))
    content = bytearray(file.read_bytes())
    content[-20] ^= 4
    file.write_bytes({"flipped": content, "halved": content[: len(content) // 2]}.get(damage, b""))
    if damage == "deleted":
        file.unlink()
    with pytest.raises(InputError, match=rf"{name}: .*delete .* to train from the start"):
        load_checkpoint(saved, *training())


def test_another_model_is_refused(saved: Path) -> None:
    with pytest.raises(InputError, match=r"best\.safetensors: does not fit"):
        load_checkpoint(saved, *training(width=4))


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("where", ["step-00000003", "000001-step-3", "000002-step-4"])
def test_a_planted_payload_never_runs(saved: Path, tmp_path: Path, where: str) -> None:
    """As torch.distributed.checkpoint would: beside a checkpoint of ours, in place of one, in one of an earlier version."""
    payload = pickle.dumps(Payload(tmp_path / "ran"))
    target = saved / where
    target.mkdir(exist_ok=True)
    for name in (".metadata", "__0_0.distcp", *(PARTS if where == "000002-step-4" else ())):
        (target / name).write_bytes(payload)
    unpickled = []
    sys.addaudithook(lambda event, _: unpickled.append(event) if event == "pickle.find_class" else None)
    if where == "000001-step-3":
        assert load_checkpoint(saved, *training())
    else:
        with pytest.raises(InputError, match="to train from the start"):
            load_checkpoint(saved, *training())
    assert not unpickled
    assert not (tmp_path / "ran").exists()
    pickle.loads(payload)
    assert unpickled  # the test can fail
    assert (tmp_path / "ran").exists()


def test_a_full_disk_is_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("openlum.artefact.tensors.save_file", fail)
    with pytest.raises(InputError, match=r"model\.safetensors: cannot be written .*No space left"):
        save_checkpoint(saved, *training(), Progression())
