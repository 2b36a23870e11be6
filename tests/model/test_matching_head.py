"""The matching head and the user vectors that it reads."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from openlum.model import History, LargeUserModel, Questions
from openlum.model.batch import Moments, blank
from openlum.model.matching_head import MAX_FIXED, fixed_question_names, fixed_questions

from .conftest import CONDITION, ITEMS, random_fields, random_history

LENGTHS = [7, 0, 12, 3]
MOMENTS = Moments(torch.tensor([0, 2, 2, 1, 3]), torch.tensor([7, 5, 12, 0, 1]))


@torch.no_grad()
def vectors(model: LargeUserModel, history: History, moments: Moments = MOMENTS) -> torch.Tensor:
    return model.network.user_vectors(model.encode_history(history), moments)


def test_a_user_vector_of_a_fixed_question_is_its_answer(double_model: LargeUserModel) -> None:
    history = random_history(LENGTHS, np.random.default_rng(0))
    history = replace(
        history, condition={k: v.double() if v.is_floating_point() else v for k, v in history.condition.items()}
    )
    found = vectors(double_model, history)
    names = double_model.network.user_vector_names
    assert names[:2] == ["any", "rating=1"]
    assert len(names) == 1 + 5 + 8
    assert found.shape == (5, len(names), double_model.config.settings.embedding_width)
    condition = blank(CONDITION, len(MOMENTS.prefix))
    condition["rating"][:] = 3
    questions = Questions(
        {k: v.double() if v.is_floating_point() else v for k, v in condition.items()},
        MOMENTS.user_index,
        MOMENTS.prefix,
    )
    with torch.no_grad():
        answers = double_model.answer_questions(double_model.encode_history(history), questions)
    torch.testing.assert_close(found[:, 3], answers)


def test_user_vectors_do_not_see_later_events(double_model: LargeUserModel) -> None:
    rng = np.random.default_rng(1)
    history = random_history(LENGTHS, rng)
    history = replace(
        history, condition={k: v.double() if v.is_floating_point() else v for k, v in history.condition.items()}
    )
    changed = history.item.clone()
    changed[7 + 5 :] = torch.from_numpy(rng.integers(1, ITEMS, len(changed) - 12))  # after the second moment of user 2
    before, after = vectors(double_model, history), vectors(double_model, replace(history, item=changed))
    torch.testing.assert_close(after[:2], before[:2])
    assert (after[2] - before[2]).abs().max() > 1e-3


def test_learned_questions_get_different_answers(model: LargeUserModel) -> None:
    found = vectors(model, random_history(LENGTHS, np.random.default_rng(2)))
    similarity = found[0] @ found[0].T
    assert (similarity.triu(1) < 0.999).all()


def test_one_user_equals_many_rows_of_that_user(model: LargeUserModel) -> None:
    rng = np.random.default_rng(3)
    found = vectors(model, random_history(LENGTHS, rng))
    item = torch.from_numpy(rng.integers(1, ITEMS, 6))
    questions = Questions(random_fields(CONDITION, 6, rng), torch.zeros(6, dtype=torch.int64), torch.zeros(6), item)
    with torch.no_grad():
        shared = model.network.match(found[1:2], questions)
        repeated = model.network.match(found[1:2].expand(6, -1, -1), questions)
    torch.testing.assert_close(shared, repeated)
    assert shared.logits[0].shape == (6, 5)
    assert shared.similarities.shape == (6, 12)


def test_the_matching_head_reads_user_item_and_context(model: LargeUserModel) -> None:
    rng = np.random.default_rng(4)
    found = vectors(model, random_history(LENGTHS, rng))[:2]
    item = torch.tensor([3, 3])
    questions = Questions(random_fields(CONDITION, 2, rng), torch.zeros(2, dtype=torch.int64), torch.zeros(2), item)
    same = replace(
        questions,
        condition={name: values[:1].expand(2, *values.shape[1:]) for name, values in questions.condition.items()},
    )
    with torch.no_grad():
        of_users = model.network.match(found, same)
        of_items = model.network.match(found[:1], replace(same, item=torch.tensor([3, 4])))
        of_contexts = model.network.match(found[:1], questions)
    for matched in (of_users, of_items, of_contexts):
        assert (matched.logits[0][0] - matched.logits[0][1]).abs().max() > 1e-4
    for matched in (of_users, of_items):
        assert (matched.similarities[0] - matched.similarities[1]).abs().max() > 1e-4


def test_similarities_begin_as_those_of_the_user_vectors(model: LargeUserModel) -> None:
    rng = np.random.default_rng(5)
    found, item, f = vectors(model, random_history(LENGTHS, rng))[:2], torch.tensor([3, 4]), 6
    questions = Questions(random_fields(CONDITION, 2, rng), torch.zeros(2, dtype=torch.int64), torch.zeros(2), item)
    with torch.no_grad():
        similarities = model.network.match(found, questions).similarities
        expected = (found[:, :f] * model.items(item)[:, None]).sum(-1)
    torch.testing.assert_close(similarities, torch.cat([expected, expected], 1))


@pytest.mark.parametrize(("size", "names"), [(3, 3), (6, 6), (100, MAX_FIXED)])
def test_fixed_questions_are_any_and_each_feedback_value(size: int, names: int) -> None:
    specs = [spec.model_copy(update={"size": size}) if spec.feedback else spec for spec in CONDITION]
    assert len(fixed_question_names(specs)) == names
    fields = fixed_questions(specs)
    assert fields["rating"].tolist() == list(range(names))
    assert not fields["scenario"].any()
    assert fields["price"].isnan().all()
