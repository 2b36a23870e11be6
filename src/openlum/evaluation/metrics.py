"""Metrics of predictions: AUC, GAUC, AUC and NDCG within a request, log loss and normalised entropy.

Every metric is computed over all rows, never over a sample.

Arrays may come from any library and have any number format. Labels are 0 or 1, predictions are numbers, probabilities lie between
0 and 1, and no value is missing. Otherwise the metric raises an `InputError` that names the index of the wrong value.

Shapes: n rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from openlum.arguments.arrays import groups, labels, probabilities, scores

NDCG_AT = 10
"""Ranks that count in the NDCG within a request, as in the evaluation of MIND (Wu et al. 2020)."""


def metrics(
    label: np.ndarray,
    prediction: np.ndarray,
    user: np.ndarray,
    calibrated: np.ndarray,
    request: np.ndarray | None = None,
) -> dict[str, float]:
    """Return AUC and GAUC of predictions (n,), and log loss and normalised entropy of the calibrated probabilities (n,).

    With the requests of the rows, (n,), the result begins with the AUC and the NDCG within a request.
    """
    within = {} if request is None else request_metrics(label, prediction, request)
    return within | {
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
    group = _ranked_groups(label, prediction, "user", user)
    user_auc, rows = group.auc()
    return float(np.average(user_auc, weights=rows)) if len(rows) else float("nan")


def request_metrics(label: np.ndarray, prediction: np.ndarray, request: np.ndarray) -> dict[str, float]:
    """Return `request_gauc` and `request_ndcg`: the AUC and the NDCG at 10 within a request, as means over requests.

    The rows of a request, numbers or texts (n,), were candidates together. Requests with labels of one class only are left out,
    and every other request counts the same, as in the evaluation of MIND (Wu et al. 2020). Candidates with equal predictions
    share the mean of their discounts. If no request has both labels, the results are not-a-number.
    """
    group = _ranked_groups(label, prediction, "request", request)
    request_auc, rows = group.auc()
    if not len(rows):
        return {"request_gauc": float("nan"), "request_ndcg": float("nan")}
    return {"request_gauc": float(request_auc.mean()), "request_ndcg": float(group.ndcg(NDCG_AT).mean())}


@dataclass(frozen=True)
class _RankedGroups:
    """Rows by group, and by ascending prediction within a group. G groups; H of them have labels of both classes."""

    positive: np.ndarray
    """(n,) whether the label is 1."""
    group: np.ndarray
    """(n,) groups numbered from 0."""
    first: np.ndarray
    """(n,) index of the first row of the same group with the same prediction."""
    last: np.ndarray
    """(n,) index one past the last of these rows."""

    @property
    def rows(self) -> np.ndarray:
        """(G,) number of rows."""
        return np.bincount(self.group)

    @property
    def positives(self) -> np.ndarray:
        """(G,) number of positive rows."""
        return np.bincount(self.group, self.positive)

    @property
    def has_both_classes(self) -> np.ndarray:
        """(G,) whether a group has positive and negative rows."""
        return (self.positives > 0) & (self.positives < self.rows)

    def auc(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the AUC (H,) and the number of rows (H,) of the groups with both classes."""
        start = np.cumsum(self.rows) - self.rows  # (G,)
        # Ranks within the group, from 1; tied rows share their mean rank.
        ranks = (self.first + self.last + 1) / 2 - start[self.group]
        positives, chosen = self.positives, self.has_both_classes
        ordered_pairs = np.bincount(self.group, ranks * self.positive) - positives * (positives + 1) / 2
        pairs = positives * (self.rows - positives)
        return ordered_pairs[chosen] / pairs[chosen], self.rows[chosen]

    def ndcg(self, at: int) -> np.ndarray:
        """Return the NDCG at a rank of the groups with both classes, (H,)."""
        discount = 1 / np.log2(2 + np.arange(max(self.rows.max(), at)))
        discount[at:] = 0
        up_to = np.concatenate([[0], np.cumsum(discount)])  # sum of the discounts of the first ranks
        stop = np.cumsum(self.rows)[self.group]  # the best prediction of a group is its last row
        mean_discount = (up_to[stop - self.first] - up_to[stop - self.last]) / (self.last - self.first)
        chosen = self.has_both_classes
        gain = np.bincount(self.group, mean_discount * self.positive)
        return gain[chosen] / up_to[self.positives[chosen].astype(int)]


def _ranked_groups(label: np.ndarray, prediction: np.ndarray, name: str, group: np.ndarray) -> _RankedGroups:
    """Return checked rows in the order of their groups and predictions; `name` is the argument of the groups, for messages."""
    label = labels(label)
    prediction, group = scores("prediction", prediction, len(label)), groups(name, group, len(label))
    order = np.lexsort((prediction, group))
    group, prediction = group[order], prediction[order]
    new_group = np.concatenate([[True], group[1:] != group[:-1]])
    new_value = new_group | np.concatenate([[True], prediction[1:] != prediction[:-1]])
    start = np.flatnonzero(new_value)
    value = np.cumsum(new_value) - 1  # (n,) distinct predictions of groups, numbered from 0
    return _RankedGroups(
        positive=label[order] > 0,
        group=np.cumsum(new_group) - 1,
        first=start[value],
        last=np.concatenate([start[1:], [len(group)]])[value],
    )


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
