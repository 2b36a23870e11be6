"""The training loss: its questions about every event, and the events that they must not see."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from openlum.data.dataset import Dataset
from openlum.data.packing import Spans
from openlum.model import History
from openlum.pretrain.initialization import build_model
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import Trainer

from . import golden

SETTINGS = PretrainSettings(
    batch_events=64, learning_rate=0.01, feedback_contrast_positions=1.0, condition_dropout=0.0, condition_blank=0.0
)


@pytest.fixture(scope="module")
def trainer(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A trainer after 20 steps, so that answers depend on the history. Its objective has every question for every event."""
    work: Path = tmp_path_factory.mktemp("objective")
    started = Trainer(build_model(small_dataset, golden.SHAPE, 0), small_dataset, SETTINGS, work)
    started.run(until=20)
    started.model.eval()
    return started


@torch.no_grad()
def outputs(trainer: Trainer, history: History, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Return the answers and logits that the losses of a batch are computed from, (L, ...) each, in the order of the events."""
    recorded: list[Tensor] = []
    answer_and_predict_feedback = trainer.model.network.answer_and_predict_feedback

    def record(*arguments):
        answers, logits = answer_and_predict_feedback(*arguments)
        vectors = [answer.vectors for answer in answers]
        recorded.extend(output.unflatten(0, (len(history.item), -1)) for output in (*vectors, *logits))
        return answers, logits

    with monkeypatch.context() as patch:
        patch.setattr(trainer.model.network, "answer_and_predict_feedback", record)
        trainer.objective(trainer.model.network, history)
    return recorded


def whole_histories(dataset: Dataset) -> tuple[History, np.ndarray]:
    """Return the events of all users, and for each event the index of the first event of its second."""
    lengths = np.diff(dataset.sequences.offsets)
    history = History.gather(dataset.sequences, Spans(np.arange(len(lengths)), np.zeros_like(lengths), lengths))
    return history, dataset.sequences.moment_start


def test_feedback_losses_do_not_depend_on_other_events_of_the_same_second(
    trainer: Trainer, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other event may come before or after. Item losses do not depend on later events. Outputs that may change do change."""
    history, moment = whole_histories(small_dataset)
    second = torch.from_numpy(np.cumsum(moment == np.arange(len(moment))))  # (L,) number of each event's second
    position = torch.arange(len(second))
    unchanged = outputs(trainer, history, monkeypatch)
    assert [tuple(output.shape[1:]) for output in unchanged] == [(1, 16), (5, 16), (1, 5)]
    shared = (second.bincount()[second] > 1) & (position < len(second) // 2)
    assert shared.sum() > 30
    for changed in shared.nonzero().squeeze(1)[::5].tolist():
        user = int(history.user_index(torch.tensor([changed])))
        begin, end = history.offsets[user : user + 2].tolist()
        other = {name: field.clone() for name, field in history.condition.items()}
        other["rating"][changed] = 1 + other["rating"][changed] % 5
        other["scenario"][changed] = 1 + other["scenario"][changed] % 3
        item = history.item.clone()
        item[changed] = 1 + item[changed] % 19
        changed_outputs = outputs(
            trainer, History(item, other, history.offsets, history.prefix, history.event_index), monkeypatch
        )
        other_users = (position < begin) | (position >= end)
        same_feedback = other_users | (second <= second[changed]) & (position != changed)
        for kind, (before, after) in enumerate(zip(unchanged, changed_outputs, strict=True)):
            same = same_feedback if kind else other_users | (position < changed)
            torch.testing.assert_close(after[same], before[same], atol=1e-6, rtol=0)
            if not same[begin:end].all() and end - changed > 3:
                assert (after[~same] - before[~same]).abs().max() > 1e-4


def test_item_questions_have_the_condition_of_the_event_and_see_all_earlier_events(
    trainer: Trainer, small_dataset: Dataset
) -> None:
    history, _ = whole_histories(small_dataset)
    positions = torch.arange(len(history.item))
    questions = trainer.objective.item_questions(history, positions)
    event_number = torch.cat([torch.arange(length) for length in history.offsets.diff().tolist()])
    assert torch.equal(questions.prefix, event_number)
    assert all(torch.equal(questions.condition[name], field) for name, field in history.condition.items())


def test_question_blank_changes_item_questions_and_not_the_history(
    trainer: Trainer, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, _ = whole_histories(small_dataset)
    unchanged = outputs(trainer, history, monkeypatch)
    monkeypatch.setattr(trainer.objective, "settings", SETTINGS.model_copy(update={"question_blank": 0.5}))
    questions = trainer.objective.item_questions(history, torch.arange(len(history.item)))
    blank = (questions.condition["rating"] == 0) & (questions.condition["scenario"] == 0)
    assert 0.4 < blank.float().mean() < 0.6
    item_answers, *feedback_outputs = outputs(trainer, history, monkeypatch)
    changed = (item_answers - unchanged[0]).flatten(1).abs().amax(1) > 1e-4
    assert 0.4 < changed.float().mean() < 0.6
    for output, expected in zip(feedback_outputs, unchanged[1:], strict=True):
        torch.testing.assert_close(output, expected)
    torch.testing.assert_close(item_answers[~changed], unchanged[0][~changed], atol=1e-4, rtol=0)
