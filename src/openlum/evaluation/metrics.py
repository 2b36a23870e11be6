"""Metrics of predictions: AUC, GAUC, log loss and normalised entropy.

Every metric is computed over all rows, never over a sample.

Arrays may come from any library and have any number format. Labels are 0 or 1, predictions are numbers, probabilities lie between
0 and 1, and no value is missing. Otherwise the metric raises an `InputError` that names the index of the wrong value.

Shapes: n rows.
"""

from typing import Any

import numpy as np

from openlum.arguments.arrays import groups, labels, probabilities, scores


def metrics(label: np.ndarray, prediction: np.ndarray, user: np.ndarray, calibrated: np.ndarray) -> dict[str, float]:
    """Return AUC and GAUC of predictions (n,), and log loss and normalised entropy of the calibrated probabilities (n,)."""
    return {
        "auc": auc(label, prediction),
        "gauc": gauc(label, prediction, user),
        "logloss": log_loss(label, calibrated),
        "ne": normalised_entropy(label, calibrated),
    }


def seed_statistics(values: list[float]) -> dict[str, Any]:
    """Return `mean` and `std` of one metric over the seeds (`std` is 0 for one seed), and the `seeds`' own values."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std, "seeds": values}


def auc(label: np.ndarray, prediction: np.ndarray) -> float:
    """Return the probability that a positive row has a higher prediction than a negative row.

    Ties count half. With labels of one class only the AUC is not-a-number.
    """
    from scipy.stats import rankdata  # imported here: it takes half a second

    positive = labels(label) > 0
    prediction = scores("prediction", prediction, len(positive))
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(prediction)  # ties share their mean rank
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def gauc(label: np.ndarray, prediction: np.ndarray, user: np.ndarray) -> float:
    """Return the mean of the users' own AUCs, weighted by the users' numbers of rows (Zhou et al. 2018, equation 7).

    Users with labels of one class only have no AUC and are left out. If no user has an AUC, the result is not-a-number.
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
    user_index = np.cumsum(new_user) - 1  # (n,) users numbered from 0
    # Ranks within the user, from 1; tied rows share their mean rank.
    ranks = ((first + last + 1) / 2)[np.cumsum(new_value) - 1] - np.flatnonzero(new_user)[user_index]
    rows = np.bincount(user_index)
    positives = np.bincount(user_index, positive)
    pairs = positives * (rows - positives)
    ordered_pairs = np.bincount(user_index, ranks * positive) - positives * (positives + 1) / 2
    has_both_classes = pairs > 0
    if not has_both_classes.any():
        return float("nan")
    user_auc = ordered_pairs[has_both_classes] / pairs[has_both_classes]
    return float(np.average(user_auc, weights=rows[has_both_classes]))


def log_loss(label: np.ndarray, prediction: np.ndarray) -> float:
    """Return the mean binary cross-entropy of probabilities (n,)."""
    label = labels(label)
    p = np.clip(probabilities("probability", prediction, len(label)).astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(label * np.log(p) + (1 - label) * np.log1p(-p)))


def normalised_entropy(label: np.ndarray, prediction: np.ndarray) -> float:
    """Return the log loss divided by the log loss of a constant prediction, the mean label of the rows (He et al. 2014).

    A value below 1 is better than the constant prediction.
    """
    label = labels(label)
    base = log_loss(label, np.full(len(label), label.mean()))
    return log_loss(label, prediction) / base if base > 1e-6 else float("nan")
