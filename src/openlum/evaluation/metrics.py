"""How good predictions are. All figures are over all rows, never over a sample.

Arrays may be of any library and number format. Labels are 0 or 1, predictions are numbers, probabilities are from 0 to 1, and
nothing is missing; otherwise every metric raises an `InputError` that names the index.

Shapes: n rows.
"""

from typing import Any

import numpy as np
from scipy.stats import rankdata

from openlum.arguments.arrays import groups, labels, probabilities, scores


def metrics(label: np.ndarray, prediction: np.ndarray, user: np.ndarray, calibrated: np.ndarray) -> dict[str, float]:
    """AUC and GAUC of predictions, log loss and normalised entropy of the same as calibrated probabilities, (n,) each."""
    return {
        "auc": auc(label, prediction),
        "gauc": gauc(label, prediction, user),
        "logloss": log_loss(label, calibrated),
        "ne": normalised_entropy(label, calibrated),
    }


def over_seeds(figures: list[float]) -> dict[str, Any]:
    """Mean and standard deviation of the seeds' figures, and these: `mean`, `std` (0 of one seed), `seeds`."""
    std = float(np.std(figures, ddof=1)) if len(figures) > 1 else 0.0
    return {"mean": float(np.mean(figures)), "std": std, "seeds": figures}


def auc(label: np.ndarray, prediction: np.ndarray) -> float:
    """Probability that a positive row is predicted higher than a negative one; not-a-number with one class only."""
    positive = labels(label) > 0
    prediction = scores("prediction", prediction, len(positive))
    wins, losses = int(positive.sum()), int((~positive).sum())
    if not wins or not losses:
        return float("nan")
    ranks = rankdata(prediction)  # ties share their mean rank
    return float((ranks[positive].sum() - wins * (wins + 1) / 2) / (wins * losses))


def gauc(label: np.ndarray, prediction: np.ndarray, user: np.ndarray) -> float:
    """AUC of each user's rows, averaged with the users' numbers of rows as weights (Zhou et al. 2018, equation 7).

    Users with one class only have no AUC and are left out.
    """
    label = labels(label)
    prediction, user = scores("prediction", prediction, len(label)), groups("user", user, len(label))
    order = np.lexsort((prediction, user))
    user, prediction, positive = user[order], prediction[order], label[order] > 0
    n = len(user)
    new_user = np.concatenate([[True], user[1:] != user[:-1]])
    new_value = new_user | np.concatenate([[True], prediction[1:] != prediction[:-1]])
    first = np.flatnonzero(new_value)
    last = np.concatenate([first[1:], [n]])
    who = np.cumsum(new_user) - 1  # (n,) users numbered from 0
    # Ranks within the user, from 1; tied rows share their mean.
    ranks = ((first + last + 1) / 2)[np.cumsum(new_value) - 1] - np.flatnonzero(new_user)[who]
    rows = np.bincount(who)
    wins = np.bincount(who, positive)
    pairs = wins * (rows - wins)
    won = np.bincount(who, ranks * positive) - wins * (wins + 1) / 2
    both = pairs > 0
    if not both.any():
        return float("nan")
    return float(np.average(won[both] / pairs[both], weights=rows[both]))


def log_loss(label: np.ndarray, prediction: np.ndarray) -> float:
    """Mean binary cross-entropy of probabilities."""
    label = labels(label)
    p = np.clip(probabilities("probability", prediction, len(label)).astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(label * np.log(p) + (1 - label) * np.log1p(-p)))


def normalised_entropy(label: np.ndarray, prediction: np.ndarray) -> float:
    """Log loss over that of always predicting the rows' mean label (He et al. 2014); below 1 is better than that."""
    label = labels(label)
    base = log_loss(label, np.full(len(label), label.mean()))
    return log_loss(label, prediction) / base if base > 1e-6 else float("nan")
