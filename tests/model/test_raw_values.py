"""The raw-value API gives the same numbers for one user and for many users, in every form of input and every batch size."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openlum.errors import InputError
from openlum.model import LargeUserModel
from openlum.model.histories import frame_histories

from .conftest import ITEMS, small_model

START = 1_700_000_000
QUESTIONS = [{}, {"scenario": "scenario1", "time": START + 10**6}, {"rating": "rating5"}]


@pytest.fixture(scope="module", params=["transformer", "hstu"])
def lum(request: pytest.FixtureRequest) -> LargeUserModel:
    return small_model(request.param, ["hour", "weekday", "gap"])


def random_history(rng: np.random.Generator, events: int) -> list[dict[str, Any]]:
    """Return events with some of all condition fields. The model's windows have 64 events."""
    time, history = START, []
    for _ in range(events):
        time += int(rng.integers(0, 4)) * 3600
        event: dict[str, Any] = {"item": f"i{rng.integers(1, ITEMS + 2)}", "time": time}
        if rng.random() < 0.7:
            event["scenario"] = f"scenario{rng.integers(1, 4)}"
        if rng.random() < 0.5:
            event |= {"price": float(rng.normal()), "words": [f"words{rng.integers(1, 9)}" for _ in range(2)]}
        history.append(event)
    return history


def same(one: Any, other: Any) -> bool:
    """Return whether two results are equal, up to the rounding of floating-point numbers."""
    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and torch.allclose(one, other, atol=1e-5, rtol=0)
    if isinstance(one, float):
        return abs(one - other) < 1e-5
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    return bool(one == other)


CALLS: dict[str, Callable[..., Any]] = {
    "ask": lambda lum, histories, **more: lum.ask(histories, QUESTIONS, **more),
    "recommend": lambda lum, histories, **more: lum.recommend(histories, 5, {"scenario": "scenario2"}, **more),
    "recommend, filtered": lambda lum, histories, **more: lum.recommend(
        histories, k=5, filter=["i3", "i9", "i11", "i20"], **more
    ),
    "predict_feedback": lambda lum, histories, **more: lum.predict_feedback(
        histories, ["i4", "i9", "never seen"], {"scenario": "scenario1"}, **more
    ),
}


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 12) | st.integers(60, 150), min_size=1, max_size=6),
    batch_size=st.integers(1, 7),
    seed=st.integers(0, 1000),
)
def test_many_users_have_the_numbers_of_one_user(
    lum: LargeUserModel, name: str, lengths: list[int], batch_size: int, seed: int
) -> None:
    rng, call = np.random.default_rng(seed), CALLS[name]
    histories = [random_history(rng, length) for length in lengths]
    single = [call(lum, history) for history in histories]
    assert same(list(call(lum, histories, batch_size=batch_size)), single)
    users = [f"u{index}" for index in range(len(histories))]
    by_user = call(lum, dict(zip(users, histories, strict=True)), batch_size=batch_size)
    assert same(by_user, dict(zip(users, single, strict=True)))


def test_the_batch_matters_for_the_result_only_by_its_own_history(lum: LargeUserModel) -> None:
    """Without this, the test above could not fail for a model that ignores the histories."""
    rng = np.random.default_rng(0)
    answers = lum.ask([random_history(rng, 9), random_history(rng, 9)], [{}])
    assert (answers[0] - answers[1]).abs().max() > 1e-2


def frame_of(histories: dict[str, list[dict[str, Any]]]) -> pa.Table:
    """Return the events of users as a table, latest hour first; events of one second keep their order."""
    rows = [{"user": user, **event} for user, history in histories.items() for event in history]
    rows.sort(key=lambda row: -row["time"])
    return pa.table(
        {name: [row.get(name) for row in rows] for name in ("item", "user", "scenario", "words", "price", "time")}
    )


def test_frames_have_the_numbers_of_lists(lum: LargeUserModel) -> None:
    rng = np.random.default_rng(1)
    histories = {user: random_history(rng, length) for user, length in (("7", 5), ("8", 1), ("9", 30))}
    table = frame_of(histories)
    expected = lum.ask(histories, QUESTIONS)
    frames = [table, table.to_pandas(), *_polars_frames(table)]
    for frame in frames:
        answers = lum.ask(frame, QUESTIONS)
        assert set(answers) == set(histories)
        assert all(same(answers[user], expected[user]) for user in histories)


def _polars_frames(table: pa.Table) -> list[Any]:
    try:
        import polars
    except ImportError:
        return []
    frame = polars.from_arrow(table)
    return [frame, frame.lazy()]  # type: ignore[union-attr]


def test_a_frame_may_have_times_of_any_type_and_numeric_ids(lum: LargeUserModel) -> None:
    seconds = [START + 60, START, START + 7200]
    frame = pd.DataFrame({"user": [1, 1, 2.0], "item": ["i1", "i2", None], "time": pd.to_datetime(seconds, unit="s")})
    histories = frame_histories(frame.iloc[:2])
    assert [event["item"] for event in histories["1"]] == ["i2", "i1"]
    by_number = lum.ask([{"item": "i2", "time": START}, {"item": "i1", "time": START + 60}], [{}])
    assert same(lum.ask(histories, [{}])["1"], by_number)
    with pytest.raises(InputError, match=r"user '2' .*event 0 of the history has no 'item'"):
        lum.ask(frame, [{}])


def test_questions_and_items_may_differ_between_users(lum: LargeUserModel) -> None:
    rng = np.random.default_rng(2)
    histories = [random_history(rng, 20), random_history(rng, 3)]
    questions = [[{"time": START + 3600}, {}], [{"scenario": "scenario3"}]]
    expected = [lum.ask(history, own) for history, own in zip(histories, questions, strict=True)]
    assert same(lum.ask(histories, questions), expected)
    at = [{"time": START + 3600}, None]
    assert same(lum.recommend(histories, 3, at), [lum.recommend(h, 3, q) for h, q in zip(histories, at, strict=True)])
    items = [["i1"], ["i2", "i3"]]
    assert same(
        lum.predict_feedback(histories, items, at),
        [lum.predict_feedback(h, i, q) for h, i, q in zip(histories, items, at, strict=True)],
    )


def test_a_filter_leaves_only_its_items(lum: LargeUserModel) -> None:
    history = [{"item": "i3"}]
    every = [row["item"] for row in lum.recommend(history, k=ITEMS)]
    assert len(every) == ITEMS - 2, "all items but the unknown one and the one of the history"
    allowed = {"i3", "i9", "i11", "unknown"}
    filtered = lum.recommend(history, k=ITEMS, filter=allowed)
    assert [row["item"] for row in filtered] == [item for item in every if item in allowed]


def test_items_of_the_history_are_recommended_if_they_are_not_excluded(lum: LargeUserModel) -> None:
    history = [{"item": "i3"}, {"item": "i7"}, {"item": "i3"}]
    with_seen = lum.recommend(history, k=ITEMS, exclude_seen=False)
    assert len(with_seen) == ITEMS - 1
    similarity = {row["item"]: row["similarity"] for row in with_seen}
    answer = lum.ask(history, [{}])[0]
    assert similarity["i3"] > float(lum.embed_items("i3") @ answer)  # raised, as it can be copied
    assert similarity["i5"] == pytest.approx(float(lum.embed_items("i5") @ answer), abs=1e-5)


def test_similar_items_are_the_nearest_embeddings(lum: LargeUserModel) -> None:
    names = lum.processor.items.values
    embeddings = lum.embed_items()
    assert same(embeddings, lum.embed_items(names))
    assert same(embeddings[4], lum.embed_items(names[4]))
    similarity = embeddings @ embeddings.T
    for index, rows in enumerate(lum.similar_items(names, k=3)):
        assert same(rows, lum.similar_items(names[index], k=3))
        similarity[index, index] = -2
        assert [row["item"] for row in rows] == [names[i] for i in similarity[index].topk(3).indices]
        assert rows[0]["similarity"] == pytest.approx(float(similarity[index].max()), abs=1e-5)
    with pytest.warns(UserWarning, match="knows none"):
        unknown = lum.embed_items("never seen")
    assert same(unknown, lum.items(torch.tensor([0]))[0].detach())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lum: lum.ask([[{"item": "i1"}], [{}]], [{}]), "history 1: event 0 of the history has no 'item'"),
        (lambda lum: lum.ask({"a": [{}]}, [{}]), "user 'a' .*: event 0 of the history has no 'item'"),
        (lambda lum: lum.ask([[], []], [[{}]]), "questions: .*one for each of the 2 histories, found 1"),
        (lambda lum: lum.ask([[]], [{}], batch_size=0), "batch_size: expected a whole number of at least 1"),
        (
            lambda lum: lum.ask(pd.DataFrame({"item": ["i1"]}), [{}]),
            "histories: no column 'user'; the frame has .*item",
        ),
        (lambda lum: lum.ask(pd.DataFrame({"user": [None], "item": ["i1"]}), [{}]), "row 0 has no user"),
        (lambda lum: lum.similar_items(["i1", "x"]), "the model does not know the item 'x'"),
        (lambda lum: lum.recommend([[]], filter=[]), "items: expected a list of at least one item"),
        (lambda lum: lum.predict_feedback([[], []], ["i1"], {"rating": "rating1"}), "'rating' is feedback"),
    ],
)
def test_mistakes_are_explained(lum: LargeUserModel, call: Callable[[LargeUserModel], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(lum)


def test_a_model_shows_its_figures(lum: LargeUserModel) -> None:
    assert "events that an answer sees" in lum._repr_html_()
