"""The memory of a batch does not grow with the number of a user's impressions or events, and neither changes an answer."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from openlum.data.dataset import Dataset
from openlum.data.sequences import Impressions, Sequences
from openlum.model import LargeUserModel, Questions
from openlum.model.batch import to_tensors
from openlum.query.answers import answer_impressions, distinct_questions, embed_items
from openlum.query.matching import matched_scores
from openlum.query.questions import QuestionSet
from openlum.query.settings import QuerySettings

from .test_bulk import QUESTIONS, model

__all__ = ["model"]
"""A fixture."""

BATCH = 4096


class LargestTensor(TorchDispatchMode):
    """Records the size in bytes of the largest tensor that an operation returns."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return out


def answers(
    model: LargeUserModel, sequences: Sequences, impressions: Impressions
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return the answers (I, G, E), all scores of every impression, (I, ...), and the size of the largest tensor of a batch."""
    questions, items = QuestionSet(model.processor, model.config.condition, QUESTIONS), embed_items(model, 21)
    vectors = torch.empty(len(impressions), len(questions), items.shape[1])
    scores = torch.empty(len(impressions), len(questions) + len(model.processor.feedback_values(targets(model)[0])))
    settings = QuerySettings(batch_events=BATCH)
    largest = 0
    batches = answer_impressions(model, sequences, impressions, questions, settings, items)
    while True:
        with LargestTensor() as mode:
            batch = next(batches, None)
        largest = max(largest, mode.bytes)
        if batch is None:
            break
        vectors[batch[0]], scores[batch[0]] = batch[1], torch.cat(batch[2:], 1)
    with LargestTensor() as mode:
        matched = matched_scores(model, sequences, impressions, items, BATCH)
    return vectors, torch.cat([scores, torch.from_numpy(matched)], 1), max(largest, mode.bytes)


def targets(model: LargeUserModel) -> list[Any]:
    return model.config.trained_feedback_targets


@pytest.fixture
def one_user(small_dataset: Dataset) -> tuple[Sequences, Callable[[int, int], Impressions]]:
    """The events of a user, and a function that returns `n` impressions of the user at the first `moments` moments."""
    rows = small_dataset.impressions("train")
    rows = rows.take(rows.user == np.bincount(rows.user).argmax())

    def impressions(n: int, moments: int) -> Impressions:
        chosen = rows.take(np.arange(n) % min(moments, len(rows)))
        return chosen.take(np.argsort(chosen.prefix, kind="stable"))

    return small_dataset.sequences, impressions


@pytest.mark.parametrize("moments", [1, 100])
def test_many_impressions_of_a_user_need_no_more_memory(
    model: LargeUserModel, one_user: tuple[Sequences, Callable[[int, int], Impressions]], moments: int
) -> None:
    sequences, impressions = one_user
    few, many = impressions(5_000, moments), impressions(50_000, moments)
    assert len(few) == 5_000
    few_vectors, few_scores, few_bytes = answers(model, sequences, few)
    vectors, scores, largest = answers(model, sequences, many)
    assert largest <= 1.1 * few_bytes
    # Both have the same rows, so the answers are those of the first row with the same id.
    place = {int(row): index for index, row in enumerate(few.row)}
    same = torch.tensor([place[int(row)] for row in many.row])
    torch.testing.assert_close(vectors, few_vectors[same], atol=1e-5, rtol=0)
    torch.testing.assert_close(scores, few_scores[same], atol=1e-4, rtol=0)


def long_history(sequences: Sequences, events: int) -> Sequences:
    """Return the sequences of one user with events of all users, one a minute."""
    index = np.arange(events) % len(sequences.item)
    end = np.array([events])
    return replace(
        sequences,
        user=sequences.user[:1],
        offsets=np.array([0, events]),
        time=sequences.time.min() + 60 * np.arange(events),
        item=sequences.item[index],
        condition={name: values[index] for name, values in sequences.condition.items()},
        moment_start=np.arange(events),
        valid_at=end,
        test_at=end,
    )


def test_a_long_history_needs_no_more_memory(model: LargeUserModel, small_dataset: Dataset) -> None:
    rows = small_dataset.impressions("train").take(np.zeros(300, np.int64))
    found = {}
    for events in (2_000, 100_000):
        sequences = long_history(small_dataset.sequences, events)
        prefix = np.sort(np.random.default_rng(0).integers(0, 2_000, 300) * (events // 2_000))
        rows = replace(rows, row=np.arange(300), user=np.full(300, sequences.user[0]))
        found[events] = answers(model, sequences, rows.with_prefix(sequences, prefix)), sequences, prefix
    (vectors, scores, largest), sequences, prefix = found[100_000]
    # Windows that lie apart are full, so they may be twice as long as those that overlap.
    assert largest <= 2.2 * found[2_000][0][2]
    for row in (0, 150, 299):
        alone = answers(model, sequences, rows.with_prefix(sequences, prefix).take(slice(row, row + 1)))
        torch.testing.assert_close(vectors[[row]], alone[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(scores[[row]], alone[1], atol=1e-4, rtol=0)


def test_questions_that_follow_each_other_and_ask_the_same_are_asked_once(
    model: LargeUserModel, small_dataset: Dataset
) -> None:
    """For every question, the distinct one at its place has the same user, prefix and condition."""
    rows = small_dataset.impressions("train")
    rows = rows.take(np.repeat(np.arange(len(rows)), 1 + np.arange(len(rows)) % 4))
    questions = QuestionSet(model.processor, model.config.condition, QUESTIONS)
    condition = questions.conditions(to_tensors(rows.condition), len(rows))
    user, prefix = (torch.from_numpy(x.astype(np.int64)).repeat_interleave(4) for x in (rows.user, rows.prefix))
    distinct, place = distinct_questions(Questions(condition, user, prefix), 4)
    assert torch.equal(distinct.user_index[place], user)
    assert torch.equal(distinct.prefix[place], prefix)
    for name, field in condition.items():
        torch.testing.assert_close(distinct.condition[name][place], field, equal_nan=True, atol=0, rtol=0)
    assert len(distinct.prefix) <= len(small_dataset.impressions("train")) * 4 < len(prefix)
