"""The last training of the matching head: it learns from the finished model, and nothing else changes."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from openlum.data.dataset import Dataset
from openlum.model import LargeUserModel, Questions
from openlum.model.batch import blank
from openlum.pretrain import distillation
from openlum.pretrain.initialization import build_model
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import Trainer
from openlum.pretrain.validation import validate

from .golden import SHAPE


@pytest.fixture
def trainer(small_dataset: Dataset, tmp_path: Path) -> Trainer:
    settings = PretrainSettings(epochs=2, batch_events=64, patience=2)
    trainer = Trainer(build_model(small_dataset, SHAPE, 0), small_dataset, settings, tmp_path / "work")
    trainer.run()
    return trainer


def weights(model: LargeUserModel) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.network.named_parameters()}


def examples_of(trainer: Trainer) -> distillation.Examples:
    """Return the examples that the head learns from."""
    torch.manual_seed(trainer.settings.seed)
    histories = trainer._histories_after_training()
    return distillation._compute(trainer.model.network.eval(), histories, trainer.objective)


@torch.no_grad()
def distances_to_teacher(trainer: Trainer) -> tuple[float, float]:
    """Return the mean cross-entropy of the head with the teacher, and the mean squared error of its similarities."""
    examples = examples_of(trainer)
    condition = {name: torch.cat(parts) for name, parts in examples.condition.items()}
    moment, item = torch.cat(examples.moment), torch.cat(examples.item)
    vectors = torch.cat(examples.vectors)[moment].float()
    matched = trainer.model.network.match(vectors, Questions(condition, item, item, item))
    feedback = F.cross_entropy(matched.logits[0], torch.cat([parts[0] for parts in examples.feedback]))
    return float(feedback), float(F.mse_loss(matched.similarities, torch.cat(examples.similarities)))


def forget_the_loss(trainer: Trainer) -> None:
    """Forget the loss before, so that the new head is kept in any case: this log has nothing to learn."""
    assert trainer.progress.best is not None
    trainer.progress.best.metrics["matching_head_loss"] = float("inf")


def test_the_head_comes_nearer_to_its_teacher_and_nothing_else_changes(trainer: Trainer) -> None:
    before, distances, best = weights(trainer.model), distances_to_teacher(trainer), trainer.progress.best
    forget_the_loss(trainer)
    trainer.finish_matching_head()
    changed = {name for name, tensor in weights(trainer.model).items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("matching_head.") for name in changed)
    assert all(parameter.requires_grad for parameter in trainer.model.parameters())
    assert all(after < before for after, before in zip(distances_to_teacher(trainer), distances, strict=True))
    assert best is not None
    measured = validate(trainer.model, trainer.validation, trainer.settings.batch_events)
    assert measured["matching_head_loss"] == pytest.approx(best.metrics["matching_head_loss"], abs=1e-6)


def test_the_same_seed_gives_the_same_head(trainer: Trainer) -> None:
    twin = copy.deepcopy(trainer.model.network)
    forget_the_loss(trainer)
    trainer.finish_matching_head()
    once = weights(trainer.model)
    trainer.model.network.load_state_dict(twin.state_dict())
    forget_the_loss(trainer)
    trainer.finish_matching_head()
    assert all(torch.equal(tensor, once[name]) for name, tensor in weights(trainer.model).items())


def test_a_head_that_gets_worse_is_not_kept(trainer: Trainer) -> None:
    best = trainer.progress.best
    assert best is not None
    best.metrics["matching_head_loss"] = 0.0
    before = weights(trainer.model)
    trainer.finish_matching_head()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(trainer.model).items())
    assert best.metrics["matching_head_loss"] == 0.0


def test_similarities_of_the_teacher_are_those_of_answers(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher says what `Network.similarity` says about one question at a time."""
    network, asked = trainer.model.network, []
    compute = distillation._teach

    def recorded(network, state, questions, objective):  # type: ignore[no-untyped-def]
        asked.append((state, questions, compute(network, state, questions, objective)[1]))
        return compute(network, state, questions, objective)

    monkeypatch.setattr(distillation, "_teach", recorded)
    examples_of(trainer)
    state, questions, similarities = asked[0]
    names = network.fixed_question_names
    assert len(names) == 6  # any, and five ratings
    condition = trainer.model.config.condition
    with torch.no_grad():
        items = network.items(questions.item)
        for column in range(2 * len(names)):
            fields = dict(questions.condition) if column >= len(names) else blank(condition, len(items))
            if column % len(names):
                fields["rating"] = torch.full((len(items),), column % len(names))
            answer = network.answer(state, replace(questions, condition=fields))
            torch.testing.assert_close(network.similarity(answer, items), similarities[:, column])


@pytest.mark.parametrize("limit", [{"EXAMPLES": 100}, {"MAX_NUMBERS": 100}])
def test_memory_is_bounded(trainer: Trainer, monkeypatch: pytest.MonkeyPatch, limit: dict[str, int]) -> None:
    counts = []
    for limits in ({}, limit):
        for name, value in limits.items():
            monkeypatch.setattr(distillation, name, value)
        examples = distillation._compute(trainer.model.network, trainer._histories_after_training(), trainer.objective)
        counts.append(examples.count)
    assert counts[1] < counts[0]
