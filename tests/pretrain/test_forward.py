"""A training step calls `forward` once, and computes the same on every rank, whatever the batch has."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from openlum.data.dataset import Dataset
from openlum.data.packing import Spans
from openlum.model import History
from openlum.model.batch import Fields
from openlum.model.network import Network
from openlum.pretrain.initialization import build_model
from openlum.pretrain.objective import Objective
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import Trainer

from . import golden


def new_trainer(dataset: Dataset, work: Path, full_softmax_items: int = 50_000) -> Trainer:
    settings = PretrainSettings(full_softmax_items=full_softmax_items, negatives=8)
    return Trainer(build_model(dataset, golden.SHAPE, 0), dataset, settings, work)


def histories(dataset: Dataset, users: int) -> History:
    """Return up to 8 events of the first users."""
    lengths = np.minimum(np.diff(dataset.sequences.offsets)[:users], 8)
    return History.gather(dataset.sequences, Spans(np.arange(users), np.zeros_like(lengths), lengths))


def without_feedback(condition: Fields) -> Fields:
    return condition | {"rating": torch.zeros_like(condition["rating"])}


BATCHES = {
    "usual": lambda history: history,
    "no feedback": lambda history: replace(history, condition=without_feedback(history.condition)),
    "unknown items only": lambda history: replace(history, item=torch.zeros_like(history.item)),
    "no event": lambda history: replace(
        history,
        item=history.item[:0],
        condition={name: field[:0] for name, field in history.condition.items()},
        offsets=torch.tensor([0]),
        prefix=history.prefix[:0],
        event_index=history.event_index[:0],
    ),
    "one event": lambda history: replace(
        history,
        item=history.item[:1],
        condition={name: field[:1] for name, field in history.condition.items()},
        offsets=torch.tensor([0, 1]),
        prefix=history.prefix[:1],
        event_index=history.event_index[:1],
    ),
}


def loss(objective: Objective, network: Network, history: History) -> torch.Tensor:
    torch.manual_seed(0)
    return objective.total(objective(network, history))


@pytest.mark.parametrize("full_softmax_items", [50_000, 1])
@pytest.mark.parametrize("name", BATCHES)
def test_every_parameter_gets_a_gradient_in_one_call_of_forward(
    small_dataset: Dataset, tmp_path: Path, name: str, full_softmax_items: int
) -> None:
    trainer = new_trainer(small_dataset, tmp_path, full_softmax_items)
    network, calls = trainer.model.network.train(), []
    network.register_forward_hook(lambda *_: calls.append(1))
    total = loss(trainer.objective, network, BATCHES[name](histories(small_dataset, 6)))
    total.backward()
    assert total.isfinite()
    assert len(calls) == 1
    assert [n for n, parameter in network.named_parameters() if parameter.grad is None] == []
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters() if parameter.grad is not None)


@pytest.fixture
def process_group(tmp_path: Path):
    if dist.is_initialized():
        pytest.skip("there is a process group")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("name", BATCHES)
def test_a_step_with_sharded_weights_equals_a_plain_step(small_dataset: Dataset, tmp_path: Path, name: str) -> None:
    """FSDP2 gathers the weights when `forward` is called. Weights that were used elsewhere would be shards."""
    trainer = new_trainer(small_dataset, tmp_path / "work")
    network, history = trainer.model.network, BATCHES[name](histories(small_dataset, 6))
    network.train()
    expected = loss(trainer.objective, network, history)
    expected.backward()
    gradients = {n: parameter.grad for n, parameter in network.named_parameters()}
    network.zero_grad()
    mesh = init_device_mesh("cpu", (1,))
    for block in network.user_encoder.blocks:
        fully_shard(block, mesh=mesh)
        for method in ("encode_history", "answer_questions"):
            register_fsdp_forward_method(block, method)
    fully_shard(network, mesh=mesh)
    total = loss(trainer.objective, network, history)
    total.backward()
    torch.testing.assert_close(total, expected)
    for n, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad.full_tensor(), gradients[n], msg=n)
