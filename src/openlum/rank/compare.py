"""Is one ranker's AUC really higher than another's? A paired test on the same rows.

DeLong et al. 1988 (structural components of the AUC), Sun and Xu 2014 (by midranks, in n log n), Obuchowski 1997 (rows of
one user depend on each other, so the user is the unit).

Shapes: S seeds, n rows, m positive rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata


@dataclass(frozen=True)
class Comparison:
    """The difference of two AUCs."""

    difference: float
    """AUC of a less AUC of b."""
    ci95: tuple[float, float]
    """95 % confidence interval of the difference."""
    p_value: float
    """Two-sided, of no difference."""


def compare_auc(label: np.ndarray, user: np.ndarray, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> Comparison:
    """Test the difference of the AUCs of two rankers, each averaged over its seeds.

    The interval says what other *users* of the same kind would do to the difference. It takes the trained rankers as they
    are; the spread over seeds is reported beside it.

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
    error = float(np.sqrt(max(variance, 0.0)))
    if error == 0:
        return Comparison(difference, (difference, difference), 1.0 if difference == 0 else 0.0)
    reach = float(norm.ppf(0.975)) * error
    return Comparison(difference, (difference - reach, difference + reach), float(2 * norm.sf(abs(difference) / error)))


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


def _correction(clusters: int) -> float:
    """Small-sample factor of a variance over clusters."""
    return clusters / max(clusters - 1, 1)
