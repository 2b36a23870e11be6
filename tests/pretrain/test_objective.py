"""The training loss: what it asks of every event, and what it must not see."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from openlum.data.dataset import Dataset
from openlum.data.packing import Spans
from openlum.model import History
from openlum.pretrain.initial import build_model
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import Trainer

from . import golden

SETTINGS = PretrainSettings(
    batch_events=64, learning_rate=0.01, feedback_contrast_positions=1.0, condition_dropout=0.0, condition_blank=0.0
)


@pytest.fixture(scope="module")
def run(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A training that has begun, so that what a question sees counts; it asks of every event all that there is to ask."""
    work: Path = tmp_path_factory.mktemp("objective")
    (work / "checkpoints").mkdir()
    trainer = Trainer(build_model(small_dataset, golden.SHAPE, 0), small_dataset, SETTINGS, work)
    trainer.run(until=20)
    trainer.model.eval()
    return trainer


@torch.no_grad()
def outputs(run: Trainer, history: History, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What the losses of a batch are made of: answers and logits, (L, ...) each, in the order of the events."""
    made: list[Tensor] = []
    ask = run.model.answer_and_predict_feedback

    def record(*arguments):
        answers, logits = ask(*arguments)
        made.extend(output.unflatten(0, (len(history.item), -1)) for output in (*answers, *logits))
        return answers, logits

    with monkeypatch.context() as patch:
        patch.setattr(run.model, "answer_and_predict_feedback", record)
        run.objective(run.model, history)
    return made


def whole_histories(dataset: Dataset) -> tuple[History, np.ndarray]:
    """All users' events, and of each the index of the first of its second."""
    lengths = np.diff(dataset.sequences.offsets)
    history = History.gather(dataset.sequences, Spans(np.arange(len(lengths)), np.zeros_like(lengths), lengths))
    return history, dataset.sequences.moment


def test_no_loss_of_feedback_depends_on_another_event_of_its_second(
    run: Trainer, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it comes before or after; and no loss of an item on a later event. What may see the difference does."""
    history, moment = whole_histories(small_dataset)
    second = torch.from_numpy(np.cumsum(moment == np.arange(len(moment))))  # (L,) number of each event's second
    place = torch.arange(len(second))
    usual = outputs(run, history, monkeypatch)
    assert [tuple(output.shape[1:]) for output in usual] == [(1, 16), (5, 16), (1, 5)]
    shared = (second.bincount()[second] > 1) & (place < len(second) // 2)
    assert shared.sum() > 30
    for changed in shared.nonzero().squeeze(1)[::5].tolist():
        user = int(history.user_of(torch.tensor([changed])))
        begin, end = history.offsets[user : user + 2].tolist()
        other = {name: field.clone() for name, field in history.condition.items()}
        other["rating"][changed] = 1 + other["rating"][changed] % 5
        other["scenario"][changed] = 1 + other["scenario"][changed] % 3
        item = history.item.clone()
        item[changed] = 1 + item[changed] % 19
        found = outputs(run, History(item, other, history.offsets, history.before, history.event), monkeypatch)
        elsewhere = (place < begin) | (place >= end)
        by_second = elsewhere | (second <= second[changed]) & (place != changed)
        for kind, (before, after) in enumerate(zip(usual, found, strict=True)):
            same = by_second if kind else elsewhere | (place < changed)
            torch.testing.assert_close(after[same], before[same], atol=1e-6, rtol=0)
            if not same[begin:end].all() and end - changed > 3:
                assert (after[~same] - before[~same]).abs().max() > 1e-4


def test_an_item_is_asked_for_under_its_condition_after_all_events_before_it(
    run: Trainer, small_dataset: Dataset
) -> None:
    history, _ = whole_histories(small_dataset)
    positions = torch.arange(len(history.item))
    questions = run.objective.looking_for_items(history, positions)
    within = torch.cat([torch.arange(length) for length in history.offsets.diff().tolist()])
    assert torch.equal(questions.prefix, within)
    assert all(torch.equal(questions.condition[name], field) for name, field in history.condition.items())


def test_an_item_asked_for_without_its_condition_leaves_the_history_as_it_was(
    run: Trainer, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, _ = whole_histories(small_dataset)
    usual = outputs(run, history, monkeypatch)
    monkeypatch.setattr(run.objective, "settings", SETTINGS.model_copy(update={"question_blank": 0.5}))
    questions = run.objective.looking_for_items(history, torch.arange(len(history.item)))
    unknown = (questions.condition["rating"] == 0) & (questions.condition["scenario"] == 0)
    assert 0.4 < unknown.float().mean() < 0.6
    anything, *others = outputs(run, history, monkeypatch)
    changed = (anything - usual[0]).flatten(1).abs().amax(1) > 1e-4
    assert 0.4 < changed.float().mean() < 0.6
    for one, other in zip(others, usual[1:], strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(anything[~changed], usual[0][~changed], atol=1e-4, rtol=0)
