"""Questions about an item: what feedback a user would give to it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openlum.errors import InputError
from openlum.model import History, LargeUserModel, Questions

from .conftest import CONDITION, ITEMS, random_fields, random_history
from .test_large_user_model import one, user_alone


@torch.no_grad()
def judge(model: LargeUserModel, history: History, questions: Questions) -> torch.Tensor:
    """The one feedback field's logits."""
    return model.predict_feedback_logits(model.encode_history(history), questions)[0]


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=5), asked=st.integers(1, 25), seed=st.integers(0, 10_000)
)
def test_items_judged_together_are_judged_as_each_alone(
    model: LargeUserModel, lengths: list[int], asked: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    history, condition = random_history(lengths, rng), random_fields(CONDITION, asked, rng)
    user = np.sort(rng.integers(0, len(lengths), asked))
    prefix = np.array([rng.integers(0, lengths[u] + 1) for u in user])
    item = torch.from_numpy(rng.integers(1, ITEMS, asked))
    together = judge(model, history, Questions(condition, torch.from_numpy(user), torch.from_numpy(prefix), item))
    for index in range(asked):
        past = user_alone(history, int(user[index]), int(prefix[index]))
        question = Questions(
            one(condition, index), torch.tensor([0]), torch.tensor([len(past.item)]), item[index : index + 1]
        )
        torch.testing.assert_close(together[index], judge(model, past, question)[0], atol=1e-4, rtol=1e-4)


def test_the_item_changes_the_judgement_and_the_future_does_not(model: LargeUserModel) -> None:
    rng = np.random.default_rng(2)
    history, condition = random_history([12], rng), random_fields(CONDITION, 2, rng)
    condition = {name: field[:1].expand(2, *field.shape[1:]) for name, field in condition.items()}
    questions = Questions(condition, torch.zeros(2, dtype=torch.int64), torch.full((2,), 7), torch.tensor([3, 4]))
    logits = judge(model, history, questions)
    assert logits.shape == (2, 5)
    assert (logits[0] - logits[1]).abs().max() > 1e-2
    later = History(history.item.clone(), history.condition, history.offsets)
    later.item[7:] = 1
    assert torch.equal(judge(model, later, questions), logits)
    later.item[:7] = 1
    assert (judge(model, later, questions) - logits).abs().max() > 1e-2


def test_raw_items_are_judged_by_probabilities_of_raw_values(model: LargeUserModel) -> None:
    history = [{"item": "i3", "scenario": "scenario2", "rating": "rating5"}, {"item": "i7"}]
    found = model.predict_feedback(history, ["i4", "i9", "never seen"], {"scenario": "scenario1"})
    assert [row["item"] for row in found] == ["i4", "i9", "never seen"]
    for row in found:
        assert list(row["rating"]) == [f"rating{value}" for value in range(1, 6)]
        assert sum(row["rating"].values()) == pytest.approx(1)
    assert found[0]["rating"] != found[1]["rating"]
    assert model.predict_feedback(history, ["i9"], {"scenario": "scenario1"})[0]["rating"] == pytest.approx(
        found[1]["rating"], abs=1e-5
    )


def test_nothing_to_judge_is_refused(model: LargeUserModel) -> None:
    for items in ([], "i7"):
        with pytest.raises(InputError, match="one item or more"):
            model.predict_feedback([], items)
    with pytest.raises(InputError, match="'rating' is feedback"):
        model.predict_feedback([], ["i7"], {"rating": "rating5"})
