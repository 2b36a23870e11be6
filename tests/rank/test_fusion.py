"""Late fusion: weights of a ranker's logit and of knowledge scores, fitted on rows that neither model was trained on."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from openlum.data.dataset import SPLITS
from openlum.errors import InputError
from openlum.evaluation.metrics import auc
from openlum.rank.batches import RankingData
from openlum.rank.fusion import (
    PENALTIES,
    ROWS_PER_INPUT,
    Fusion,
    calibration,
    cross_fit,
    fit_fusion,
    folds,
    fused_inputs,
    multi_value_feedback,
    penalised_fusion,
    with_probabilities,
)
from openlum.rank.knowledge_probe import knowledge_probe
from openlum.rank.rankers import load_ranker, save_ranker
from openlum.rank.settings import KnowledgeSettings, RankSettings
from openlum.rank.train import fit
from tests.rank.planted import true_probability
from tests.rank.test_knowledge_probe import leak_labels


def simulate_rows(rows: int = 4000, noise: int = 0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs (I, 2 + noise), of which two determine the label, labels (I,) and users (I,)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2 + noise))
    label = (rng.random(rows) < 1 / (1 + np.exp(-(1.5 * x[:, 0] - x[:, 1] - 0.5)))).astype(np.float32)
    return x, label, rng.integers(rows // 4, size=rows)


def test_the_fit_recovers_the_true_weights_at_any_scale() -> None:
    x, label, _ = simulate_rows(40_000)
    fusion = fit_fusion(x * [1, 1000], label)
    np.testing.assert_allclose(fusion.weight * [1, 1000], [1.5, -1.0], atol=0.05)
    assert fusion.bias == pytest.approx(-0.5, abs=0.05)


def test_calibration_corrects_an_overconfident_ranker_and_keeps_its_ranking() -> None:
    x, label, _ = simulate_rows(8000)
    true_logit = 1.5 * x[:, 0] - x[:, 1] - 0.5
    overconfident = expit(1.7 * true_logit + 1)
    calibrated = calibration(overconfident[:4000], label[:4000])(overconfident[4000:])
    np.testing.assert_allclose(logit(calibrated), true_logit[4000:], atol=0.4)
    assert auc(label[4000:], calibrated) == auc(label[4000:], overconfident[4000:])


def with_ratings(data: RankingData) -> RankingData:
    """Return the same data with feedback predictions of a rating; a click is a 2 or a 3, with probabilities that vary by row."""
    assert data.knowledge is not None
    rows = [data.dataset.impressions(split) for split in SPLITS]
    index = np.concatenate([data.knowledge.index_of(impressions.row) for impressions in rows])
    click, share = np.empty(len(index)), np.random.default_rng(0).random(len(index))
    click[index] = np.concatenate(
        [true_probability(data.dataset, impressions.user, impressions.item) for impressions in rows]
    )
    probability = np.stack([1 - click, click * share, click * (1 - share)], 1).clip(1e-6, 1 - 1e-6)
    names = ["like", "rating=1", "rating=2", "rating=3"]
    scores = np.concatenate([data.knowledge.scores[:, :1], logit(probability)], 1).astype(np.float32)
    return RankingData(
        data.dataset, data.settings, dataclasses.replace(data.knowledge, score_names=names, scores=scores)
    )


@pytest.mark.parametrize("questions", [["rating=2", "rating=3"], ["like", "rating=3", "rating=2"]])
def test_a_label_of_several_feedback_values_has_the_sum_of_their_probabilities(
    data: RankingData, tmp_path: Path, questions: list[str]
) -> None:
    """In training, in a saved file and in the knowledge probe; also if only these values are selected."""
    data = with_ratings(data)
    settings = data.settings.model_copy(
        update={"knowledge": KnowledgeSettings(tier="live", matching_questions=questions)}
    )
    config, rows = data.config("dnn", True, settings), data.rows["test"]
    assert config.knowledge is not None
    assert config.knowledge.probabilities == ["rating=2", "rating=3"]
    label, user, item = rows.label.numpy(), rows.user.numpy(), rows.item.numpy()
    best = auc(label, true_probability(data.dataset, user, item))
    ranker = fit(config, data, 0).ranker
    assert auc(label, ranker.predict(data, rows)) > best - 0.005
    save_ranker(ranker, tmp_path / "ranker.safetensors")
    np.testing.assert_array_equal(
        load_ranker(tmp_path / "ranker.safetensors").predict(data, rows), ranker.predict(data, rows)
    )
    selected = RankingData(data.dataset, settings, data.knowledge)
    assert knowledge_probe(selected)["all"]["test"] > best - 0.005
    train, test = data.knowledge_scores(data.rows["train"], config), data.knowledge_scores(rows, config)
    assert auc(label, fit_fusion(train, data.rows["train"].label.numpy())(test)) < best - 0.01


def test_feedback_predictions_of_two_values_need_no_probabilities() -> None:
    names = ["click", "is_click=0", "is_click=1", "rating=1", "rating=2", "rating=a=b"]
    assert multi_value_feedback(names, names) == names[3:]
    scores = np.zeros((4, 6))
    assert with_probabilities(scores, names, []).shape == (4, 6)
    extended = with_probabilities(scores, names, names[3:])
    np.testing.assert_array_equal(extended, np.concatenate([scores, np.full((4, 3), 0.5)], 1))


def test_fusion_inputs_are_log_odds_and_finite() -> None:
    x = fused_inputs(np.array([0.5, 0.0, 1.0], np.float32), np.array([[1.0], [2.0], [3.0]], np.float32))
    assert x.shape == (3, 2)
    assert x[0, 0] == 0
    assert np.isfinite(x).all()
    assert x[:, 1].tolist() == [1, 2, 3]


def test_cross_fitted_probabilities_do_not_use_the_rows_own_labels() -> None:
    """With too many inputs for the rows, weights that were fitted to the rows themselves overfit."""
    x, label, user = simulate_rows(300, noise=150)
    later = simulate_rows(4000, noise=150, seed=1)
    fusion = fit_fusion(x, label)
    later_auc = auc(later[1], fusion(later[0]))
    assert auc(label, fusion(x)) > later_auc + 0.1
    penalised, probability = cross_fit(x, label, user)
    assert auc(label, probability) < auc(later[1], penalised(later[0])) + 0.05


def test_a_users_labels_do_not_change_the_weights_of_its_own_rows() -> None:
    """They change only the level, which is the same for all rows."""
    x, label, user = simulate_rows()
    first_user = user == user[0]
    flipped = np.where(first_user, 1 - label, label)
    before, after = (logit(cross_fit(x, labels, user)[1].astype(np.float64)) for labels in (label, flipped))
    assert np.ptp((before - after)[first_user]) < 1e-5
    assert np.ptp((before - after)[~first_user]) > 1e-3


def test_rows_of_different_folds_are_not_ranked_against_their_labels() -> None:
    """A single input has the same ranking with any positive weight. Folds with their own levels would lose 0.002 of AUC here."""
    losses = []
    for seed in range(20):
        x, label, user = simulate_rows(1000, seed=seed)
        losses.append(auc(label, x[:, 0]) - auc(label, cross_fit(x[:, :1], label, user)[1]))
    assert abs(np.mean(losses)) < 0.0012


def test_fewer_users_than_folds_are_fitted_together_with_the_strongest_penalty() -> None:
    x, label, _ = simulate_rows(200)
    fusion, probability = cross_fit(x, label, np.zeros(200, int))
    assert isinstance(fusion, Fusion)
    np.testing.assert_array_equal(fusion.weight, fit_fusion(x, label, PENALTIES[-1]).weight)
    np.testing.assert_array_equal(probability, fusion(x))


def test_with_few_rows_the_penalty_limits_the_harm_of_noise() -> None:
    """200 rows and 40 inputs, of which the first has all the signal."""
    harm = {"chosen": [], "weakest": []}  # type: ignore[var-annotated]
    later, later_label, _ = simulate_rows(4000, noise=38, seed=9)
    later[:, 1] = 0
    for seed in range(4):
        x, label, user = simulate_rows(200, noise=38, seed=seed)
        x[:, 1] = np.random.default_rng(seed).normal(size=200)
        best = auc(later_label, later[:, 0])
        harm["chosen"].append(best - auc(later_label, penalised_fusion(x, label, folds(user, 200))(later)))
        harm["weakest"].append(best - auc(later_label, fit_fusion(x, label)(later)))
    assert np.mean(harm["weakest"]) > 0.05
    assert np.mean(harm["chosen"]) < 0.5 * np.mean(harm["weakest"])


def test_with_many_rows_the_penalty_is_the_weakest() -> None:
    x, label, user = simulate_rows(ROWS_PER_INPUT * 3 + 1, noise=1)
    fusion = penalised_fusion(x, label, folds(user, len(label)))
    np.testing.assert_array_equal(fusion.weight, fit_fusion(x, label).weight)


def test_a_strong_penalty_is_a_calibration_of_the_first_input() -> None:
    x, label, _ = simulate_rows(500)
    alone = fit_fusion(x[:, :1], label)
    strong = fit_fusion(x, label, 1e12)
    np.testing.assert_allclose([*strong.weight, strong.bias], [alone.weight[0], 0, alone.bias], atol=1e-5)


@pytest.mark.parametrize(
    ("probability", "score", "message"),
    [
        (np.nan, 0.0, "the probability at index 1 is nan"),
        (1.5, 0.0, "the probability at index 1 is 1.5; expected 0 to 1"),
        (0.5, np.inf, "column 0 of the knowledge scores is inf at index 1"),
    ],
)
def test_wrong_probabilities_and_scores_are_named(probability: float, score: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fused_inputs(np.array([0.5, probability]), np.array([[0.0], [score]]))


def test_labels_of_one_class_are_refused() -> None:
    with pytest.raises(InputError, match="all labels are the same"):
        fit_fusion(np.zeros((3, 2)), np.ones(3))


@pytest.mark.parametrize("name", ["dnn", "lightgbm"])
def test_memorised_labels_mislead_early_fusion_and_not_late_fusion(name, data: RankingData) -> None:
    """The worst case: scores are noise, but contain the labels of the training rows."""
    assert data.knowledge is not None
    noise = np.random.default_rng(0).normal(size=data.knowledge.scores.shape).astype(np.float32)
    knowledge = dataclasses.replace(data.knowledge, scores=noise)
    leaked = leak_labels(RankingData(data.dataset, data.settings, knowledge), 1.0)
    test = leaked.rows["test"]

    def test_auc(fusion: str | None) -> float:
        knowledge = (
            KnowledgeSettings(tier="live", fusion="early", direct=False)
            if fusion == "early"
            else KnowledgeSettings(tier="live")
        )
        settings = data.settings.model_copy(update={"knowledge": knowledge})
        ranker = fit(leaked.config(name, fusion is not None, settings), leaked, 0).ranker
        return auc(test.label.numpy(), ranker.predict(leaked, test))

    assert test_auc("late") == pytest.approx(test_auc(None), abs=0.01)
    assert test_auc("early") < test_auc(None) - 0.015


@pytest.mark.parametrize("name", ["dnn", "din", "sasrec"])
def test_knowledge_with_signal_improves_late_fusion(name, data: RankingData) -> None:
    label = data.rows["test"].label.numpy()
    plain, late = (
        auc(label, fit(data.config(name, with_knowledge), data, 0).ranker.predict(data, data.rows["test"]))
        for with_knowledge in (False, True)
    )
    assert late > plain + 0.005


def test_the_plain_ranker_is_trained_once(data: RankingData) -> None:
    plain = fit(data.config("dnn", False), data, 0)
    late = fit(data.config("dnn", True), data, 0, plain=plain)
    assert late.best_epoch == plain.best_epoch
    assert late.epochs == []
    assert late.ranker.plain is plain.ranker  # type: ignore[attr-defined]
    trained_alone = fit(data.config("dnn", True), data, 0)
    np.testing.assert_array_equal(trained_alone.valid, late.valid)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"matching": False}, "fusion 'late' needs similarities"),
        ({"direct": False}, "fusion 'late' does not read 'direct'"),
        ({"fusion": "early", "direct": False, "matching": False}, "no knowledge would be an input"),
        ({"fusion": "early", "direct": False, "direct_questions": ["like"]}, "'direct_questions' is not read"),
        ({"fusion": "early", "matching": False, "matching_questions": ["like"]}, "'matching_questions' is not read"),
        ({"direct_questions": ["like"]}, "does not read 'direct_questions'"),
        ({"width": 8}, "does not read 'width'"),
        ({"fusion": "early", "keep": "always"}, "fusion 'early' does not read 'keep'"),
        ({"fusion": "early", "joining": "trees"}, "fusion 'early' does not read 'joining'"),
        ({"joining": "forest"}, "'linear' or 'trees'"),
        ({"dropout": 0.1}, "does not read 'dropout'"),
        ({"matching_questions": []}, "at least 1 item"),
        ({"fusion": "early", "direct_questions": []}, "at least 1 item"),
    ],
)
def test_settings_without_effect_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RankSettings.model_validate({"knowledge": changes})


def test_end_to_end_rankers_have_no_inputs_for_knowledge(data: RankingData) -> None:
    early = data.settings.model_copy(update={"knowledge": KnowledgeSettings(tier="live", fusion="early")})
    with pytest.raises(InputError, match="'hstu' has no inputs for knowledge; set fusion to 'late'"):
        data.config("hstu", True, early)


def test_a_ranker_with_knowledge_refuses_data_without_it(data: RankingData) -> None:
    without = RankingData(data.dataset, data.settings)
    for fusion, name in (("late", "dnn"), ("early", "lightgbm"), ("early", "dnn")):
        settings = data.settings.model_copy(update={"knowledge": KnowledgeSettings(tier="live", fusion=fusion)})  # type: ignore[arg-type]
        ranker = fit(data.config(name, True, settings), data, 0).ranker  # type: ignore[arg-type]
        with pytest.raises(InputError, match="reads knowledge, and this data has none"):
            ranker.predict(without, without.rows["test"])
