"""A kept state that new events extend gives the same answers as encoding the whole history again."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openlum.artefact.tensors import tensors_from_bytes, tensors_to_bytes
from openlum.data.packing import window_start
from openlum.errors import InputError
from openlum.field_spec import TimeField
from openlum.model import LargeUserModel, UserState

from .conftest import ITEMS, small_model

TIMES: list[TimeField] = ["hour", "weekday", "gap"]
TOLERANCE = 1e-4
MAX_EVENTS = 64
"""Of the models of conftest.py."""
QUESTIONS: list[dict[str, Any]] = [{}, {"scenario": "scenario1"}, {"rating": "rating5", "price": 0.3}]


@pytest.fixture(scope="module", params=["transformer", "hstu"])
def timed(request: pytest.FixtureRequest) -> LargeUserModel:
    return small_model(request.param, TIMES)


def random_events(count: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return events of which some share a second, some have no time, and some have an item that the model does not know."""
    events, time = [], 1_700_000_000
    for _ in range(count):
        time += int(rng.choice([0, 0, 1, 5_000, 400_000]))
        event: dict[str, Any] = {"item": f"i{rng.integers(1, ITEMS + 2)}", "scenario": f"scenario{rng.integers(1, 4)}"}
        event |= {"time": time} if rng.random() < 0.8 else {}
        event |= {"words": ["words1", "words3"], "price": float(rng.normal())} if rng.random() < 0.5 else {}
        events.append(event)
    return events


def parts(events: list[dict[str, Any]], rng: np.random.Generator) -> list[list[dict[str, Any]]]:
    """Return the events cut into parts of 0 to 40 events."""
    result, begin = [], 0
    while begin < len(events):
        end = begin + int(rng.choice([0, 1, 2, 3, 10, 40]))
        result.append(events[begin:end])
        begin = end
    return result


def assert_same_answers(state: UserState, model: LargeUserModel, events: list[dict[str, Any]]) -> None:
    torch.testing.assert_close(state.ask(QUESTIONS), model.ask(events, QUESTIONS), atol=TOLERANCE, rtol=0)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(0, 3 * MAX_EVENTS), seed=st.integers(0, 10_000))
def test_an_extended_state_equals_encoding_the_history_again(timed: LargeUserModel, count: int, seed: int) -> None:
    """Also past the window, and if the state was kept as bytes in between."""
    rng = np.random.default_rng(seed)
    events = random_events(count, rng)
    state, done = timed.user_state(), 0
    for part in parts(events, rng):
        state, done = state.extend(part), done + len(part)
        if rng.random() < 0.5:
            state = UserState.from_bytes(state.to_bytes(), timed)
        assert state.events == done
        assert state.window_start == window_start(np.array(done), MAX_EVENTS)
        assert state.last_time == max((event["time"] for event in events[:done] if "time" in event), default=None)
        if rng.random() < 0.3:
            assert_same_answers(state, timed, events[:done])
    assert_same_answers(state, timed, events)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 96, 97, 128, 129, 161])
def test_single_events_extend_a_state_across_every_move_of_the_window(timed: LargeUserModel, count: int) -> None:
    events = random_events(count, np.random.default_rng(count))
    state = timed.user_state(events[:-1]).extend(events[-1:])
    assert_same_answers(state, timed, events)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 2 * MAX_EVENTS), seed=st.integers(0, 10_000))
def test_a_question_with_a_time_sees_the_events_of_earlier_seconds_or_is_refused(
    timed: LargeUserModel, count: int, seed: int
) -> None:
    """It is refused if it looks back through another window than that of the state."""
    rng = np.random.default_rng(seed)
    events = random_events(count, rng)
    state = timed.user_state(events)
    first, last = 1_700_000_000, (state.last_time or 1_700_000_000) + 2
    for time in [*rng.integers(first, last + 1, 5).tolist(), last]:
        question = {"time": time}
        seen = next((index for index, event in enumerate(events) if event.get("time", -1) >= time), count)
        if window_start(np.array(seen), MAX_EVENTS) == state.window_start:
            answer = timed.ask(events, [question])
            torch.testing.assert_close(state.ask([question]), answer, atol=TOLERANCE, rtol=0)
        else:
            with pytest.raises(
                InputError, match=r"question 0: 'time' is before events .* ask the model with the history"
            ):
                state.ask([question])


def test_a_state_answers_the_tensor_interface(timed: LargeUserModel) -> None:
    events = random_events(30, np.random.default_rng(0))
    state = timed.user_state(events)
    questions = state.encode_questions([{"scenario": "scenario1"}])
    questions.item = torch.tensor([3])
    with torch.no_grad():
        logits = timed.predict_feedback_logits(state.history, questions)[0]
    expected = timed.predict_feedback(events, ["i3"], {"scenario": "scenario1"})[0]["rating"]
    assert logits.softmax(1)[0].tolist() == pytest.approx(list(expected.values()), abs=TOLERANCE)


def test_the_state_of_another_model_is_refused(timed: LargeUserModel, tmp_path) -> None:
    events = random_events(10, np.random.default_rng(0))
    data = timed.user_state(events).to_bytes()
    timed.save_pretrained(tmp_path / "same")
    same = LargeUserModel.load(tmp_path / "same")
    torch.testing.assert_close(UserState.from_bytes(data, same).ask(QUESTIONS), timed.ask(events, QUESTIONS))
    other = LargeUserModel.load(tmp_path / "same")
    with torch.no_grad():
        other.network.head.weight[0, 0] += 1e-3
    with pytest.raises(InputError, match=r"user state: was encoded by another model.*user_state\(history\)"):
        UserState.from_bytes(data, other)
    dropout = timed.config.settings.model_copy(update={"dropout": 0.5})
    reconfigured = LargeUserModel(timed.config.model_copy(update={"settings": dropout}), timed.processor)
    reconfigured.network.load_state_dict(timed.network.state_dict())
    with pytest.raises(InputError, match="was encoded by another model"):
        UserState.from_bytes(data, reconfigured)


def test_a_state_is_refused_after_its_model_was_trained_further(tmp_path) -> None:
    model = small_model("transformer")
    state = model.user_state([{"item": "i1"}])
    with torch.no_grad():
        model.network.feedback_token.add_(1.0)
    for use in (lambda: state.ask([{}]), lambda: state.extend([{"item": "i2"}])):
        with pytest.raises(InputError, match="the weights of the model have changed"):
            use()


@pytest.mark.parametrize("events", [0, 5])
def test_damaged_bytes_are_refused(timed: LargeUserModel, events: int) -> None:
    data = timed.user_state(random_events(events, np.random.default_rng(0))).to_bytes()
    tensors, metadata = tensors_from_bytes(data)
    damaged = [b"", b"pickle", data[:-1], data[: len(data) // 2], data + b"0"]
    for name, tensor in tensors.items():
        damaged.append(tensors_to_bytes({n: t for n, t in tensors.items() if n != name}, metadata))
        damaged.append(
            tensors_to_bytes(
                tensors | {name: torch.cat([tensor, tensor, tensor.new_zeros(2, *tensor.shape[1:])])}, metadata
            )
        )
        damaged.append(tensors_to_bytes(tensors | {name: tensor.to(torch.int16)}, metadata))
    for name in metadata:
        damaged.append(tensors_to_bytes(tensors, {n: text for n, text in metadata.items() if n != name}))
    for text in ("", "x", "[1]", "{}", json.dumps([None, "x"])):
        damaged.append(tensors_to_bytes(tensors, metadata | {"earlier_times": text}))
        damaged.append(tensors_to_bytes(tensors, metadata | {"window_start": text}))
    for content in damaged:
        with pytest.raises(InputError, match=r"^user state: .*encode the history again"):
            UserState.from_bytes(content, timed)
    assert UserState.from_bytes(data, timed).events == events


def test_the_message_names_a_wrong_new_event(timed: LargeUserModel) -> None:
    state = timed.user_state([{"item": "i1", "time": 1_000}])
    with pytest.raises(InputError, match="event 1 of the new events has no 'item'"):
        state.extend([{"item": "i1"}, {}])
    with pytest.raises(
        InputError, match="event 0 of the new events: 'time' is earlier than the time of a previous event"
    ):
        state.extend([{"item": "i1", "time": 999}])
    with pytest.raises(
        InputError, match="event 0 of the new events: condition field 'colour': the model has no such field"
    ):
        state.extend([{"item": "i1", "colour": "red"}])
    assert state.extend([{"item": "i1", "time": 1_000.5}]).last_time == 1_000
