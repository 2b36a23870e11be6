"""Arrays of any library and number format are accepted. A wrong value is an error that names the array and the index."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from openlum.errors import InputError
from openlum.evaluation.comparison import bootstrap_auc_interval, compare_auc, compare_means
from openlum.evaluation.metrics import auc, gauc, log_loss, metrics, normalised_entropy
from openlum.evaluation.retrieval_metrics import retrieval_metrics, user_metrics
from openlum.rank.fusion import calibration, cross_fit, fit_fusion, fused_inputs, with_probabilities

ROWS = 12
LABEL = np.array([0, 1] * 6)
PREDICTION = np.linspace(0, 1, ROWS)[np.random.default_rng(0).permutation(ROWS)].round(2)
USER, ITEM = np.repeat([0, 1, 2], 4), np.tile([0, 1, 2, 3], 3)
NUMBERS = np.stack([PREDICTION, 1 - PREDICTION**2], 1)

METRICS: dict[str, Callable[[Any, Any], Any]] = {
    "auc": auc,
    "gauc": lambda label, x: gauc(label, x, USER),
    "log_loss": log_loss,
    "normalised_entropy": normalised_entropy,
    "metrics": lambda label, x: list(metrics(label, x, USER, PREDICTION).values()),
    "metrics, calibrated": lambda label, x: list(metrics(label, PREDICTION, USER, x).values()),
    "compare_auc, a": lambda label, x: compare_auc(label, USER, ITEM, [x], [PREDICTION]).p_value,
    "compare_auc, b": lambda label, x: compare_auc(label, USER, ITEM, [PREDICTION] * 2, [PREDICTION, x]).p_value,
    "bootstrap_auc_interval": lambda label, x: bootstrap_auc_interval(
        label, USER, ITEM, [x], [PREDICTION], resamples=2
    ),
    "fit_fusion": lambda label, x: fit_fusion(fused_inputs(x, NUMBERS), label).bias,
    "calibration": lambda label, x: calibration(x, label)(x),
    "calibrated": lambda label, x: calibration(PREDICTION, label)(x),
    "cross_fit": lambda label, x: cross_fit(fused_inputs(x, NUMBERS), label, USER)[1],
}
"""Every function of labels and predictions."""

KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "list": lambda x: x.tolist(),
    "tuple": lambda x: tuple(x.tolist()),
    "objects": lambda x: x.astype(object),
    "float32": lambda x: x.astype(np.float32),
    "float64": lambda x: x.astype(np.float64),
    "Series": pd.Series,
    "Series of objects": lambda x: pd.Series(x).astype(object),
    "nullable Series": lambda x: pd.Series(x).convert_dtypes(),
    "Tensor": torch.from_numpy,
    "Tensor with a gradient": lambda x: torch.from_numpy(x.astype(np.float64)).requires_grad_(),
    "masked": np.ma.array,
    "Arrow": lambda x: pa.chunked_array([x]),
}
HALVES: dict[str, Callable[[np.ndarray], Any]] = {
    "float16": lambda x: x.astype(np.float16),
    "half": lambda x: torch.from_numpy(x).half(),
    "bfloat16": lambda x: torch.from_numpy(x).bfloat16(),
}
"""Formats of half precision, which round the numbers."""


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_array_gives_the_same_figures(name: str, kind: str) -> None:
    expected = METRICS[name](LABEL, PREDICTION)
    np.testing.assert_allclose(METRICS[name](KINDS[kind](LABEL), KINDS[kind](PREDICTION)), expected, rtol=1e-4)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("kind", HALVES)
def test_half_precision_gives_the_figures_of_the_rounded_numbers(name: str, kind: str) -> None:
    half = HALVES[kind](PREDICTION)
    rounded = half.float().numpy() if isinstance(half, torch.Tensor) else half.astype(np.float64)
    np.testing.assert_allclose(METRICS[name](HALVES[kind](LABEL), half), METRICS[name](LABEL, rounded), rtol=1e-4)
    assert np.isfinite(METRICS[name](LABEL.astype(bool), half)).all()


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("missing", [np.nan, None, pd.NA, np.float32("nan"), pd.NaT])
@pytest.mark.parametrize("index", [0, 7])
def test_a_missing_number_is_named_with_its_index(name: str, missing: Any, index: int) -> None:
    values = PREDICTION.astype(object)
    values[index] = missing
    for array in (values, list(values), pd.Series(values)):
        with pytest.raises(InputError, match=rf"at index {index} is"):
            METRICS[name](LABEL, array)
    label = LABEL.astype(object)
    label[index] = missing
    with pytest.raises(InputError, match=rf"label at index {index} is"):
        METRICS[name](label, PREDICTION)
    masked = np.ma.array(PREDICTION, mask=np.arange(ROWS) == index)
    with pytest.raises(InputError, match=rf"at index {index} is"):
        METRICS[name](LABEL, masked)


WRONG = {
    "text": ["0.5"] * ROWS,
    "objects with text": [0.5] * (ROWS - 1) + ["0.5"],
    "complex": np.full(ROWS, 1j),
    "times": np.full(ROWS, np.datetime64("2025-01-01")),
    "one short": PREDICTION[1:],
    "a column": PREDICTION[:, None],
    "one number": 0.5,
    "nothing": None,
    "none": [],
    "a mapping": {0: 0.5},
    "a generator": (x for x in PREDICTION),
    "rows of different lengths": [[0.5]] * (ROWS - 1) + [[0.5, 0.5]],
    "a frame": pd.DataFrame({"p": PREDICTION}),
}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("wrong", WRONG)
def test_values_that_are_not_an_array_of_rows_are_refused(name: str, wrong: str) -> None:
    if name != "calibrated" or wrong not in ("one short", "none"):  # a calibration takes any number of rows
        with pytest.raises(InputError, match=r"expected|fusion: inputs"):
            METRICS[name](LABEL, WRONG[wrong])
    with pytest.raises(InputError, match=r"expected|no rows|fusion: inputs"):
        METRICS[name](WRONG[wrong], PREDICTION)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("label", [2, -1, 0.5, np.inf])
def test_a_label_is_0_or_1(name: str, label: float) -> None:
    labels = LABEL.astype(float)
    labels[3] = label
    with pytest.raises(InputError, match=r"label at index 3 is .*; expected 0 or 1"):
        METRICS[name](labels, PREDICTION)


def test_scores_may_be_infinite_and_probabilities_lie_between_0_and_1() -> None:
    odds = np.array([-np.inf, 1e300, np.inf, -5.0] * 3)
    assert 0 <= auc(LABEL, odds) <= 1
    assert 0 <= gauc(LABEL, odds, USER) <= 1
    assert np.isfinite(compare_auc(LABEL, USER, ITEM, [odds], [PREDICTION]).p_value)
    for wrong in (1.1, -1e-9, np.inf):
        values = PREDICTION.copy()
        values[5] = wrong
        for metric in (log_loss, normalised_entropy):
            with pytest.raises(InputError, match=r"probability at index 5 is .*; expected 0 to 1"):
                metric(LABEL, values)


@pytest.mark.parametrize("user", [list("aabbccddeeff"), pd.Series(["x", 1, 2.5] * 4), USER.astype("M8[s]")])
def test_ids_of_users_may_have_any_type(user: Any) -> None:
    number = {name: index for index, name in enumerate(dict.fromkeys(user))}
    expected = np.array([number[name] for name in user])
    assert gauc(LABEL, PREDICTION, user) == gauc(LABEL, PREDICTION, expected)
    assert compare_auc(LABEL, user, ITEM, [PREDICTION], [LABEL]) == compare_auc(
        LABEL, expected, ITEM, [PREDICTION], [LABEL]
    )


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_user_is_named(missing: Any) -> None:
    users = [*USER[:-1].tolist(), missing]
    for work in (
        lambda: gauc(LABEL, PREDICTION, users),
        lambda: compare_auc(LABEL, users, ITEM, [PREDICTION], [LABEL]),
        lambda: compare_means(users, ITEM, [PREDICTION], [LABEL]),
        lambda: bootstrap_auc_interval(LABEL, users, ITEM, [PREDICTION], [LABEL]),
        lambda: cross_fit(NUMBERS, LABEL, users),
    ):
        with pytest.raises(InputError, match="user at index 11 is"):
            work()


def test_seeds_are_lists_of_the_same_length() -> None:
    for a, b in ((PREDICTION, [PREDICTION]), ([], []), ([PREDICTION] * 2, [PREDICTION]), (None, [PREDICTION]), (5, 5)):
        for compare in (compare_auc, bootstrap_auc_interval):
            with pytest.raises(InputError, match=r"expected|seeds"):
                compare(LABEL, USER, ITEM, a, b)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"expected|seeds"):
            compare_means(USER, ITEM, a, b)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="prediction of seed 1 of b at index 0 is nan"):
        compare_means(USER, ITEM, [PREDICTION] * 2, [PREDICTION, np.full(ROWS, np.nan)])


def test_fusion_names_columns_and_questions() -> None:
    for column in (0, 1):
        numbers = NUMBERS.copy()
        numbers[4, column] = np.inf
        for work, given in ((fused_inputs, (PREDICTION, numbers)), (fit_fusion, (numbers, LABEL))):
            with pytest.raises(
                InputError, match=f"column {column} of the (knowledge scores|fusion inputs) is inf at index 4"
            ):
                work(*given)
    with pytest.raises(InputError, match=r"knowledge scores: expected \(rows, 3\), found \(12, 2\)"):
        with_probabilities(NUMBERS, ["a", "b", "c"], [])
    with pytest.raises(InputError, match="unknown knowledge score 'c'; choose from a, b"):
        with_probabilities(NUMBERS, ["a", "b"], ["c"])
    with pytest.raises(InputError, match=r"fusion inputs: expected \(rows, 2\), found \(12, 1\)"):
        fit_fusion(NUMBERS, LABEL)(NUMBERS[:, :1])
    with pytest.raises(InputError, match=r"inputs of shape \(12, 0\)"):
        fit_fusion(np.empty((ROWS, 0)), LABEL)


def test_ranks_may_be_arrays_of_any_library() -> None:
    expected = retrieval_metrics([1, 3, 20], [10])
    for ranks in (np.array([1, 3, 20]), torch.tensor([1, 3, 20]), pd.Series([1, 3, 20]).astype(object)):
        assert retrieval_metrics(ranks, (10,)) == expected  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rank at index 1 is nan"):
        user_metrics([1, np.nan], [10])
