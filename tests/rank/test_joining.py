"""Late fusion is kept only where knowledge gains beyond its error; otherwise the ranker's probabilities pass through."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.base import clone

from openlum.errors import InputError
from openlum.evaluation.metrics import auc
from openlum.rank.batches import RankingData
from openlum.rank.estimator import KnowledgeFusion
from openlum.rank.joining import fit_late_fusion
from openlum.rank.rankers import load_ranker, save_ranker
from openlum.rank.settings import KnowledgeSettings
from openlum.rank.train import fit


def simulate(rows: int, signal: float, scores: int = 4, seed: int = 0, bend: bool = False) -> tuple[np.ndarray, ...]:
    """Return a ranker's probabilities (I,) float32, scores (I, Q), labels, users and items (I,).

    The logit of the label is the ranker's plus `signal` times the first score; with `bend`, times its square.
    """
    rng = np.random.default_rng(seed)
    logit, score = rng.normal(size=rows), rng.normal(size=(rows, scores))
    effect = score[:, 0] ** 2 - 1 if bend else score[:, 0]
    label = (rng.random(rows) < expit(logit - 0.5 + signal * effect)).astype(np.float32)
    probability = expit(logit).astype(np.float32)
    return probability, score, label, rng.integers(max(rows // 4, 5), size=rows), rng.integers(rows // 4, size=rows)


@pytest.mark.parametrize("keep", ["auc", "logloss"])
def test_noise_is_passed_through_bit_by_bit(keep: Any) -> None:
    kept = 0
    for seed in range(8):
        probability, scores, label, user, item = simulate(1500, 0.0, scores=1, seed=seed)
        late, valid = fit_late_fusion(probability, scores, label, user, item, keep=keep)
        kept += late.decision.kept
        if not late.decision.kept:
            assert valid.dtype == np.float32
            np.testing.assert_array_equal(valid, probability)
            np.testing.assert_array_equal(late(probability[::-1], scores), probability[::-1])
    assert kept <= 1


@pytest.mark.parametrize("keep", ["auc", "logloss"])
def test_a_gain_of_a_few_thousandths_on_many_rows_is_kept(keep: Any) -> None:
    probability, scores, label, user, item = simulate(20_000, 0.13)
    late, valid = fit_late_fusion(probability, scores, label, user, item, keep=keep)
    assert late.decision.kept
    assert late.decision.metric == keep
    assert 0.001 < auc(label, valid) - auc(label, probability) < 0.006
    if keep == "auc":
        assert late.decision.gain == pytest.approx(auc(label, valid) - auc(label, probability))


def test_always_keeps_noise() -> None:
    probability, scores, label, user, item = simulate(1000, 0.0, scores=1)
    late, valid = fit_late_fusion(probability, scores, label, user, item, keep="always")
    assert late.decision.kept
    assert (valid != probability).any()


def test_a_fusion_that_cannot_be_tested_is_not_used() -> None:
    """Too few users, or all positive labels in one fold: the gain would be that on the rows of the fit."""
    probability, scores, label, user, _ = simulate(400, 3.0)
    few_users, _ = fit_late_fusion(probability, scores, label, user % 4)
    label = np.zeros(400)
    label[user == user[0]] = 1
    one_user, valid = fit_late_fusion(probability, scores, label, user)
    for late in (few_users, one_user):
        assert not late.decision.kept
        assert late.decision.gain is None
    np.testing.assert_array_equal(valid, probability)


def test_trees_find_what_a_line_cannot() -> None:
    pytest.importorskip("lightgbm")
    probability, scores, label, user, item = simulate(8000, 0.7, bend=True)
    linear, _ = fit_late_fusion(probability, scores, label, user, item)
    trees, valid = fit_late_fusion(probability, scores, label, user, item, joining="trees")
    assert not linear.decision.kept
    assert trees.decision.kept
    later = simulate(4000, 0.7, seed=1, bend=True)
    assert auc(later[2], trees(later[0], later[1])) > auc(later[2], later[0]) + 0.02
    assert auc(label, valid) < auc(label, trees(probability, scores))  # cross-fitted


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joining": "forest"}, "joining: expected one of linear, trees, found 'forest'"),
        ({"keep": "gauc"}, "keep: expected one of auc, logloss, always"),
        ({"label": np.ones(3)}, "all labels are the same"),
        ({"label": [0, 1, 2]}, "label at index 2 is 2"),
        ({"probability": [0.1, 0.2, 2.0]}, "probability at index 2 is 2"),
        ({"scores": [[1.0], [np.nan], [0.0]]}, "nan at index 1"),
        ({"user": [1, 2]}, "user"),
    ],
)
def test_wrong_values_are_named(changes: dict[str, Any], message: str) -> None:
    arguments = {"probability": [0.1, 0.2, 0.3], "scores": [[1.0], [2], [3]], "label": [0, 1, 0], "user": [1, 2, 3]}
    with pytest.raises(InputError, match=message):
        fit_late_fusion(**(arguments | changes))


def test_the_estimator_passes_through_too() -> None:
    probability, scores, label, user, _ = simulate(1500, 0.0, scores=1)
    noise = clone(KnowledgeFusion()).fit(probability, scores, label, groups=user)
    assert not noise.kept_
    assert noise.decision_.gain < 0.01
    np.testing.assert_array_equal(noise.predict_proba(probability, scores)[:, 1], probability)
    np.testing.assert_array_equal(noise.predict(probability, scores), probability > 0.5)
    np.testing.assert_array_equal(noise.cross_fitted_, probability)
    assert KnowledgeFusion(keep="always").fit(probability, scores, label).kept_
    probability, scores, label, user, _ = simulate(1500, 1.0)
    assert KnowledgeFusion().fit(probability, scores, label, groups=user).kept_


@pytest.mark.parametrize("joining", ["linear", "trees"])
def test_a_saved_ranker_makes_the_same_decision(joining: Any, data: RankingData, tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    knowledge = KnowledgeSettings(tier="live", joining=joining, keep="always")
    settings = data.settings.model_copy(update={"max_epochs": 1, "knowledge": knowledge})
    ranker: Any = fit(data.config("dnn", True, settings), data, 0).ranker
    rows = data.rows["test"]
    save_ranker(ranker, tmp_path / "kept.safetensors")
    np.testing.assert_array_equal(
        load_ranker(tmp_path / "kept.safetensors").predict(data, rows), ranker.predict(data, rows)
    )
    assert (ranker.predict(data, rows) != ranker.plain.predict(data, rows)).any()
