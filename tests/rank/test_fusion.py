"""Late fusion: the weights of a ranker and of knowledge, from rows that neither has learned from."""

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
    calibration,
    cross_fit,
    fit_fusion,
    fused_inputs,
    of_several_values,
    with_probabilities,
)
from openlum.rank.knowledge_probe import knowledge_probe
from openlum.rank.rankers import load_ranker, save_ranker
from openlum.rank.settings import KnowledgeSettings, RankSettings
from openlum.rank.train import fit
from tests.rank.test_knowledge_probe import told

from .planted import true_chance


def world(rows: int = 4000, noise: int = 0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers (I, 2 + noise) of which two decide the label, labels (I,) and users (I,)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2 + noise))
    label = (rng.random(rows) < 1 / (1 + np.exp(-(1.5 * x[:, 0] - x[:, 1] - 0.5)))).astype(np.float32)
    return x, label, rng.integers(rows // 4, size=rows)


def test_it_finds_the_weights_that_made_the_labels_whatever_the_scale() -> None:
    x, label, _ = world(40_000)
    fusion = fit_fusion(x * [1, 1000], label)
    np.testing.assert_allclose(fusion.weight * [1, 1000], [1.5, -1.0], atol=0.05)
    assert fusion.bias == pytest.approx(-0.5, abs=0.05)


def test_a_ranker_that_is_too_sure_is_calibrated_and_ranks_as_before() -> None:
    x, label, _ = world(8000)
    true = 1.5 * x[:, 0] - x[:, 1] - 0.5
    sure = expit(1.7 * true + 1)
    found = calibration(sure[:4000], label[:4000])(sure[4000:])
    np.testing.assert_allclose(logit(found), true[4000:], atol=0.4)
    assert auc(label[4000:], found) == auc(label[4000:], sure[4000:])


def rated(data: RankingData) -> RankingData:
    """The same data with feedback predictions of a rating: what is clicked has a 2 or a 3, by a chance that differs from row to row."""
    assert data.knowledge is not None
    rows = [data.dataset.impressions(split) for split in SPLITS]
    places = np.concatenate([data.knowledge.places(one.row) for one in rows])
    clicked, share = np.empty(len(places)), np.random.default_rng(0).random(len(places))
    clicked[places] = np.concatenate([true_chance(data.dataset, one.user, one.item) for one in rows])
    chance = np.stack([1 - clicked, clicked * share, clicked * (1 - share)], 1).clip(1e-6, 1 - 1e-6)
    names = ["like", "rating=1", "rating=2", "rating=3"]
    numbers = np.concatenate([data.knowledge.similarity[:, :1], logit(chance)], 1).astype(np.float32)
    return RankingData(
        data.dataset, data.settings, dataclasses.replace(data.knowledge, questions=names, similarity=numbers)
    )


@pytest.mark.parametrize("chosen", [["rating=2", "rating=3"], ["like", "rating=3", "rating=2"]])
def test_a_label_that_several_values_share_has_the_sum_of_their_probabilities(
    data: RankingData, tmp_path: Path, chosen: list[str]
) -> None:
    """Through training, a saved file and the answers alone; also where only those values are chosen."""
    data = rated(data)
    settings = data.settings.model_copy(update={"knowledge": KnowledgeSettings(matching_questions=chosen)})
    config, rows = data.config("dnn", True, settings), data.rows["test"]
    assert config.knowledge is not None
    assert config.knowledge.probabilities == ["rating=2", "rating=3"]
    label, user, item = rows.label.numpy(), rows.user.numpy(), rows.item.numpy()
    best = auc(label, true_chance(data.dataset, user, item))
    ranker = fit(config, data, 0).ranker
    assert auc(label, ranker.predict(data, rows)) > best - 0.005
    save_ranker(ranker, tmp_path / "ranker.safetensors")
    np.testing.assert_array_equal(
        load_ranker(tmp_path / "ranker.safetensors").predict(data, rows), ranker.predict(data, rows)
    )
    alone = RankingData(data.dataset, settings, data.knowledge)
    assert knowledge_probe(alone)["all"]["test"] > best - 0.005
    odds = data.numbers(data.rows["train"], config), data.numbers(rows, config)
    assert auc(label, fit_fusion(odds[0], data.rows["train"].label.numpy())(odds[1])) < best - 0.01


def test_judgements_of_two_values_need_no_probabilities() -> None:
    names = ["click", "is_click=0", "is_click=1", "rating=1", "rating=2", "rating=a=b"]
    assert of_several_values(names, names) == names[3:]
    numbers = np.zeros((4, 6))
    assert with_probabilities(numbers, names, []).shape == (4, 6)
    joined = with_probabilities(numbers, names, names[3:])
    np.testing.assert_array_equal(joined, np.concatenate([numbers, np.full((4, 3), 0.5)], 1))


def test_inputs_are_log_odds_and_stay_finite() -> None:
    x = fused_inputs(np.array([0.5, 0.0, 1.0], np.float32), np.array([[1.0], [2.0], [3.0]], np.float32))
    assert x.shape == (3, 2)
    assert x[0, 0] == 0
    assert np.isfinite(x).all()
    assert x[:, 1].tolist() == [1, 2, 3]


def test_cross_fitted_rows_do_not_know_their_own_labels() -> None:
    """With more numbers than rows can settle, weights fitted to the rows themselves look good and are not."""
    x, label, user = world(300, noise=150)
    later = world(4000, noise=150, seed=1)
    fusion = fit_fusion(x, label)
    honest = auc(later[1], fusion(later[0]))
    assert auc(label, fusion(x)) > honest + 0.1
    assert auc(label, cross_fit(x, label, user)[1]) < honest + 0.05


def test_a_user_has_no_part_in_the_weights_of_its_own_rows() -> None:
    """Only in the level, which is the same for all rows."""
    x, label, user = world()
    one = user == user[0]
    turned = np.where(one, 1 - label, label)
    first, second = (logit(cross_fit(x, labels, user)[1].astype(np.float64)) for labels in (label, turned))
    assert np.ptp((first - second)[one]) < 1e-5
    assert np.ptp((first - second)[~one]) > 1e-3


def test_folds_do_not_rank_their_rows_against_their_labels() -> None:
    """One number ranks alike whatever its weight; folds with levels of their own would lose .002 here."""
    lost = []
    for seed in range(20):
        x, label, user = world(1000, seed=seed)
        lost.append(auc(label, x[:, 0]) - auc(label, cross_fit(x[:, :1], label, user)[1]))
    assert abs(np.mean(lost)) < 0.0012


def test_too_few_users_are_fitted_together() -> None:
    x, label, _ = world(200)
    whole, crossed = cross_fit(x, label, np.zeros(200, int))
    np.testing.assert_array_equal(whole.weight, fit_fusion(x, label).weight)
    np.testing.assert_array_equal(crossed, whole(x))


@pytest.mark.parametrize(
    ("probability", "number", "message"),
    [
        (np.nan, 0.0, "the probability at index 1 is nan"),
        (1.5, 0.0, "the probability at index 1 is 1.5; expected 0 to 1"),
        (0.5, np.inf, "column 0 of the numbers is inf at index 1"),
    ],
)
def test_what_is_not_finite_is_named(probability: float, number: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fused_inputs(np.array([0.5, probability]), np.array([[0.0], [number]]))


def test_labels_that_are_all_the_same_are_refused() -> None:
    with pytest.raises(InputError, match="all labels are the same"):
        fit_fusion(np.zeros((3, 2)), np.ones(3))


@pytest.mark.parametrize("name", ["dnn", "lightgbm"])
def test_memorised_labels_mislead_early_fusion_and_not_late(name, data: RankingData) -> None:
    """The trap at its worst: similarities are noise, but tell the labels of the training rows."""
    assert data.knowledge is not None
    noise = np.random.default_rng(0).normal(size=data.knowledge.similarity.shape).astype(np.float32)
    knowledge = dataclasses.replace(data.knowledge, similarity=noise)
    fooled = told(RankingData(data.dataset, data.settings, knowledge), 1.0)
    test = fooled.rows["test"]

    def reached(fusion: str | None) -> float:
        chosen = KnowledgeSettings(fusion="early", direct=False) if fusion == "early" else KnowledgeSettings()
        settings = data.settings.model_copy(update={"knowledge": chosen})
        ranker = fit(fooled.config(name, fusion is not None, settings), fooled, 0).ranker
        return auc(test.label.numpy(), ranker.predict(fooled, test))

    assert reached("late") == pytest.approx(reached(None), abs=0.01)
    assert reached("early") < reached(None) - 0.015


@pytest.mark.parametrize("name", ["dnn", "din", "lightgbm", "sasrec"])
def test_informed_knowledge_helps(name, data: RankingData) -> None:
    label = data.rows["test"].label.numpy()
    plain, informed = (
        auc(label, fit(data.config(name, known), data, 0).ranker.predict(data, data.rows["test"]))
        for known in (False, True)
    )
    assert informed > plain + 0.005


def test_the_plain_ranker_is_trained_once(data: RankingData) -> None:
    plain = fit(data.config("dnn", False), data, 0)
    late = fit(data.config("dnn", True), data, 0, plain=plain)
    assert late.best_epoch == plain.best_epoch
    assert late.epochs == []
    assert late.ranker.plain is plain.ranker  # type: ignore[attr-defined]
    again = fit(data.config("dnn", True), data, 0)
    np.testing.assert_array_equal(again.valid, late.valid)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"matching": False}, "fusion 'late' takes similarities"),
        ({"direct": False}, "fusion 'late' does not read 'direct'"),
        ({"fusion": "early", "direct": False, "matching": False}, "no knowledge would be an input"),
        ({"fusion": "early", "direct": False, "direct_questions": ["like"]}, "'direct_questions' is not read"),
        ({"fusion": "early", "matching": False, "matching_questions": ["like"]}, "'matching_questions' is not read"),
        ({"direct_questions": ["like"]}, "does not read 'direct_questions'"),
        ({"width": 8}, "does not read 'width'"),
        ({"dropout": 0.1}, "does not read 'dropout'"),
        ({"matching_questions": []}, "at least 1 item"),
        ({"fusion": "early", "direct_questions": []}, "at least 1 item"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RankSettings.model_validate({"knowledge": changes})


def test_end_to_end_rankers_have_no_inputs_for_knowledge(data: RankingData) -> None:
    early = data.settings.model_copy(update={"knowledge": KnowledgeSettings(fusion="early")})
    with pytest.raises(InputError, match="'hstu' has no inputs for knowledge; set fusion to 'late'"):
        data.config("hstu", True, early)


def test_a_ranker_with_knowledge_asks_for_it(data: RankingData) -> None:
    without = RankingData(data.dataset, data.settings)
    for fusion, name in (("late", "dnn"), ("early", "lightgbm"), ("early", "dnn")):
        settings = data.settings.model_copy(update={"knowledge": KnowledgeSettings(fusion=fusion)})  # type: ignore[arg-type]
        ranker = fit(data.config(name, True, settings), data, 0).ranker  # type: ignore[arg-type]
        with pytest.raises(InputError, match="takes knowledge, and these data have none"):
            ranker.predict(without, without.rows["test"])
