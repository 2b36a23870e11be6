"""Is one ranker's AUC really higher than another's? A paired test on the same rows.

DeLong et al. 1988 (structural components of the AUC), Sun and Xu 2014 (by midranks, in n log n), Obuchowski 1997 (rows of
one user depend on each other, so the user is the unit).

Shapes: S seeds, n rows, m positive rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import bootstrap, rankdata, t

SMALLEST_FREEDOM = 0.1
"""With less, one user has all but a few of the rows."""


@dataclass(frozen=True)
class Comparison:
    """The difference of two AUCs."""

    difference: float
    """AUC of a less AUC of b."""
    ci95: tuple[float, float]
    """95 % confidence interval of the difference."""
    p_value: float
    """Two-sided, of no difference."""

    def told(self, a: str, b: str) -> dict[str, Any]:
        """One of the `comparisons` of `summary.json`: method `a` against method `b`."""
        figures = {"difference": self.difference, "ci95": list(self.ci95), "p_value": self.p_value}
        return {"a": a, "b": b, "metric": "auc"} | figures


def compare_auc(label: np.ndarray, user: np.ndarray, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> Comparison:
    """Test the difference of the AUCs of two rankers, each averaged over its seeds.

    The interval says what other *users* of the same kind would do to the difference. It takes the trained rankers as they
    are; the spread over seeds is reported beside it. With few users, or some that have most of the rows, the normal distribution
    of the papers would find too much: Student's t takes its place, with one degree of freedom less than there are users with
    the rarer kind of label, each counted by its share of those rows (Kish 1965: (sum n)^2 / sum n^2). One user says nothing of
    others: the interval is then all that is possible.

    Args:
        label: (n,) 0 or 1.
        user: (n,) user ids.
        a: S arrays of predictions (n,), one a seed.
        b: the same for the other ranker; the number of seeds may differ.
    """
    positive = label > 0
    m, rest = int(positive.sum()), int((~positive).sum())
    if not m or not rest:
        return Comparison(float("nan"), (float("nan"), float("nan")), float("nan"))
    won = _mean_components(positive, a) - _mean_components(positive, b)  # (n,)
    difference = float(won[positive].mean())
    _, who = np.unique(user, return_inverse=True)
    of_positive = np.bincount(who, np.where(positive, won - difference, 0))  # (users,)
    of_negative = np.bincount(who, np.where(positive, 0, won - difference))
    with_positive, with_negative = (len(np.unique(who[where])) for where in (positive, ~positive))
    variance = (
        _correction(with_positive) * (of_positive**2).sum() / m**2
        + _correction(with_negative) * (of_negative**2).sum() / rest**2
        + _correction(who.max() + 1) * 2 * (of_positive * of_negative).sum() / (m * rest)
    )
    freedom = min(_effective(who[where]) for where in (positive, ~positive)) - 1
    if freedom < SMALLEST_FREEDOM:
        return Comparison(difference, (-1.0, 1.0), 1.0)
    error = float(np.sqrt(max(variance, 0.0)))
    if error == 0:
        return Comparison(difference, (difference, difference), 1.0 if difference == 0 else 0.0)
    reach = float(t.ppf(0.975, freedom)) * error
    p_value = float(2 * t.sf(abs(difference) / error, freedom))
    return Comparison(difference, (difference - reach, difference + reach), p_value)


def bootstrap_auc(
    label: np.ndarray,
    user: np.ndarray,
    a: Sequence[np.ndarray],
    b: Sequence[np.ndarray],
    resamples: int = 500,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of the same difference by a paired bootstrap of users (Efron and Tibshirani 1993, chapter 13).

    Args:
        label: (n,) 0 or 1.
        user: (n,) user ids.
        a: S arrays of predictions (n,), one a seed.
        b: the same for the other ranker.
        resamples: how many times users are drawn with replacement.
        seed: of the draws.
    """
    _, who = np.unique(user, return_inverse=True)
    users = int(who.max()) + 1
    if users < 2:  # nothing to draw from
        return compare_auc(label, user, a, b).ci95
    first, second = ([_WeightedAuc(label > 0, prediction) for prediction in predictions] for predictions in (a, b))

    def difference(drawn: np.ndarray) -> float:
        weight = np.bincount(drawn, minlength=users)[who].astype(np.float64)  # (n,)
        return float(np.mean([one(weight) for one in first]) - np.mean([one(weight) for one in second]))

    found = bootstrap(
        (np.arange(users),), difference, n_resamples=resamples, vectorized=False, method="percentile",
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


class _WeightedAuc:
    """The AUC of one prediction for any weights of the rows; the order is found once.

    Args:
        positive: (n,) bool.
        prediction: (n,).
    """

    def __init__(self, positive: np.ndarray, prediction: np.ndarray) -> None:
        self.order = np.argsort(prediction, kind="stable")
        ordered = prediction[self.order]
        self.positive = positive[self.order]
        self.first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))  # of each run of ties

    def __call__(self, weight: np.ndarray) -> float:
        """Weights (n,) to the AUC; ties count half."""
        weight = weight[self.order]
        wins = np.add.reduceat(weight * self.positive, self.first)
        losses = np.add.reduceat(weight * ~self.positive, self.first)
        below = np.cumsum(losses) - losses
        return float((wins * (below + losses / 2)).sum() / max(wins.sum() * losses.sum(), 1e-12))


def _mean_components(positive: np.ndarray, predictions: Sequence[np.ndarray]) -> np.ndarray:
    """For each row, the part of the rows of the other class that it is ranked rightly against; mean over seeds, (n,)."""
    return np.mean([_components(positive, prediction) for prediction in predictions], axis=0)


def _components(positive: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Structural components of the AUC: V10 at positive rows, V01 at negative ones, (n,)."""
    ranks = rankdata(prediction)
    out = np.empty(len(prediction))
    m, rest = positive.sum(), (~positive).sum()
    out[positive] = (ranks[positive] - rankdata(prediction[positive])) / rest
    out[~positive] = 1 - (ranks[~positive] - rankdata(prediction[~positive])) / m
    return out


def _effective(who: np.ndarray) -> float:
    """How many users with equally many rows would be as many as those of some rows, (n,), are."""
    rows = np.bincount(who).astype(np.float64)
    return float(rows.sum() ** 2 / (rows**2).sum())


def _correction(clusters: int) -> float:
    """Small-sample factor of a variance over clusters."""
    return clusters / max(clusters - 1, 1)
