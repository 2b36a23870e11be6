import numpy as np
import pytest
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import ndcg_score, roc_auc_score

from openlum.evaluation.metrics import NDCG_AT, auc, gauc, log_loss, metrics, normalised_entropy, request_metrics


def draw(seed: int, n: int = 300, users: int = 25, ties: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, predictions and users."""
    rng = np.random.default_rng(seed)
    prediction = rng.random(n)
    if ties:
        prediction = prediction.round(1)
    return (rng.random(n) < prediction).astype(np.float32), prediction.astype(np.float32), rng.integers(users, size=n)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [True, False])
def test_metrics_equal_an_independent_implementation(seed: int, ties: bool) -> None:
    label, prediction, user = draw(seed, ties=ties)
    assert auc(label, prediction) == pytest.approx(roc_auc_score(label, prediction))
    assert log_loss(label, prediction) == pytest.approx(
        sklearn_log_loss(label, prediction.clip(1e-7, 1 - 1e-7)), rel=1e-5
    )
    total = weight = 0.0
    for user_id in np.unique(user):
        rows = user == user_id
        if 0 < label[rows].sum() < rows.sum():
            total += rows.sum() * roc_auc_score(label[rows], prediction[rows])
            weight += rows.sum()
    assert gauc(label, prediction, user) == pytest.approx(total / weight)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("requests", [12, 60])
def test_metrics_within_a_request_equal_an_independent_implementation(seed: int, ties: bool, requests: int) -> None:
    label, prediction, request = draw(seed, users=requests, ties=ties)
    chosen = [request == number for number in np.unique(request) if len(set(label[request == number])) == 2]
    figures = metrics(label, prediction, np.zeros(len(label)), prediction, request)
    assert list(figures)[:2] == ["request_gauc", "request_ndcg"]
    expected = [roc_auc_score(label[rows], prediction[rows]) for rows in chosen]
    assert figures["request_gauc"] == pytest.approx(np.mean(expected))
    expected = [ndcg_score(label[None, rows], prediction[None, rows], k=NDCG_AT) for rows in chosen]
    assert figures["request_ndcg"] == pytest.approx(np.mean(expected))


def test_requests_without_both_labels_have_no_metrics() -> None:
    figures = request_metrics(np.array([1, 1, 0]), np.array([0.1, 0.2, 0.3]), np.array(["a", "a", "b"]))
    assert np.isnan(list(figures.values())).all()


def test_normalised_entropy_of_the_mean_is_one() -> None:
    label, prediction, _ = draw(0)
    assert normalised_entropy(label, np.full(len(label), label.mean())) == pytest.approx(1)
    assert normalised_entropy(label, prediction) < 1


def test_gauc_leaves_out_users_with_one_class() -> None:
    label, prediction = np.array([1, 0, 1, 1]), np.array([0.9, 0.1, 0.2, 0.3])
    assert gauc(label, prediction, np.array([1, 1, 2, 3])) == 1


def test_one_class_has_no_auc() -> None:
    prediction = np.array([0.2, 0.5, 0.9])
    figures = metrics(np.ones(3), prediction, np.array([1, 1, 2]), prediction)
    assert np.isnan([figures["auc"], figures["gauc"], figures["ne"]]).all()
    assert np.isfinite(figures["logloss"])


def test_the_log_loss_of_certain_and_wrong_probabilities_is_finite() -> None:
    assert 10 < log_loss(np.array([1.0, 0.0]), np.array([0.0, 1.0])) < 20
