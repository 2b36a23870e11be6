"""The score that decides which weights are kept."""

import math

import pytest

from openlum.pretrain.score import popularity_warning, validation_score

METRICS = {
    "item_loss": 5.0,
    "recall@10": 0.2,
    "recall@10 any": 0.3,
    "ndcg@10": 0.1,
    "ndcg@10 any": 0.16,
    "auc rating": 0.9,
    "auc rating predicted": 0.7,
    "auc like predicted": 0.6,
}


def test_each_protocol_has_the_score_of_its_purpose() -> None:
    assert validation_score("last", METRICS) == 0.16
    assert validation_score("time", METRICS) == pytest.approx(0.3)
    assert validation_score("both", METRICS) == pytest.approx(math.sqrt(0.3 * 0.16))


def test_the_loss_does_not_count() -> None:
    for protocol in ("last", "time", "both"):
        assert validation_score(protocol, METRICS | {"item_loss": 9.0}) == validation_score(protocol, METRICS)


def test_equal_relative_gains_of_both_purposes_count_the_same() -> None:
    retrieval = validation_score("both", METRICS | {"ndcg@10 any": 0.16 * 1.1})
    ranking = validation_score("both", METRICS | {"auc rating predicted": 0.73, "auc like predicted": 0.6})
    assert retrieval == pytest.approx(ranking)


@pytest.mark.parametrize("protocol", ["last", "time", "both"])
def test_without_predicted_feedback_retrieval_decides(protocol: str) -> None:
    assert validation_score(protocol, {"ndcg@10 any": 0.16, "auc rating": 0.9}) == 0.16


def test_without_validation_events_there_is_no_score() -> None:
    assert validation_score("both", {}) is None


def test_feedback_worse_than_chance_is_no_error() -> None:
    worse = METRICS | {"auc rating predicted": 0.4, "auc like predicted": 0.45}
    assert validation_score("both", worse) == pytest.approx(math.sqrt(0.001 * 0.16))
    assert validation_score("time", worse) == pytest.approx(-0.15)


def test_the_warning_compares_with_popularity() -> None:
    assert popularity_warning(METRICS) is None
    assert popularity_warning(METRICS | {"recall@10 popularity": 0.29}) is None
    warning = popularity_warning(METRICS | {"recall@10 popularity": 0.3})
    assert warning is not None
    assert "recall@10 is 0.3000" in warning
    assert "pretrain.batch_events" in warning
