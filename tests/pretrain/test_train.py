"""The training loop: resuming, determinism, learning, and the events that it must never see."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from openlum.artefact.json_file import read_json
from openlum.data.dataset import Dataset
from openlum.data.packing import Protocol, Spans, training_end, training_events
from openlum.errors import InputError
from openlum.model import History, LargeUserModel
from openlum.pretrain.initialization import build_model
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import Trainer, pretrain
from openlum.pretrain.validation import validate, validation_set
from openlum.training.training_set import count_training_set

from . import golden
from .copies import original_events

SETTINGS = PretrainSettings(epochs=3, batch_events=64, checkpoint_steps=4, patience=9, feedback_contrast_positions=0.3)


def new_trainer(dataset: Dataset, work: Path, settings: PretrainSettings = SETTINGS) -> Trainer:
    return Trainer(build_model(dataset, golden.SHAPE, settings.seed), dataset, settings, work)


def assert_same_weights(first: LargeUserModel, second: LargeUserModel) -> None:
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(tensor, second.state_dict()[name], rtol=0, atol=0, equal_nan=True, msg=name)


@pytest.mark.parametrize("feedback_contrast_weight", [0.0, 1.0])
@pytest.mark.parametrize("interruption", [2, 4, 7, 10])
def test_resumed_training_equals_an_uninterrupted_one(
    small_dataset: Dataset, tmp_path: Path, interruption: int, feedback_contrast_weight: float
) -> None:
    """The weights are equal bit by bit, if it stopped before the first checkpoint, at one, between two, or in a later epoch."""
    settings = SETTINGS.model_copy(
        update={
            "feedback_contrast_weight": feedback_contrast_weight,
            "feedback_prediction_weight": feedback_contrast_weight,
        }
    )
    uninterrupted = new_trainer(small_dataset, tmp_path / "uninterrupted", settings)
    uninterrupted.run()
    new_trainer(small_dataset, tmp_path / "resumed", settings).run(until=interruption)
    resumed = new_trainer(small_dataset, tmp_path / "resumed", settings)
    resumed.run()
    assert_same_weights(uninterrupted.model, resumed.model)
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("uninterrupted", "resumed")]
    assert len(logs[0]) == len(logs[1])
    assert uninterrupted.progress.best == resumed.progress.best


@pytest.mark.parametrize("interruption", [2, 5, 7, 13])
def test_a_resumed_training_on_several_buffers_of_shards_equals_an_uninterrupted_one(
    sharded_dataset: Dataset, tmp_path: Path, interruption: int
) -> None:
    """It stopped within the first buffer, in a later one, or in a later epoch."""
    settings = SETTINGS.model_copy(update={"buffer_events": 130, "checkpoint_steps": 1})
    uninterrupted = new_trainer(sharded_dataset, tmp_path / "uninterrupted", settings)
    assert len(uninterrupted.loader.buffers(0)) > 1
    uninterrupted.run()
    stopped = new_trainer(sharded_dataset, tmp_path / "resumed", settings)
    stopped.run(until=interruption)
    resumed = new_trainer(Dataset(sharded_dataset.path), tmp_path / "resumed", settings)
    resumed.run()
    assert_same_weights(uninterrupted.model, resumed.model)
    assert uninterrupted.progress.best == resumed.progress.best
    assert uninterrupted.progress.step == resumed.progress.step > interruption
    bar = resumed.bar.tasks[0]  # epochs differ by some steps
    assert bar.completed == bar.total == resumed.progress.step


def test_the_number_of_parts_changes_no_training_that_fits_into_one_buffer(
    small_dataset: Dataset, sharded_dataset: Dataset, tmp_path: Path
) -> None:
    one, five = (new_trainer(d, tmp_path / d.path.parent.name) for d in (small_dataset, sharded_dataset))
    one.run()
    five.run()
    assert_same_weights(one.model, five.model)
    assert one.progress.best == five.progress.best
    assert one.total_steps == five.total_steps


@pytest.mark.parametrize("buffer_events", [1, 130, 10**6])
def test_the_first_pass_counts_all_training_events(
    small_dataset: Dataset, sharded_dataset: Dataset, tmp_path: Path, buffer_events: int
) -> None:
    trainer = new_trainer(
        sharded_dataset, tmp_path, SETTINGS.model_copy(update={"buffer_events": buffer_events, "epochs": 1})
    )
    trainer.loader.load_state({"epoch": 0, "buffer": 0, "batch": 1})
    counted = count_training_set(trainer.loader, trainer.model.config.items)
    assert trainer.loader.state() == {"epoch": 0, "buffer": 0, "batch": 1}
    sequences = small_dataset.sequences
    end = training_end(sequences, small_dataset.info, SETTINGS.protocol)
    items = sequences.item[training_events(sequences, end)]
    assert counted.item_counts.tolist() == np.bincount(items, minlength=trainer.model.config.items).tolist()
    assert (counted.events, counted.users) == (len(items), (end > 0).sum())
    trainer.loader.load_state({"epoch": 0, "buffer": 0, "batch": 0})
    trainer.run()
    assert trainer.progress.step == counted.steps_per_epoch == trainer.total_steps
    assert trainer.progress.size == counted.events


@pytest.mark.parametrize("protocol", ["time", "last", "both"])
@pytest.mark.parametrize("events", [5, 40, 10**6])
def test_the_validation_set_does_not_depend_on_the_parts(
    small_dataset: Dataset, sharded_dataset: Dataset, protocol: Protocol, events: int
) -> None:
    one, five = (validation_set(d, protocol, 10, events, seed=1) for d in (small_dataset, sharded_dataset))
    model = build_model(small_dataset, golden.SHAPE, 0, protocol)
    assert validate(model, one, 64) == validate(model, five, 64)
    assert len(one.spans) == len(five.spans) > 0
    assert one.sequences.user.tolist() == five.sequences.user.tolist() == sorted(one.sequences.user)
    if events == 5:
        assert len(one.sequences.item) < len(small_dataset.sequences.item)


def test_training_lowers_the_loss(small_dataset: Dataset, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 15, "learning_rate": 0.01})
    trainer = new_trainer(small_dataset, tmp_path, settings)
    batch = next(trainer.batches(0))

    def loss() -> float:
        torch.manual_seed(0)
        trainer.model.eval()
        history = History.gather(small_dataset.sequences, batch)
        with torch.no_grad():
            return float(trainer.objective.total(trainer.objective(trainer.model.network, history)))

    before = loss()
    trainer.run()
    assert loss() < before - 0.2


def test_training_with_sampled_negatives_has_a_finite_loss(small_dataset: Dataset, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"full_softmax_items": 1, "negatives": 8})
    trainer = new_trainer(small_dataset, tmp_path, settings)
    trainer.run()
    assert trainer.progress.best.metrics


@pytest.mark.parametrize("full_softmax_items", [50_000, 1])
def test_a_batch_without_known_items_has_finite_gradients(
    small_dataset: Dataset, tmp_path: Path, full_softmax_items: int
) -> None:
    """The last batch of an epoch may be such a batch if rare items have no id."""
    trainer = new_trainer(
        small_dataset, tmp_path, SETTINGS.model_copy(update={"full_softmax_items": full_softmax_items})
    )
    history = History.gather(small_dataset.sequences, next(trainer.batches(0)))
    losses = trainer.objective(trainer.model.network, replace(history, item=torch.zeros_like(history.item)))
    assert float(losses.item.detach()) == 0
    trainer.objective.total(losses).backward()
    gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("full_softmax_items", [50_000, 1])
def test_an_item_without_training_events_is_not_a_negative(
    small_dataset: Dataset, tmp_path: Path, full_softmax_items: int
) -> None:
    """As a negative, its vector would be pushed away from every answer. Without id dropout, every item is a negative."""
    dataset = Dataset(small_dataset.path)
    late = dataset.sequences.time >= dataset.info.valid_time
    item = dataset.sequences.item
    new = int(item.max())
    item[:] = np.where(late, new, np.where(item == new, 1, item))
    trainer = new_trainer(
        dataset, tmp_path, SETTINGS.model_copy(update={"full_softmax_items": full_softmax_items, "negatives": 64})
    )
    trained_items = trainer.model.network.item_encoder.trained_items
    assert not trained_items[new]
    assert trained_items[item[item != new]].all()
    all_items = set(range(1, trainer.model.config.items))
    torch.manual_seed(0)
    assert _candidates(trainer) - {0} == all_items - {new}
    model = build_model(dataset, golden.SHAPE.model_copy(update={"id_dropout": 0.0}), 0)
    without_id_dropout = Trainer(model, dataset, trainer.settings, tmp_path / "without id dropout")
    assert model.network.item_encoder.trained_items.all()
    assert _candidates(without_id_dropout) - {0} == all_items


def _candidates(trainer: Trainer) -> set[int]:
    """Return all candidates of 50 draws for a batch with item 1."""
    return {int(item) for _ in range(50) for item in trainer.objective._candidates(torch.tensor([1]))}


@pytest.mark.parametrize("protocol", ["time", "last", "both"])
def test_held_out_events_are_in_neither_training_nor_validation(small_dataset: Dataset, protocol) -> None:
    sequences, info = small_dataset.sequences, small_dataset.info
    end = training_end(sequences, info, protocol)
    trained, _ = Spans(np.arange(len(end)), np.zeros_like(end), end).events(sequences)
    validation = validation_set(small_dataset, protocol, 1000, 10**6, 0)
    spans = Spans(validation.spans.user_index, validation.first_evaluated, validation.spans.end)
    evaluated = original_events(sequences, validation.sequences)[spans.events(validation.sequences)[0]]
    assert not set(trained) & set(evaluated)
    assert len(evaluated)
    if protocol != "last":
        assert (sequences.time[trained] < info.valid_time).all()
        assert (sequences.time[evaluated] < info.test_time).all()
    if protocol != "time":
        event_number = np.arange(len(sequences.time)) - np.repeat(sequences.offsets[:-1], np.diff(sequences.offsets))
        test_at = np.repeat(sequences.test_at, np.diff(sequences.offsets))
        assert (event_number[trained] < np.repeat(sequences.valid_at, np.diff(sequences.offsets))[trained]).all()
        assert (event_number[evaluated] < test_at[evaluated]).all()


def test_changing_the_validation_and_test_periods_changes_no_weight(small_dataset: Dataset, tmp_path: Path) -> None:
    """Only the choice of the best epoch may depend on the validation period."""
    first = new_trainer(small_dataset, tmp_path / "a")
    first.run(until=8)
    changed = Dataset(small_dataset.path)
    late = changed.sequences.time >= changed.info.valid_time
    changed.sequences.item[late] = 1
    changed.sequences.condition["rating"][late] = 1
    second = new_trainer(changed, tmp_path / "b")
    second.run(until=8)
    assert_same_weights(first.model, second.model)


def test_the_model_directory_is_complete(small_dataset: Dataset, tmp_path: Path) -> None:
    summary = pretrain(str(small_dataset.path), str(tmp_path / "model"), golden.SHAPE, SETTINGS)
    model = LargeUserModel.from_pretrained(tmp_path / "model")
    assert sum(p.numel() for p in model.parameters()) == summary["parameters"]
    assert read_json(tmp_path / "model" / "pretrain.json", "lum pretrain") == summary
    card = (tmp_path / "model" / "README.md").read_text()
    assert "recall@10" in card
    assert "LargeUserModel.from_pretrained" in card
    assert len(model.recommend([{"item": "i1", "rating": 5}], k=3, question={"rating": 5})) == 3


def test_the_message_of_a_diverging_training_names_the_learning_rate(small_dataset: Dataset, tmp_path: Path) -> None:
    trainer = new_trainer(small_dataset, tmp_path)
    with torch.no_grad():
        trainer.model.network.head.weight.fill_(float("nan"))
    with pytest.raises(InputError, match=r"training loss is nan at step 0; lower pretrain\.learning_rate"):
        trainer.run()


def test_golden_loss(tmp_path: Path) -> None:
    """50 steps on a tiny market give the committed losses: a refactoring must reproduce them."""
    losses, committed = golden.losses(tmp_path), read_json(golden.FILE, "python -m tests.pretrain.golden")
    assert len(losses) == 5
    assert losses.keys() == committed.keys()
    for step, expected in committed.items():
        assert losses[step] == pytest.approx(expected, abs=2e-4), step
