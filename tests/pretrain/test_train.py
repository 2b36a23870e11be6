"""The training loop: resuming, determinism, learning, and what it must never see."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from openlum.artefact.directory import read_json
from openlum.data.dataset import Dataset
from openlum.data.packing import Spans, training_end
from openlum.errors import InputError
from openlum.model import History, LargeUserModel
from openlum.pretrain.initial import build_model
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import Trainer, pretrain
from openlum.pretrain.validation import validation_set

from . import golden

SETTINGS = PretrainSettings(epochs=3, batch_events=64, checkpoint_steps=4, patience=9, feedback_contrast_positions=0.3)


def trainer(dataset: Dataset, work: Path, settings: PretrainSettings = SETTINGS) -> Trainer:
    (work / "checkpoints").mkdir(parents=True, exist_ok=True)
    return Trainer(build_model(dataset, golden.SHAPE, settings.seed), dataset, settings, work)


def assert_same_weights(one: LargeUserModel, other: LargeUserModel) -> None:
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=0, atol=0, equal_nan=True, msg=name)


@pytest.mark.parametrize("feedback_contrast_weight", [0.0, 1.0])
@pytest.mark.parametrize("interruption", [2, 4, 7, 10])
def test_resumed_training_equals_an_uninterrupted_one(
    small_dataset: Dataset, tmp_path: Path, interruption: int, feedback_contrast_weight: float
) -> None:
    """Bit for bit, wherever it stopped: before the first checkpoint, at one, between two, in a later epoch."""
    settings = SETTINGS.model_copy(
        update={
            "feedback_contrast_weight": feedback_contrast_weight,
            "feedback_prediction_weight": feedback_contrast_weight,
        }
    )
    whole = trainer(small_dataset, tmp_path / "whole", settings)
    whole.run()
    trainer(small_dataset, tmp_path / "resumed", settings).run(until=interruption)
    resumed = trainer(small_dataset, tmp_path / "resumed", settings)
    resumed.run()
    assert_same_weights(whole.model, resumed.model)
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "resumed")]
    assert len(logs[0]) == len(logs[1])
    assert whole.progress.best_validation == resumed.progress.best_validation


def test_training_lowers_the_loss(small_dataset: Dataset, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 15, "learning_rate": 0.01})
    run = trainer(small_dataset, tmp_path, settings)
    batch = next(iter(run._epoch(0)))

    def loss() -> float:
        torch.manual_seed(0)
        run.model.eval()
        history = History.gather(small_dataset.sequences, batch)
        with torch.no_grad():
            return float(run.objective.total(run.objective(run.model, history)))

    before = loss()
    run.run()
    assert loss() < before - 0.2


def test_sampled_negatives_train_too(small_dataset: Dataset, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"full_softmax_items": 1, "negatives": 8})
    run = trainer(small_dataset, tmp_path, settings)
    run.run()
    assert np.isfinite(run.progress.best_loss)


@pytest.mark.parametrize("most", [50_000, 1])
def test_a_batch_without_a_known_item_is_no_failure(small_dataset: Dataset, tmp_path: Path, most: int) -> None:
    """As the last one of an epoch may be, where rare items have no id."""
    run = trainer(small_dataset, tmp_path, SETTINGS.model_copy(update={"full_softmax_items": most}))
    history = History.gather(small_dataset.sequences, next(iter(run._epoch(0))))
    found = run.objective(run.model, replace(history, item=torch.zeros_like(history.item)))
    assert float(found.item.detach()) == 0
    run.objective.total(found).backward()
    gradients = [p.grad for p in run.model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("most", [50_000, 1])
def test_an_item_of_later_periods_alone_is_no_negative(small_dataset: Dataset, tmp_path: Path, most: int) -> None:
    """Its vector would be pushed away from every answer. It has no id of its own; where ids are not hidden all is otherwise."""
    dataset = Dataset(small_dataset.path)
    late = dataset.sequences.time >= dataset.info.valid_time
    item = dataset.sequences.item
    new = int(item.max())
    item[:] = np.where(late, new, np.where(item == new, 1, item))
    run = trainer(dataset, tmp_path, SETTINGS.model_copy(update={"full_softmax_items": most, "negatives": 64}))
    met = run.model.item_encoder.trained_items
    assert not met[new]
    assert met[item[item != new]].all()
    every = set(range(1, run.model.config.items))
    torch.manual_seed(0)
    assert _drawn(run) - {0} == every - {new}
    model = build_model(dataset, golden.SHAPE.model_copy(update={"id_dropout": 0.0}), 0)
    shown = Trainer(model, dataset, run.settings, tmp_path / "shown")
    assert model.item_encoder.trained_items.all()
    assert _drawn(shown) - {0} == every


def _drawn(run: Trainer) -> set[int]:
    """Candidates of a batch with item 1, many times over."""
    return {int(one) for _ in range(50) for one in run.objective._candidates(torch.tensor([1]))}


@pytest.mark.parametrize("protocol", ["time", "last", "both"])
def test_what_is_held_out_is_never_trained_on_or_validated_on(small_dataset: Dataset, protocol) -> None:
    sequences, info = small_dataset.sequences, small_dataset.info
    end = training_end(small_dataset, protocol)
    trained, _ = Spans(np.arange(len(end)), np.zeros_like(end), end).events(sequences)
    chosen = validation_set(small_dataset, protocol, 1000, 10**6, 0)
    judged, _ = Spans(chosen.spans.user_index, chosen.first, chosen.spans.end).events(sequences)
    assert not set(trained) & set(judged)
    assert len(judged)
    if protocol != "last":
        assert (sequences.time[trained] < info.valid_time).all()
        assert (sequences.time[judged] < info.test_time).all()
    if protocol != "time":
        within = np.arange(len(sequences.time)) - np.repeat(sequences.offsets[:-1], np.diff(sequences.offsets))
        test_at = np.repeat(sequences.test_at, np.diff(sequences.offsets))
        assert (within[trained] < np.repeat(sequences.valid_at, np.diff(sequences.offsets))[trained]).all()
        assert (within[judged] < test_at[judged]).all()


def test_changing_the_validation_and_test_periods_changes_no_weight(small_dataset: Dataset, tmp_path: Path) -> None:
    """Only which epoch is the best may depend on the validation period."""
    first = trainer(small_dataset, tmp_path / "a")
    first.run(until=8)
    changed = Dataset(small_dataset.path)
    late = changed.sequences.time >= changed.info.valid_time
    changed.sequences.item[late] = 1
    changed.sequences.condition["rating"][late] = 1
    second = trainer(changed, tmp_path / "b")
    second.run(until=8)
    assert_same_weights(first.model, second.model)


def test_the_model_directory_is_whole(small_dataset: Dataset, tmp_path: Path) -> None:
    summary = pretrain(str(small_dataset.path), str(tmp_path / "model"), golden.SHAPE, SETTINGS)
    model = LargeUserModel.from_pretrained(tmp_path / "model")
    assert sum(p.numel() for p in model.parameters()) == summary["parameters"]
    assert read_json(tmp_path / "model" / "pretrain.json", "lum pretrain") == summary
    card = (tmp_path / "model" / "README.md").read_text()
    assert "recall@10" in card
    assert "LargeUserModel.from_pretrained" in card
    assert len(model.recommend([{"item": "i1", "rating": 5}], {"rating": 5}, k=3)) == 3


def test_a_diverging_training_says_what_to_do(small_dataset: Dataset, tmp_path: Path) -> None:
    run = trainer(small_dataset, tmp_path)
    with torch.no_grad():
        run.model.head.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="learning_rate"):
        run.run()


def test_golden_loss(tmp_path: Path) -> None:
    """50 steps on a tiny market give the losses that were committed: a refactoring must reproduce them."""
    found, committed = golden.losses(tmp_path), read_json(golden.FILE, "python -m tests.pretrain.golden")
    assert len(found) == 5
    assert found.keys() == committed.keys()
    for step, losses in committed.items():
        assert found[step] == pytest.approx(losses, abs=2e-4), step
