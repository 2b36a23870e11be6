"""Feedback prediction: questions about the feedback of a user to an item."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openlum.errors import InputError
from openlum.model import History, LargeUserModel, Questions

from .conftest import CONDITION, ITEMS, random_fields, random_history
from .test_large_user_model import single_row, single_user


@torch.no_grad()
def feedback_logits(model: LargeUserModel, history: History, questions: Questions) -> torch.Tensor:
    """Return the logits of the only feedback field."""
    return model.predict_feedback_logits(model.encode_history(history), questions)[0]


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=5), count=st.integers(1, 25), seed=st.integers(0, 10_000)
)
def test_feedback_predictions_of_a_group_equal_those_of_single_items(
    model: LargeUserModel, lengths: list[int], count: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    history, condition = random_history(lengths, rng), random_fields(CONDITION, count, rng)
    user_index = np.sort(rng.integers(0, len(lengths), count))
    prefix = np.array([rng.integers(0, lengths[u] + 1) for u in user_index])
    item = torch.from_numpy(rng.integers(1, ITEMS, count))
    together = feedback_logits(
        model, history, Questions(condition, torch.from_numpy(user_index), torch.from_numpy(prefix), item)
    )
    for index in range(count):
        single_history = single_user(history, int(user_index[index]), int(prefix[index]))
        question = Questions(
            single_row(condition, index),
            torch.tensor([0]),
            torch.tensor([len(single_history.item)]),
            item[index : index + 1],
        )
        torch.testing.assert_close(
            together[index], feedback_logits(model, single_history, question)[0], atol=1e-4, rtol=1e-4
        )


def test_a_feedback_prediction_depends_on_the_item_and_not_on_the_future(model: LargeUserModel) -> None:
    rng = np.random.default_rng(2)
    history, condition = random_history([12], rng), random_fields(CONDITION, 2, rng)
    condition = {name: field[:1].expand(2, *field.shape[1:]) for name, field in condition.items()}
    questions = Questions(condition, torch.zeros(2, dtype=torch.int64), torch.full((2,), 7), torch.tensor([3, 4]))
    logits = feedback_logits(model, history, questions)
    assert logits.shape == (2, 5)
    assert (logits[0] - logits[1]).abs().max() > 1e-2
    changed = History(history.item.clone(), history.condition, history.offsets)
    changed.item[7:] = 1
    assert torch.equal(feedback_logits(model, changed, questions), logits)
    changed.item[:7] = 1
    assert (feedback_logits(model, changed, questions) - logits).abs().max() > 1e-2


def test_predict_feedback_returns_probabilities_of_raw_values(model: LargeUserModel) -> None:
    history = [{"item": "i3", "scenario": "scenario2", "rating": "rating5"}, {"item": "i7"}]
    predictions = model.predict_feedback(history, ["i4", "i9", "never seen"], {"scenario": "scenario1"})
    assert [row["item"] for row in predictions] == ["i4", "i9", "never seen"]
    for row in predictions:
        assert list(row["rating"]) == [f"rating{value}" for value in range(1, 6)]
        assert sum(row["rating"].values()) == pytest.approx(1)
    assert predictions[0]["rating"] != predictions[1]["rating"]
    assert model.predict_feedback(history, ["i9"], {"scenario": "scenario1"})[0]["rating"] == pytest.approx(
        predictions[1]["rating"], abs=1e-5
    )


def test_wrong_arguments_of_predict_feedback_are_refused(model: LargeUserModel) -> None:
    for items in ([], "i7"):
        with pytest.raises(InputError, match="at least one item"):
            model.predict_feedback([], items)
    with pytest.raises(InputError, match="'rating' is feedback"):
        model.predict_feedback([], ["i7"], {"rating": "rating5"})
