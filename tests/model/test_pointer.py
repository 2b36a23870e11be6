"""Copies of what repeats: copy scores against a plain loop, and what a question may not see."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from openlum.model import History, LargeUserModel, Questions
from openlum.model.pointer import KEY_WIDTH, NO_COPY

from .conftest import CONDITION, ITEMS, random_fields, random_history, to_double
from .test_large_user_model import single_row, single_user


def questions_of(condition: dict[str, Tensor], user: list[int], prefix: list[int]) -> Questions:
    return Questions(condition, torch.tensor(user), torch.tensor(prefix))


@torch.no_grad()
def plain_weights(model: LargeUserModel, history: History, outputs: Tensor, prefix: int) -> Tensor:
    """Return the copy weights, (V,), of one user's items for one question, by a loop over the events."""
    pointer = model.network.pointer
    threshold, slope = pointer.choices(outputs)
    keys = model.encode_history(history).pointer["key"]
    weights = torch.zeros(ITEMS, dtype=keys.dtype)
    for event in range(prefix):
        if history.item[event] > 0:
            score = pointer.query(outputs) @ keys[event] / KEY_WIDTH**0.5 - threshold
            score = score - slope * np.log1p(prefix - 1 - event)
            weights[history.item[event]] += score.exp()
    return weights


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(0, 12), min_size=1, max_size=4), seed=st.integers(0, 10_000))
def test_scores_of_all_items_equal_a_loop_over_the_history(
    double_model: LargeUserModel, lengths: list[int], seed: int
) -> None:
    """The groups of users are padded to different lengths, and a user's items repeat."""
    rng = np.random.default_rng(seed)
    history, count = random_history(lengths, rng), 7
    history.item = torch.from_numpy(rng.integers(0, 5, sum(lengths)))  # repeats, and unknown items
    history.condition, condition = to_double(history.condition), to_double(random_fields(CONDITION, count, rng))
    user = rng.integers(0, len(lengths), count).tolist()
    prefix = [int(rng.integers(0, lengths[index] + 1)) for index in user]
    network, e = double_model.network, double_model.items().detach()
    with torch.no_grad():
        state, questions = double_model.encode_history(history), questions_of(condition, user, prefix)
        scores, answers = double_model.score_items(state, questions, e), network.answer(state, questions)
        questions.item = torch.from_numpy(rng.integers(1, 5, count))
        similarity = network.similarity(network.answer(state, questions), e[questions.item])
    for index in range(count):
        own = single_user(history, user[index])
        weights = plain_weights(double_model, own, answers.outputs[index], prefix[index])
        expected = (weights + (network.scale("item") * e @ answers.vectors[index]).exp()).log() / network.scale("item")
        torch.testing.assert_close(scores[index, 1:], expected[1:].detach(), rtol=0, atol=1e-9)
        assert scores[index, 0] == -torch.inf
        torch.testing.assert_close(similarity[index], expected[questions.item[index]].detach(), rtol=0, atol=1e-9)


def test_events_after_the_prefix_and_events_of_others_change_nothing(double_model: LargeUserModel) -> None:
    rng = np.random.default_rng(3)
    history = random_history([9, 6], rng)
    history.item = torch.from_numpy(rng.integers(1, 4, 15))
    history.condition, condition = to_double(history.condition), to_double(random_fields(CONDITION, 1, rng))
    item, e = torch.tensor([2]), double_model.items().detach()

    @torch.no_grad()
    def outputs(changed: History) -> list[Tensor]:
        state, questions = double_model.encode_history(changed), questions_of(condition, [0], [5])
        questions.item = item
        return [
            double_model.score_items(state, questions, e),
            *double_model.predict_feedback_logits(state, questions),
        ]

    before = outputs(history)
    history.item[5:] = 7
    for old, new in zip(before, outputs(history), strict=True):
        torch.testing.assert_close(old, new, rtol=0, atol=1e-12)
    history.item[:5] = 7
    assert any(not torch.allclose(old, new) for old, new in zip(before, outputs(history), strict=True))


def test_feedback_predictions_see_the_number_and_the_distance_of_matches(double_model: LargeUserModel) -> None:
    rng = np.random.default_rng(0)
    history = random_history([6], rng)
    history.condition, condition = to_double(history.condition), to_double(random_fields(CONDITION, 1, rng))
    readings = []
    for items in ([1, 1, 1, 2, 3, 4], [1, 3, 4, 2, 3, 4], [3, 4, 2, 3, 4, 1], [3, 4, 2, 3, 4, 3]):
        history.item = torch.tensor(items)
        questions = Questions(condition, torch.tensor([0]), torch.tensor([6]), torch.tensor([1]))
        with torch.no_grad():
            state = double_model.encode_history(history)
            network = double_model.network
            readings += network._point(state, [questions], [network._ask(state, questions)])
    numbers = [float(reading.matches[0, -1].exp()) - 1 for reading in readings]
    assert numbers == pytest.approx([3, 1, 1, 0])
    assert not torch.allclose(readings[1].matches, readings[2].matches)
    assert not readings[3].matches.any()
    assert float(readings[3].matched) < NO_COPY / 2


def test_an_unknown_item_is_never_copied(double_model: LargeUserModel) -> None:
    rng = np.random.default_rng(1)
    history = random_history([4], rng)
    history.item = torch.zeros(4, dtype=torch.int64)
    history.condition, condition = to_double(history.condition), to_double(random_fields(CONDITION, 1, rng))
    with torch.no_grad():
        state = double_model.encode_history(history)
        questions = questions_of(single_row(condition, 0), [0], [4])
        questions.item = torch.tensor([0])
        answers = double_model.network.answer(state, questions)
        copies = double_model.network.copies(state, questions_of(condition, [0], [4]), answers.outputs)
    assert len(copies.item) == 0
    assert float(answers.all_copied) < NO_COPY / 2
