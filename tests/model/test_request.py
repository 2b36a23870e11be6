"""Raw histories and raw questions: which events a question sees, and which values are allowed."""

import datetime as dt
import re
from collections import deque
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openlum.data.vocabulary import Vocabulary
from openlum.errors import InputError
from openlum.field_spec import FieldSpec
from openlum.model import LargeUserModel, ModelConfig, ModelSettings, Processor

from .conftest import ITEMS, TIME_SIZES, fill_zero_weights, small_model

NOW = 1_735_700_400
"""2025-01-01 03:00 UTC."""
MAX_EVENTS = 8
"""Maximum number of events that an answer uses."""


def timed_model() -> LargeUserModel:
    """Return a model with time fields."""
    sizes = {"scenario": 4} | TIME_SIZES
    config = ModelConfig(
        settings=ModelSettings(width=16, layers=2, heads=2, embedding_width=8, field_width=8, max_events=MAX_EVENTS),
        condition=[FieldSpec(name=name, type="categorical", size=size) for name, size in sizes.items()],
        item=[],
        items=ITEMS,
        time_fields=list(TIME_SIZES),
    )
    torch.manual_seed(0)
    items = Vocabulary([f"i{index}" for index in range(1, ITEMS)])
    processor = Processor(items, ["?", *items.values], {"scenario": Vocabulary(["home", "search", "cart"])})
    model = LargeUserModel(config, processor).eval()
    fill_zero_weights(model)
    return model


@pytest.fixture(scope="module")
def timed() -> LargeUserModel:
    return timed_model()


def event(number: int, time: Any = None) -> dict[str, Any]:
    scenario = {"scenario": "search"} if number % 2 else {}
    return {"item": f"i{1 + number % (ITEMS - 1)}"} | scenario | ({} if time is None else {"time": time})


TIMES = st.lists(st.integers(0, 40), max_size=3 * MAX_EVENTS).map(sorted)


@settings(max_examples=40, deadline=None)
@given(times=TIMES, question_times=st.lists(st.integers(0, 45), min_size=1, max_size=6))
def test_an_answer_as_of_a_time_depends_on_the_events_before_its_second_only(
    timed: LargeUserModel, times: list[int], question_times: list[int]
) -> None:
    """This holds with later events in the history, with several questions in a call, and with histories of any length."""
    history = [event(number, NOW + time) for number, time in enumerate(times)]
    answers = timed.ask(history, [{"time": NOW + time} for time in question_times])
    for time, answer in zip(question_times, answers, strict=True):
        earlier, question = [row for row in history if row["time"] < NOW + time], {"time": NOW + time}
        torch.testing.assert_close(answer, timed.ask(earlier, [question])[0], atol=1e-5, rtol=0)
        rows, expected_rows = (timed.recommend(events, ITEMS, question) for events in (history, earlier))
        assert {row["item"] for row in rows} == {row["item"] for row in expected_rows}
        prediction, expected = (
            timed.predict_feedback(events, ["i3"], question)[0]["taken"] for events in (history, earlier)
        )
        assert prediction == pytest.approx(expected, abs=1e-5)


def test_the_time_and_the_history_change_an_answer(timed: LargeUserModel) -> None:
    """Without this, the test above could not fail for a model that ignores both."""
    history = [event(number, NOW + number) for number in range(6)]
    answers = timed.ask(history, [{"time": NOW + 3}, {"time": NOW + 4}, {"time": NOW + 4 + 86_400}, {}])
    assert (answers @ answers.T)[~torch.eye(4, dtype=bool)].max() < 0.9999


def test_a_question_without_a_time_sees_the_whole_history(timed: LargeUserModel) -> None:
    history = [event(number, NOW + number) for number in range(6)]
    answer = timed.ask(history, [{}])
    torch.testing.assert_close(timed.ask(history, [{"time": NOW}, {}])[1:], answer, atol=1e-6, rtol=0)
    assert not torch.allclose(answer, timed.ask(history[:5], [{}]), atol=1e-3)


def test_recommend_leaves_out_the_items_that_the_question_sees_and_no_others(timed: LargeUserModel) -> None:
    history = [event(number, NOW + number) for number in range(6)]
    items = {row["item"] for row in timed.recommend(history, ITEMS, {"time": NOW + 4})}
    assert items == {f"i{index}" for index in range(1, ITEMS)} - {row["item"] for row in history[:4]}


def test_an_event_without_a_time_is_seen_with_the_event_before_it(timed: LargeUserModel) -> None:
    history = [event(0), event(1, NOW), event(2), event(3, NOW + 9), event(4)]
    for time, prefix in ((NOW, 1), (NOW + 9, 3), (NOW + 10, 5)):
        questions = [{"time": time}]
        torch.testing.assert_close(
            timed.ask(history, questions), timed.ask(history[:prefix], questions), atol=1e-6, rtol=0
        )


ZONE = dt.timezone(dt.timedelta(hours=5, minutes=30))
EQUAL_TIMES = [
    float(NOW),
    NOW + 0.75,
    np.int64(NOW),
    np.uint32(NOW),
    np.float64(NOW),
    dt.datetime.fromtimestamp(NOW, ZONE),
    dt.datetime.fromtimestamp(NOW, dt.UTC).replace(tzinfo=None),
    pd.Timestamp(NOW, unit="s"),
    pd.Timestamp(NOW, unit="s", tz="America/New_York"),
    np.datetime64(NOW, "s"),
    np.datetime64(NOW * 10**9, "ns"),
]


@pytest.mark.parametrize("time", EQUAL_TIMES, ids=repr)
def test_equal_times_of_every_type_give_equal_answers(timed: LargeUserModel, time: Any) -> None:
    history, later = [event(0, NOW - 7200), event(1, NOW)], {"time": NOW + 3600}
    expected = timed.ask(history, [later])
    assert torch.equal(timed.ask([event(0, NOW - 7200), event(1, time)], [later]), expected)
    assert torch.equal(timed.ask(history, [{"time": time}]), timed.ask(history, [{"time": NOW}]))


def test_a_date_means_midnight_and_times_before_1970_are_rounded_to_seconds(timed: LargeUserModel) -> None:
    answers = timed.ask([event(0, NOW)], [{"time": dt.date(2025, 1, 2)}, {"time": 1_735_776_000}])
    torch.testing.assert_close(answers[0], answers[1])
    history = [event(0, -0.5), event(1, 0)]
    torch.testing.assert_close(timed.ask(history, [{"time": 0}]), timed.ask(history[:1], [{"time": 0}]))


WRONG_TIMES = [
    (NOW * 1000, "divide milliseconds by 1000"),
    (NOW * 10**9, "divide milliseconds by 1000"),
    (10**400, "divide milliseconds by 1000"),
    ("2025-01-01", "convert text with datetime.fromisoformat"),
    (str(NOW), "convert text with datetime.fromisoformat"),
    *[(time, "leave a missing time out") for time in (np.nan, pd.NaT, pd.NA, np.datetime64("NaT"), np.float32("nan"))],
    *[(time, "expected seconds") for time in (np.inf, -np.inf, True, np.bool_(True), b"1", [NOW], {}, 1j, Decimal(5), dt.time())],
    *[(np.timedelta64(5, unit), "expected seconds") for unit in ("s", "ns")],
    (np.array([NOW]), "expected seconds"),
    (torch.tensor(NOW), "expected seconds"),
]  # fmt: skip


@pytest.mark.parametrize(("time", "message"), WRONG_TIMES, ids=lambda value: repr(value)[:40])
def test_a_wrong_time_is_refused_in_histories_and_questions(timed: LargeUserModel, time: Any, message: str) -> None:
    for history, question, where in (
        ([event(0), event(1, time)], {}, "event 1 of the history"),
        ([event(0)], {"time": time}, "question 0"),
    ):
        for ask in (
            lambda events, question: timed.ask(events, [question]),
            lambda events, question: timed.recommend(events, 3, question),
            lambda events, question: timed.predict_feedback(events, ["i1"], question),
        ):
            with pytest.raises(InputError, match=f"{where}: 'time' is .*{message}"):
                ask(history, question)


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (None, "history: expected a list of mappings, found None"),
        (5, "history: expected a list"),
        ("i1", "history: expected a list"),
        ({"item": "i1"}, "history: expected a list"),
        (pd.DataFrame({"item": ["i1"]}), r"histories: no column 'user'.*frame\.to_dict\('records'\)"),
        ((row for row in [event(0)]), "history: expected a list"),
        (["i1"], "event 0 of the history: expected a mapping"),
        ([event(0), ("i1", 5)], "event 1 of the history: expected a mapping"),
        ([{1: "i1"}], "event 0 of the history: expected a mapping"),
        ([{}], "event 0 of the history has no 'item'"),
        *[([event(0), {"item": item}], "event 1 of the history has no 'item'") for item in (None, np.nan, pd.NA, pd.NaT)],
        *[([{"item": item}], "event 0 of the history: 'item' is") for item in (["i1"], {}, {"i1"}, np.arange(2), object())],
        ([event(0), event(1) | {"colour": "red"}], "event 1 of the history: condition field 'colour': the model has no"),
        ([event(0, 5), event(1, 4)], "event 1 of the history: 'time' is earlier than"),
        ([event(0, NOW + 0.9), event(1, NOW + 0.1)], "event 1 of the history: 'time' is earlier than"),
        ([event(0, NOW) | {"hour": 3}], "event 0 of the history has both 'time' and 'hour'"),
        ([event(0) | {"scenario": ["home", "cart"]}], r"'scenario' is \['home', 'cart'\] \(list\); expected a single"),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", repr(value))[:40],  # the same in every test process
)  # fmt: skip
def test_the_message_names_a_wrong_event(timed: LargeUserModel, history: Any, message: str) -> None:
    for ask in (
        lambda events: timed.ask(events, [{}]),
        timed.recommend,
        lambda events: timed.predict_feedback(events, ["i1"]),
    ):
        with pytest.raises(InputError, match=message):
            ask(history)


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        (None, "questions: expected a list of mappings"),
        ({}, "questions: expected a list of mappings"),
        ([], r"questions: expected at least one question; \[\{\}\]"),
        ([{}, None], "question 1: expected a mapping"),
        ([{"item": "i1"}], "question 0 has an 'item'"),
        ([{}, {"colour": "red"}], "question 1: condition field 'colour'"),
        ([{"scenario": None}], "question 0: condition field 'scenario': None is a missing value; leave the field out"),
        ([{"scenario": np.nan}], "question 0: condition field 'scenario': nan is a missing value"),
        ([{"hour": 25}], "question 0: condition field 'hour': 25 is not a whole number from 0 to 24"),
        ([{"hour": True}], "question 0: condition field 'hour': True"),
        ([{"hour": 3, "time": NOW}], "question 0 has both 'time' and 'hour'"),
    ],
)
def test_the_message_names_a_wrong_question(timed: LargeUserModel, questions: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        timed.ask([event(0)], questions)


def test_a_question_is_a_mapping_or_none(timed: LargeUserModel) -> None:
    assert timed.recommend([], 3, None) == timed.recommend([], 3, {})
    for question in (5, [{}], "home", True):
        for ask in (
            lambda events, question: timed.recommend(events, 3, question),
            lambda events, question: timed.predict_feedback(events, ["i1"], question),
        ):
            with pytest.raises(InputError, match="question: expected a mapping"):
                ask([], question)


def test_k_is_a_whole_number(timed: LargeUserModel) -> None:
    assert len(timed.recommend([], k=np.int64(3))) == 3
    assert len(timed.recommend([], k=10**30)) == ITEMS - 1
    for k in (0, -1, True, 2.0, "3", None, np.nan):
        with pytest.raises(InputError, match="k: expected a whole number of at least 1"):
            timed.recommend([], k=k)


def test_items_are_lists_and_arrays_of_ids(timed: LargeUserModel) -> None:
    expected = timed.predict_feedback([], ["i1", "i2"])
    for items in (("i1", "i2"), np.array(["i1", "i2"]), pd.Series(["i1", "i2"])):
        assert timed.predict_feedback([], items) == expected
    for items in (
        5,
        None,
        "i1",
        b"i1",
        {},
        {"i1"},
        [],
        [None],
        ["i1", np.nan],
        [["i1"]],
        np.array("i1"),
        np.array([["i1"]]),
    ):
        with pytest.raises(InputError, match=r"items: (expected a list|element \d is)"):
            timed.predict_feedback([], items)


def test_the_rows_of_a_data_frame_are_a_history(model: LargeUserModel) -> None:
    """A missing value in a row is the same as a field that the event leaves out. Numbers may be NumPy numbers."""
    frame = pd.DataFrame(
        {
            "item": ["i3", "i7"], "scenario": ["scenario2", None], "price": [np.nan, 0.5], "rating": [pd.NA, "rating5"],
            "words": [["words1", None], np.array(["words8"])], "query": [None, np.ones(5)],
        }
    )  # fmt: skip
    history = [
        {"item": "i3", "scenario": "scenario2", "words": ["words1"]},
        {"item": "i7", "price": 0.5, "rating": "rating5", "words": ["words8"], "query": [1.0] * 5},
    ]
    questions = [{}, {"price": np.float32(0.5), "query": np.ones(5)}]
    assert torch.equal(model.ask(frame.to_dict("records"), questions), model.ask(history, questions))


@pytest.mark.parametrize(
    "value", [np.inf, -np.inf, np.nan, "inf", None, [1.0], 10**400, "cheap", np.datetime64(5, "ns"), np.timedelta64(5)]
)
def test_a_number_that_is_not_finite_is_refused(model: LargeUserModel, value: Any) -> None:
    for question in ({"price": value}, {"query": [value] * 5}, {"query": value}):
        with pytest.raises(InputError, match=r"finite number|is a missing value"):
            model.ask([], [question])


@pytest.mark.parametrize("size", [1e5, 1e20, 1e37, 1e300, -1e300])
def test_a_number_far_from_the_training_data_gives_finite_answers(model: LargeUserModel, size: float) -> None:
    history = [{"item": "i1", "price": size, "query": [size] * 5}]
    for answer in (model.ask(history, [{}]), model.ask([], [{"price": size, "query": [-size] * 5}])):
        torch.testing.assert_close(answer.norm(dim=-1), torch.ones(1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_model_of_another_precision_gives_similar_answers(dtype: torch.dtype) -> None:
    model, other = small_model("transformer"), small_model("transformer").to(dtype)
    history = [{"item": "i1", "price": 1e9, "query": [1.0] * 5}, {"item": "i2"}]
    answers = other.ask(history, [{}, {"price": 0.5}])
    assert answers.dtype == dtype
    torch.testing.assert_close(answers.float(), model.ask(history, [{}, {"price": 0.5}]), atol=0.1, rtol=0)
    assert len(other.recommend(history, 3, {"price": 0.5})) == 3
    assert sum(other.predict_feedback(history, ["i3"])[0]["rating"].values()) == pytest.approx(1, abs=0.02)


def test_a_sliding_window_of_events_is_a_history(timed: LargeUserModel) -> None:
    events = [{"item": f"i{1 + number % 5}", "time": NOW + number} for number in range(12)]
    window = deque(events, maxlen=10)
    torch.testing.assert_close(timed.ask(window, deque([{}])), timed.ask(events[2:], [{}]))
