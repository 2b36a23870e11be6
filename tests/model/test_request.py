"""A raw history and raw questions: as of which moment they are answered, and what they may hold."""

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
from openlum.model import LargeUserModel, ModelConfig, ModelSettings, Processor
from openlum.schema import FieldSpec

from .conftest import ITEMS, TIME_SIZES, small_model, wake

NOW = 1_735_700_400
"""2025-01-01 03:00 UTC."""
MOST = 8
"""Events that an answer looks back."""


def timed_model() -> LargeUserModel:
    """A model that uses the time."""
    sizes = {"scenario": 4} | TIME_SIZES
    config = ModelConfig(
        settings=ModelSettings(width=16, layers=2, heads=2, embedding_width=8, field_width=8, max_events=MOST),
        condition=[FieldSpec(name=name, type="categorical", size=size) for name, size in sizes.items()],
        item=[],
        items=ITEMS,
        time_fields=list(TIME_SIZES),
    )
    torch.manual_seed(0)
    items = Vocabulary([f"i{index}" for index in range(1, ITEMS)])
    processor = Processor(items, ["?", *items.values], {"scenario": Vocabulary(["home", "search", "cart"])})
    model = LargeUserModel(config, processor).eval()
    wake(model)
    return model


@pytest.fixture(scope="module")
def timed() -> LargeUserModel:
    return timed_model()


def event(number: int, time: Any = None) -> dict[str, Any]:
    scenario = {"scenario": "search"} if number % 2 else {}
    return {"item": f"i{1 + number % (ITEMS - 1)}"} | scenario | ({} if time is None else {"time": time})


TIMES = st.lists(st.integers(0, 40), max_size=3 * MOST).map(sorted)


@settings(max_examples=40, deadline=None)
@given(times=TIMES, moments=st.lists(st.integers(0, 45), min_size=1, max_size=6))
def test_an_answer_as_of_a_moment_knows_what_was_before_its_second(
    timed: LargeUserModel, times: list[int], moments: list[int]
) -> None:
    """However much of the history is there, however many questions are asked at once, and however long the history is."""
    history = [event(number, NOW + time) for number, time in enumerate(times)]
    together = timed.ask(history, [{"time": NOW + moment} for moment in moments])
    for moment, answer in zip(moments, together, strict=True):
        before, question = [one for one in history if one["time"] < NOW + moment], {"time": NOW + moment}
        torch.testing.assert_close(answer, timed.ask(before, [question])[0], atol=1e-5, rtol=0)
        found, expected = (timed.recommend(past, question, ITEMS) for past in (history, before))
        assert {row["item"] for row in found} == {row["item"] for row in expected}
        taken, alone = (timed.predict_feedback(past, ["i3"], question)[0]["taken"] for past in (history, before))
        assert taken == pytest.approx(alone, abs=1e-5)


def test_the_moment_and_the_past_change_an_answer(timed: LargeUserModel) -> None:
    """The check above could not fail if neither did."""
    history = [event(number, NOW + number) for number in range(6)]
    answers = timed.ask(history, [{"time": NOW + 3}, {"time": NOW + 4}, {"time": NOW + 4 + 86_400}, {}])
    assert (answers @ answers.T)[~torch.eye(4, dtype=bool)].max() < 0.9999


def test_a_question_without_a_time_sees_the_whole_history(timed: LargeUserModel) -> None:
    history = [event(number, NOW + number) for number in range(6)]
    alone = timed.ask(history, [{}])
    torch.testing.assert_close(timed.ask(history, [{"time": NOW}, {}])[1:], alone, atol=1e-6, rtol=0)
    assert not torch.allclose(alone, timed.ask(history[:5], [{}]), atol=1e-3)


def test_recommendations_leave_out_what_the_question_sees_and_no_more(timed: LargeUserModel) -> None:
    history = [event(number, NOW + number) for number in range(6)]
    items = {row["item"] for row in timed.recommend(history, {"time": NOW + 4}, k=ITEMS)}
    assert items == {f"i{index}" for index in range(1, ITEMS)} - {one["item"] for one in history[:4]}


def test_events_without_a_time_come_right_after_the_one_ahead(timed: LargeUserModel) -> None:
    history = [event(0), event(1, NOW), event(2), event(3, NOW + 9), event(4)]
    for moment, seen in ((NOW, 1), (NOW + 9, 3), (NOW + 10, 5)):
        asked = [{"time": moment}]
        torch.testing.assert_close(timed.ask(history, asked), timed.ask(history[:seen], asked), atol=1e-6, rtol=0)


ZONE = dt.timezone(dt.timedelta(hours=5, minutes=30))
SAME = [
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


@pytest.mark.parametrize("time", SAME, ids=repr)
def test_times_of_every_kind_are_one(timed: LargeUserModel, time: Any) -> None:
    history, later = [event(0, NOW - 7200), event(1, NOW)], {"time": NOW + 3600}
    expected = timed.ask(history, [later])
    assert torch.equal(timed.ask([event(0, NOW - 7200), event(1, time)], [later]), expected)
    assert torch.equal(timed.ask(history, [{"time": time}]), timed.ask(history, [{"time": NOW}]))


def test_a_date_is_its_midnight_and_times_before_1970_have_seconds_too(timed: LargeUserModel) -> None:
    asked = timed.ask([event(0, NOW)], [{"time": dt.date(2025, 1, 2)}, {"time": 1_735_776_000}])
    torch.testing.assert_close(asked[0], asked[1])
    history = [event(0, -0.5), event(1, 0)]
    torch.testing.assert_close(timed.ask(history, [{"time": 0}]), timed.ask(history[:1], [{"time": 0}]))


NO_TIMES = [
    (NOW * 1000, "divide milliseconds by 1000"),
    (NOW * 10**9, "divide milliseconds by 1000"),
    (10**400, "divide milliseconds by 1000"),
    ("2025-01-01", "datetime.fromisoformat reads text"),
    (str(NOW), "datetime.fromisoformat reads text"),
    *[(time, "leave it out where there is none") for time in (np.nan, pd.NaT, pd.NA, np.datetime64("NaT"), np.float32("nan"))],
    *[(time, "expected seconds") for time in (np.inf, -np.inf, True, np.bool_(True), b"1", [NOW], {}, 1j, Decimal(5), dt.time())],
    *[(np.timedelta64(5, unit), "expected seconds") for unit in ("s", "ns")],
    (np.array([NOW]), "expected seconds"),
    (torch.tensor(NOW), "expected seconds"),
]  # fmt: skip


@pytest.mark.parametrize(("time", "message"), NO_TIMES, ids=lambda value: repr(value)[:40])
def test_what_is_no_time_is_refused_in_histories_and_questions(timed: LargeUserModel, time: Any, message: str) -> None:
    for history, question, where in (
        ([event(0), event(1, time)], {}, "event 1 of the history"),
        ([event(0)], {"time": time}, "question 0"),
    ):
        for ask in (
            lambda past, asked: timed.ask(past, [asked]),
            timed.recommend,
            lambda past, asked: timed.predict_feedback(past, ["i1"], asked),
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
        (pd.DataFrame({"item": ["i1"]}), r"history: expected a list .*frame\.to_dict\('records'\)"),
        ((one for one in [event(0)]), "history: expected a list"),
        (["i1"], "event 0 of the history: expected a mapping"),
        ([event(0), ("i1", 5)], "event 1 of the history: expected a mapping"),
        ([{1: "i1"}], "event 0 of the history: expected a mapping"),
        ([{}], "event 0 of the history has no 'item'"),
        *[([event(0), {"item": item}], "event 1 of the history has no 'item'") for item in (None, np.nan, pd.NA, pd.NaT)],
        *[([{"item": item}], "event 0 of the history: 'item' is") for item in (["i1"], {}, {"i1"}, np.arange(2), object())],
        ([event(0), event(1) | {"colour": "red"}], "event 1 of the history: condition field 'colour': the model has"),
        ([event(0, 5), event(1, 4)], "event 1 of the history lies before"),
        ([event(0, NOW + 0.9), event(1, NOW + 0.1)], "event 1 of the history lies before"),
        ([event(0, NOW) | {"hour": 3}], "event 0 of the history names both 'time' and 'hour'"),
        ([event(0) | {"scenario": ["home", "cart"]}], r"'scenario' is \['home', 'cart'\] \(list\); expected a single"),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", repr(value))[:40],  # the same in every test process
)  # fmt: skip
def test_a_wrong_history_is_named(timed: LargeUserModel, history: Any, message: str) -> None:
    for ask in (lambda past: timed.ask(past, [{}]), timed.recommend, lambda past: timed.predict_feedback(past, ["i1"])):
        with pytest.raises(InputError, match=message):
            ask(history)


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        (None, "questions: expected a list of mappings"),
        ({}, "questions: expected a list of mappings"),
        ([], r"questions: expected one or more; \[\{\}\]"),
        ([{}, None], "question 1: expected a mapping"),
        ([{"item": "i1"}], "question 0 has an 'item'"),
        ([{}, {"colour": "red"}], "question 1: condition field 'colour'"),
        ([{"scenario": None}], "question 0: condition field 'scenario': None is no value; leave the field out"),
        ([{"scenario": np.nan}], "question 0: condition field 'scenario': nan is no value"),
        ([{"hour": 25}], "question 0: condition field 'hour': 25 is not a whole number from 0 to 24"),
        ([{"hour": True}], "question 0: condition field 'hour': True"),
        ([{"hour": 3, "time": NOW}], "question 0 names both 'time' and 'hour'"),
    ],
)
def test_a_wrong_question_is_named(timed: LargeUserModel, questions: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        timed.ask([event(0)], questions)


def test_one_question_is_a_mapping_or_none(timed: LargeUserModel) -> None:
    assert timed.recommend([], None, 3) == timed.recommend([], {}, 3)
    for question in (5, [{}], "home", True):
        for ask in (timed.recommend, lambda past, asked: timed.predict_feedback(past, ["i1"], asked)):
            with pytest.raises(InputError, match="question: expected a mapping"):
                ask([], question)


def test_how_many_are_recommended_is_a_whole_number(timed: LargeUserModel) -> None:
    assert len(timed.recommend([], k=np.int64(3))) == 3
    assert len(timed.recommend([], k=10**30)) == ITEMS - 1
    for k in (0, -1, True, 2.0, "3", None, np.nan):
        with pytest.raises(InputError, match="k: expected a whole number from 1 on"):
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
        with pytest.raises(InputError, match=r"items: (expected a list|number \d is)"):
            timed.predict_feedback([], items)


def test_the_rows_of_a_frame_are_a_history(model: LargeUserModel) -> None:
    """What is missing in a row is left out of the event; numbers are NumPy's."""
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
    asked = [{}, {"price": np.float32(0.5), "query": np.ones(5)}]
    assert torch.equal(model.ask(frame.to_dict("records"), asked), model.ask(history, asked))


@pytest.mark.parametrize(
    "value", [np.inf, -np.inf, np.nan, "inf", None, [1.0], 10**400, "cheap", np.datetime64(5, "ns"), np.timedelta64(5)]
)
def test_a_number_that_is_not_finite_is_refused(model: LargeUserModel, value: Any) -> None:
    for question in ({"price": value}, {"query": [value] * 5}, {"query": value}):
        with pytest.raises(InputError, match=r"finite number|is no value"):
            model.ask([], [question])


@pytest.mark.parametrize("size", [1e5, 1e20, 1e37, 1e300, -1e300])
def test_a_number_far_from_the_training_data_leaves_answers_sound(model: LargeUserModel, size: float) -> None:
    history = [{"item": "i1", "price": size, "query": [size] * 5}]
    for answer in (model.ask(history, [{}]), model.ask([], [{"price": size, "query": [-size] * 5}])):
        torch.testing.assert_close(answer.norm(dim=-1), torch.ones(1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_model_of_another_precision_is_asked_alike(dtype: torch.dtype) -> None:
    model, other = small_model("transformer"), small_model("transformer").to(dtype)
    history = [{"item": "i1", "price": 1e9, "query": [1.0] * 5}, {"item": "i2"}]
    answers = other.ask(history, [{}, {"price": 0.5}])
    assert answers.dtype == dtype
    torch.testing.assert_close(answers.float(), model.ask(history, [{}, {"price": 0.5}]), atol=0.1, rtol=0)
    assert len(other.recommend(history, {"price": 0.5}, 3)) == 3
    assert sum(other.predict_feedback(history, ["i3"])[0]["rating"].values()) == pytest.approx(1, abs=0.02)


def test_a_sliding_window_of_events_is_a_history(timed: LargeUserModel) -> None:
    events = [{"item": f"i{1 + number % 5}", "time": NOW + number} for number in range(12)]
    window = deque(events, maxlen=10)
    torch.testing.assert_close(timed.ask(window, deque([{}])), timed.ask(events[2:], [{}]))
