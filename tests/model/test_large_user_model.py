"""Properties of the model that do not depend on its weights."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openlum.data.packing import window_start
from openlum.errors import InputError
from openlum.field_spec import FieldSpec
from openlum.model import History, LargeUserModel, Questions
from openlum.model.batch import Fields

from .conftest import CONDITION, causal_answers, random_fields, random_history, to_double

TOLERANCE = 1e-5


def single_user(history: History, user: int, events: int | None = None) -> History:
    """Return the history of one user, or its first `events` events."""
    begin, end = history.offsets[user : user + 2].tolist()
    end = end if events is None else begin + events
    condition = {name: field[begin:end] for name, field in history.condition.items()}
    return History(history.item[begin:end], condition, torch.tensor([0, end - begin]))


def single_row(fields: Fields, index: int) -> Fields:
    return {name: field[index : index + 1] for name, field in fields.items()}


@torch.no_grad()
def answer(model: LargeUserModel, history: History, questions: Questions) -> torch.Tensor:
    return model.answer_questions(model.encode_history(history), questions)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=5), count=st.integers(1, 25), seed=st.integers(0, 10_000)
)
def test_group_query_equals_separate_queries(
    double_model: LargeUserModel, lengths: list[int], count: int, seed: int
) -> None:
    """Each question of a group has the same answer as in a separate pass over a history that ends at its prefix."""
    rng = np.random.default_rng(seed)
    history = random_history(lengths, rng)
    user_index = np.sort(rng.integers(0, len(lengths), count))
    prefix = np.array([rng.integers(0, lengths[user] + 1) for user in user_index])
    history.condition, condition = to_double(history.condition), to_double(random_fields(CONDITION, count, rng))
    together = answer(
        double_model, history, Questions(condition, torch.from_numpy(user_index), torch.from_numpy(prefix))
    )
    for index in range(count):
        # In the plain autoregressive pass, the question is the condition of one more event. The item of this event has no effect.
        single_history = single_user(history, int(user_index[index]), int(prefix[index]))
        item = torch.cat([single_history.item, torch.tensor([1])])
        fields = {
            name: torch.cat([single_history.condition[name], single_row(condition, index)[name]]) for name in condition
        }
        answers = causal_answers(double_model, History(item, fields, torch.tensor([0, len(item)])))
        assert (together[index] - answers[-1]).abs().max() <= TOLERANCE


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(0, 20), min_size=1, max_size=8), seed=st.integers(0, 10_000))
def test_answers_of_many_users_equal_those_of_single_users(
    double_model: LargeUserModel, lengths: list[int], seed: int
) -> None:
    history = random_history(lengths, np.random.default_rng(seed))
    history.condition = to_double(history.condition)
    together = causal_answers(double_model, history)
    for user in range(len(lengths)):
        begin, end = history.offsets[user : user + 2].tolist()
        separate = causal_answers(double_model, single_user(history, user))
        torch.testing.assert_close(together[begin:end], separate, atol=TOLERANCE, rtol=0)


@settings(max_examples=25, deadline=None)
@given(length=st.integers(2, 20), seed=st.integers(0, 10_000), data=st.data())
def test_future_events_never_change_an_answer(
    model: LargeUserModel, length: int, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    now = data.draw(st.integers(0, length - 1))
    history, other = random_history([length], rng), random_history([length], rng)
    mixed = History(
        torch.cat([history.item[:now], other.item[now:]]),
        {name: torch.cat([history.condition[name][:now], other.condition[name][now:]]) for name in history.condition},
        history.offsets,
    )
    questions = Questions(random_fields(CONDITION, 3, rng), torch.zeros(3, dtype=torch.int64), torch.full((3,), now))
    torch.testing.assert_close(answer(model, history, questions), answer(model, mixed, questions), atol=1e-6, rtol=0)
    before, after = causal_answers(model, history), causal_answers(model, mixed)
    torch.testing.assert_close(before[:now], after[:now], atol=1e-6, rtol=0)


def test_the_past_changes_an_answer(model: LargeUserModel) -> None:
    """Without this, the test of future events could not fail for a model that ignores the history."""
    rng = np.random.default_rng(3)
    history, other = random_history([10], rng), random_history([10], rng)
    questions = Questions(random_fields(CONDITION, 1, rng), torch.tensor([0]), torch.tensor([10]))
    assert (answer(model, history, questions) - answer(model, other, questions)).abs().max() > 1e-2


def test_answers_and_items_have_unit_length(model: LargeUserModel) -> None:
    history = random_history([7, 3], np.random.default_rng(0))
    with torch.no_grad():
        answers, items = causal_answers(model, history), model.items()
    torch.testing.assert_close(answers.norm(dim=-1), torch.ones(10))
    torch.testing.assert_close(items.norm(dim=-1), torch.ones(len(items)))


def test_a_saved_and_loaded_model_gives_the_same_answers(model: LargeUserModel, tmp_path) -> None:
    history = [{"item": "i3", "scenario": "scenario2", "rating": "rating5"}, {"item": "i7"}, {"item": "never seen"}]
    questions = [{}, {"scenario": "scenario1", "words": ["words1", "words8"], "price": 0.3}]
    model.save_pretrained(tmp_path)
    loaded = LargeUserModel.from_pretrained(tmp_path)
    assert torch.equal(model.ask(history, questions), loaded.ask(history, questions))
    assert model.recommend(history, 5, questions[1]) == loaded.recommend(history, 5, questions[1])


def test_answers_to_raw_questions_equal_those_to_encoded_questions(model: LargeUserModel) -> None:
    history = History(
        torch.tensor([3, 7]),
        {n: f[:2] for n, f in random_fields(CONDITION, 2, np.random.default_rng(0)).items()},
        torch.tensor([0, 2]),
    )
    history.condition["scenario"] = torch.tensor([2, 0])
    history.condition["rating"] = torch.tensor([5, 0])
    history.condition["words"] = torch.tensor([[0, 0, 0], [1, 8, 0]])
    history.condition["price"] = torch.tensor([float("nan"), 0.5])
    history.condition["query"] = torch.full((2, 5), float("nan"))
    raw = [
        {"item": "i3", "scenario": "scenario2", "rating": "rating5"},
        {"item": "i7", "words": ["words1", "words8"], "price": 0.5},
    ]
    questions = Questions(
        model.processor.encode_conditions([{}], CONDITION, strict=True), torch.tensor([0]), torch.tensor([2])
    )
    torch.testing.assert_close(model.ask(raw, [{}]), answer(model, history, questions))


@pytest.mark.parametrize("events", [63, 64, 65, 96, 97, 130])
def test_ask_uses_the_window_of_bulk_queries(model: LargeUserModel, events: int) -> None:
    history = [{"item": f"i{1 + index % 29}", "scenario": f"scenario{1 + index % 3}"} for index in range(events)]
    begin = int(window_start(np.array([events]), 64)[0])
    assert torch.equal(model.ask(history, [{}]), model.ask(history[begin:], [{}]))
    if begin:
        assert not torch.equal(model.ask(history, [{}]), model.ask(history[begin + 1 :], [{}]))


def test_raw_numbers_are_standardised(model: LargeUserModel) -> None:
    specs = [FieldSpec(name="price", type="numeric", mean=100.0, std=20.0)]
    fields = model.processor.encode_conditions([{"price": 140}, {"price": "90"}, {}], specs, strict=True)
    assert fields["price"][:2].tolist() == [2.0, -0.5]
    assert fields["price"][2].isnan()


def test_recommend_leaves_out_the_history(model: LargeUserModel) -> None:
    history = [{"item": f"i{index}"} for index in range(1, 21)]
    items = [row["item"] for row in model.recommend(history, k=50)]
    assert sorted(items) == sorted(f"i{index}" for index in range(21, 30))
    assert model.recommend([], k=3)


@pytest.mark.parametrize(
    ("history", "question", "message"),
    [
        ([{"scenario": "scenario1"}], {}, "has no 'item'"),
        (
            [{"item": "i1"}],
            {"colour": "red"},
            "condition field 'colour': the model has no such field; choose from scenario",
        ),
        ([{"item": "i1"}], {"scenario": "attic"}, "'attic' was not in the training data"),
        ([{"item": "i1"}], {"price": "cheap"}, "'cheap' is not a finite number"),
        ([{"item": "i1"}], {"price": [1, 2]}, "is not a finite number"),
        ([{"item": "i1"}], {"query": [1.0, 2.0]}, "not a list of 5 finite numbers"),
        ([{"item": "i1"}], {"words": 5}, "5 was not in the training data"),
    ],
)
def test_the_message_says_what_is_wrong_in_a_question(model: LargeUserModel, history, question, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.recommend(history, question=question)


def test_item_ids_of_any_type_are_matched_and_only_unknown_items_give_a_warning(model: LargeUserModel) -> None:
    history = [{"item": "i3"}, {"item": np.str_("never seen")}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.recommend(history)
        assert torch.equal(model.ask(history, [{}]), model.ask([{"item": b"i3"}, {"item": 5}], [{}]))
        model.predict_feedback(history, ["i4", 7.0])
    with pytest.warns(UserWarning, match="knows none of the 2 items of the history: 1, 'x'"):
        model.recommend([{"item": 1}, {"item": "x"}])
    with pytest.warns(UserWarning, match="knows none of the 1 items to predict feedback for: 'x'"):
        model.predict_feedback(history, ["x"])


def test_the_message_for_a_missing_model_names_the_command(tmp_path) -> None:
    with pytest.raises(InputError, match="lum pretrain"):
        LargeUserModel.from_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"runs/nope/model: no such directory.*lum pretrain"):
        LargeUserModel.from_pretrained("runs/nope/model")


def test_the_message_for_a_damaged_model_names_the_file(model: LargeUserModel, tmp_path) -> None:
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(InputError, match=r"model\.safetensors"):
        LargeUserModel.from_pretrained(tmp_path)
