"""Fuzzed calls of the Python API: any arguments give a valid result or an `InputError`, and no other exception."""

import datetime as dt
import uuid
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openlum.errors import InputError
from openlum.evaluation.comparison import bootstrap_auc_interval, compare_auc, compare_means
from openlum.evaluation.metrics import auc, gauc, log_loss, metrics, normalised_entropy
from openlum.evaluation.retrieval_metrics import user_metrics
from openlum.model import LargeUserModel
from openlum.model.histories import Users
from openlum.rank.features import KnowledgeFeatures
from openlum.rank.fusion import calibration, cross_fit, fit_fusion, fused_inputs, with_probabilities

from .model.conftest import ITEMS, small_model

CALLS = 300
"""Number of calls of each function."""
fuzz = settings(max_examples=CALLS, deadline=None, suppress_health_check=[HealthCheck.too_slow])

SINGLE: list[Any] = [
    None, True, False, 0, -1, 3, 10**400, 2.5, np.nan, np.inf, -np.inf, 1e300, -0.0, 1j, "", "i1", "i2", "home", "nan", "\0",
    "2025-01-01", b"i1", Decimal("1.5"), Decimal("sNaN"), Fraction(1, 3), uuid.UUID(int=5), dt.date(2025, 1, 1), dt.time(3),
    dt.timedelta(5), dt.datetime(2025, 1, 1), dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.datetime.max, pd.NA, pd.NaT,
    pd.Timestamp("2025-01-01", tz="Asia/Tokyo"), np.int64(3), np.uint8(200), np.float16(0.5), np.float32("nan"), np.bool_(True),
    np.str_("i3"), np.datetime64("NaT"), np.datetime64("2025-01-01"), np.timedelta64(5, "s"), np.timedelta64(5, "ns"),
    np.datetime64(5, "ns"), object(), object, len, torch.tensor(1.0), torch.tensor(3), np.array(3), np.array("i1"),
    1_735_700_000, 1_735_700_000_000,
]  # fmt: skip
SEVERAL: list[Any] = [
    [], (), {}, set(), [None], [[]], [{}], {"i1"}, {"item": "i1"}, range(3), deque([0.5]), iter([1]), np.arange(3),
    np.arange(5.0), np.empty(0), np.empty((0, 2)), np.ones((4, 2)), np.ma.array([1.0, 2.0], mask=[True, False]), torch.ones(5),
    torch.ones(4, 2).half(), pd.Series(["i1", None]), pd.Series([1, 0]), pd.DataFrame({"item": ["i1"]}), [1, "a"], [1.0, np.nan],
    ["i1", "i2"], "text",
]  # fmt: skip
anything = st.one_of(st.sampled_from(SINGLE), st.sampled_from(SEVERAL), st.floats(), st.integers(), st.text(max_size=5))

USUAL = {
    "item": "i3", "time": 1_735_700_000, "scenario": "scenario1", "words": ["words1"], "price": 0.5, "query": [0.5] * 5,
    "rating": "rating1", "weekday": 3,
}  # fmt: skip


def mostly(usual: st.SearchStrategy[Any], other: st.SearchStrategy[Any] = anything) -> st.SearchStrategy[Any]:
    """Draw mostly usual values, so that a call is wrong in few arguments."""
    return st.integers(0, 11).flatmap(lambda draw: usual if draw else other)


def rows(with_items: bool) -> st.SearchStrategy[Any]:
    """Draw events (with items) or questions, some of them with unusual fields."""
    names = st.lists(st.sampled_from([*USUAL, "colour"]), max_size=3)
    row = names.flatmap(lambda names: st.fixed_dictionaries({name: mostly(st.just(USUAL.get(name))) for name in names}))
    fields = row.map(lambda fields: {"item": "i1"} | fields) if with_items else row.map(_without_item)
    return mostly(st.lists(mostly(fields), min_size=1, max_size=4))


def _without_item(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "item"}


def check_result_or_error(call: Callable[[], Any], check: Callable[[Any], bool]) -> None:
    """Check that a call returns a result that passes `check`, or raises an `InputError` with a short message in one line."""
    try:
        assert check(call())
    except InputError as error:
        message = str(error)
    else:
        return
    assert 0 < len(message) < 1000
    assert "\n" not in message


def of_every_user(histories: Any, check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return a check of results for one user or for many, whichever the histories are."""

    def check_all(result: Any) -> bool:
        if Users.of(histories).single:
            return check(result)
        return all(map(check, result.values() if isinstance(result, dict) else result))

    return check_all


@pytest.fixture(scope="module")
def lum() -> LargeUserModel:
    """A small model with every type of field."""
    return small_model("transformer", ["hour", "weekday", "gap"])


@fuzz
@given(history=rows(True), questions=rows(False))
def test_ask(lum: LargeUserModel, history: Any, questions: Any) -> None:
    check_result_or_error(
        lambda: lum.ask(history, questions),
        of_every_user(
            history,
            lambda answers: (
                len(answers) == len(questions) and torch.allclose(answers.norm(dim=1), torch.ones(len(answers)))
            ),
        ),
    )


one_question = rows(False).map(lambda rows: rows[0] if isinstance(rows, list) and rows else rows)


@fuzz
@given(history=rows(True), question=one_question, k=mostly(st.just(3)))
def test_recommend(lum: LargeUserModel, history: Any, question: Any, k: Any) -> None:
    check_result_or_error(
        lambda: lum.recommend(history, k, question),
        of_every_user(
            history,
            lambda items: len(items) <= min(k, ITEMS - 1) and all(abs(row["similarity"]) < 1.001 for row in items),
        ),
    )


@fuzz
@given(history=rows(True), items=mostly(st.just(["i1", "i9"])), question=one_question)
def test_predict_feedback(lum: LargeUserModel, history: Any, items: Any, question: Any) -> None:
    field = lum.config.trained_feedback_targets[0].name
    check_result_or_error(
        lambda: lum.predict_feedback(history, items, question),
        of_every_user(
            history,
            lambda rows: len(rows) == len(items) and all(abs(sum(row[field].values()) - 1) < 1e-4 for row in rows),
        ),
    )


@fuzz
@given(
    vectors=st.sampled_from([np.ones, torch.ones, lambda size: [1] * size, lambda size: np.ones(size, np.int8)]),
    other=mostly(st.none(), anything),
    items=mostly(st.just(["i1", "i9"])),
    context=one_question,
    last_event=mostly(st.just(1_600_000_000)),
)
def test_match(lum: LargeUserModel, vectors: Any, other: Any, items: Any, context: Any, last_event: Any) -> None:
    field = lum.config.trained_feedback_targets[0].name
    size = len(lum.network.user_vector_names) * lum.config.settings.embedding_width
    check_result_or_error(
        lambda: lum.match(vectors(size) if other is None else other, items, context, last_event),
        lambda rows: len(rows) == len(items) and all(abs(sum(row[field].values()) - 1) < 1e-4 for row in rows),
    )


COLUMN = [0.25, 0.75, 0.5, 0.25, 1.0]
column = mostly(
    st.sampled_from([COLUMN, np.array(COLUMN), torch.tensor(COLUMN).bfloat16(), pd.Series(COLUMN, dtype=object)]),
    st.one_of(anything, st.lists(anything, min_size=5, max_size=5)),
)
LABEL = [0, 1, 0, 1, 1]
label = mostly(st.sampled_from([LABEL, np.array(LABEL, bool), pd.Series(LABEL).astype("Int8")]), anything)
ids = mostly(
    st.sampled_from([list("aabbc"), np.arange(5)]), st.one_of(anything, st.lists(anything, min_size=5, max_size=5))
)
table = mostly(
    st.sampled_from([np.ones((5, 2)), torch.eye(5)[:, :2].half(), [[1, 2]] * 5]),
    st.one_of(anything, st.lists(st.lists(anything, min_size=2, max_size=2), min_size=5, max_size=5)),
)
FIGURES: dict[str, Callable[..., Any]] = {
    "auc": lambda y, p, user, x: auc(y, p),
    "gauc": lambda y, p, user, x: gauc(y, p, user),
    "log_loss": lambda y, p, user, x: log_loss(y, p),
    "normalised_entropy": lambda y, p, user, x: normalised_entropy(y, p),
    "metrics": lambda y, p, user, x: list(metrics(y, p, user, p).values()),
    "compare_auc": lambda y, p, user, x: compare_auc(y, user, user, [p], [[0.1, 0.2, 0.3, 0.4, 0.5]]).difference,
    "compare_means": lambda y, p, user, x: compare_means(user, user, x, x).difference,
    "bootstrap_auc_interval": lambda y, p, user, x: bootstrap_auc_interval(y, user, user, [p], [p], resamples=2),
    "user_metrics": lambda y, p, user, x: user_metrics(p, [1])["mrr"],
    "fusion": lambda y, p, user, x: cross_fit(fused_inputs(p, x), y, user)[1],
    "fit_fusion": lambda y, p, user, x: fit_fusion(x, y)(x),
    "with_probabilities": lambda y, p, user, x: with_probabilities(x, ["a", "b"], ["a"]),
    "calibration": lambda y, p, user, x: calibration(p, y)(p),
}


def _in_range(result: Any) -> bool:
    """Return whether a result has no infinite value. Not-a-number is valid: rows of one class have no AUC."""
    return not np.isinf(np.asarray(result, float)).any()


@pytest.mark.parametrize("name", FIGURES)
@settings(max_examples=CALLS // 2, deadline=None)
@given(y=label, p=column, user=ids, x=table)
def test_figures(name: str, y: Any, p: Any, user: Any, x: Any) -> None:
    check_result_or_error(lambda: FIGURES[name](y, p, user, x), _in_range)


@fuzz
@given(
    answers=mostly(st.just(torch.ones(4, 2, 3))), target=mostly(st.just(torch.ones(4, 3))), similarity=mostly(st.none())
)
def test_knowledge_features(answers: Any, target: Any, similarity: Any) -> None:
    features = KnowledgeFeatures(2, 3, 5)
    check_result_or_error(lambda: features(answers, target, similarity), lambda output: output.shape == (4, 5))
