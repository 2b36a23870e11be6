"""Is one method really better than another? Paired tests on the same rows.

DeLong et al. 1988 (structural components of the AUC), Sun and Xu 2014 (by midranks, in n log n), Obuchowski 1997 (rows of
one user depend on each other, so the user is the unit), Cameron, Gelbach and Miller 2011 (so do those of one item: the variance
over users and that over items, less that over pairs of both).

Shapes: S seeds, n rows, m positive rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import bootstrap, rankdata, t

from openlum.arguments.arrays import finite_numbers, groups, labels, scores
from openlum.arguments.values import shown, whole_number
from openlum.errors import InputError

SMALLEST_FREEDOM = 0.1
"""With less, one user or item has all but a few of the rows."""


@dataclass(frozen=True)
class Comparison:
    """The difference of a metric of two methods."""

    difference: float
    """Metric of a less that of b."""
    ci95: tuple[float, float]
    """95 % confidence interval of the difference."""
    p_value: float
    """Two-sided, of no difference."""

    def to_dict(self, a: str, b: str, metric: str = "auc") -> dict[str, Any]:
        """One of the `comparisons` of `summary.json`: method `a` against method `b`."""
        figures = {"difference": self.difference, "ci95": list(self.ci95), "p_value": self.p_value}
        return {"a": a, "b": b, "metric": metric} | figures


def compare_auc(
    label: np.ndarray, user: np.ndarray, item: np.ndarray, a: Sequence[np.ndarray], b: Sequence[np.ndarray]
) -> Comparison:
    """Test the difference of the AUCs of two rankers, each averaged over its seeds.

    The interval says what other *users and items* of the same kind, and other *trainings*, would do to the difference. Trainings
    count from two seeds on, by the spread of the seeds' differences; with one seed the rankers are taken as they are, and a Large
    User Model that all seeds share always is. With two or three seeds that spread is itself uncertain, and p is too low. With few
    users or items, or some that have most of the rows, the normal distribution of the papers would find too much: Student's t
    takes its place, with one degree of freedom less than there are users (or items, if fewer) with the rarer kind of label, each
    counted by its share of those rows (Kish 1965: (sum n)^2 / sum n^2); those of the seeds are joined with these as Satterthwaite
    (1946) does. One user says nothing of others, nor one item: the interval is then all that is possible.

    Args:
        label: (n,) 0 or 1.
        user: (n,) user ids.
        item: (n,) item ids.
        a: S arrays of predictions (n,), one a seed.
        b: the same for the other ranker, of the same seeds.
    """
    positive = labels(label) > 0
    user, item = groups("user", user, len(positive)), groups("item", item, len(positive))
    pairs = _paired(a, b, len(positive), scores)
    m, rest = int(positive.sum()), int((~positive).sum())
    if not m or not rest:
        return Comparison(float("nan"), (float("nan"), float("nan")), float("nan"))
    by_seed = [_components(positive, x) - _components(positive, y) for x, y in pairs]  # S of (n,)
    of_seeds = np.array([won[positive].mean() for won in by_seed])  # (S,)
    won = np.mean(by_seed, axis=0)  # (n,)
    difference = float(of_seeds.mean())

    def variance(who: np.ndarray) -> float:
        """Over clusters, (n,) of them numbered from 0."""
        of_positive = np.bincount(who, np.where(positive, won - difference, 0))  # (clusters,)
        of_negative = np.bincount(who, np.where(positive, 0, won - difference))
        with_positive, with_negative = (len(np.unique(who[where])) for where in (positive, ~positive))
        return float(
            _correction(with_positive) * (of_positive**2).sum() / m**2
            + _correction(with_negative) * (of_negative**2).sum() / rest**2
            + _correction(who.max() + 1) * 2 * (of_positive * of_negative).sum() / (m * rest)
        )

    return _test(of_seeds, [positive, ~positive], user, item, variance)


def compare_means(user: np.ndarray, item: np.ndarray, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> Comparison:
    """The same test of the difference of two means over rows, such as NDCG@10 over users and their held-out items.

    Args:
        user: (n,) user ids.
        item: (n,) item ids.
        a: S arrays of the rows' figures (n,), one a seed.
        b: the same for the other method, of the same seeds.
    """
    user = groups("user", user)
    item = groups("item", item, len(user))
    by_seed = np.array([x - y for x, y in _paired(a, b, len(user), finite_numbers)])  # (S, n)
    of_rows = by_seed.mean(0) - by_seed.mean()  # (n,)

    def variance(who: np.ndarray) -> float:
        """Over clusters, (n,) of them numbered from 0."""
        return float(_correction(who.max() + 1) * (np.bincount(who, of_rows) ** 2).sum() / len(who) ** 2)

    return _test(by_seed.mean(1), [np.ones(len(user), bool)], user, item, variance)


def bootstrap_auc(
    label: np.ndarray,
    user: np.ndarray,
    item: np.ndarray,
    a: Sequence[np.ndarray],
    b: Sequence[np.ndarray],
    resamples: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """The same 95 % interval, with the variance over users, items and pairs of both by paired bootstraps of these.

    As many draws as a variance needs (Efron and Tibshirani 1993, chapter 6).

    Args:
        label: (n,) 0 or 1.
        user: (n,) user ids.
        item: (n,) item ids.
        a: S arrays of predictions (n,), one a seed.
        b: the same for the other ranker, of the same seeds.
        resamples: how many times users, items and pairs are drawn with replacement.
        seed: of the draws.
    """
    positive = labels(label) > 0
    user, item = groups("user", user, len(positive)), groups("item", item, len(positive))
    resamples, seed = whole_number("resamples", resamples, 2), whole_number("seed", seed, 0)
    pairs = _paired(a, b, len(positive), scores)
    if positive.all() or not positive.any():
        return float("nan"), float("nan")
    aucs = [(_WeightedAuc(positive, x), _WeightedAuc(positive, y)) for x, y in pairs]

    def differences(weight: np.ndarray) -> np.ndarray:
        return np.array([x(weight) - y(weight) for x, y in aucs])  # (S,)

    def variance(who: np.ndarray) -> float:
        clusters = int(who.max()) + 1
        if clusters < 2:  # nothing to draw from
            return 0.0

        def difference(drawn: np.ndarray) -> float:
            weight = np.bincount(drawn, minlength=clusters)[who].astype(np.float64)  # (n,)
            return float(differences(weight).mean())

        found = bootstrap(
            (np.arange(clusters),), difference, n_resamples=resamples, batch=1, vectorized=False, method="percentile",
            rng=np.random.default_rng(seed),
        )  # fmt: skip
        return float(found.standard_error**2)

    return _test(differences(np.ones(len(label))), [positive, ~positive], user, item, variance).ci95


def _paired(
    a: Any, b: Any, rows: int, kind: Callable[[str, Any, int], np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The arrays (n,) of two methods, checked by `kind`, seed by seed."""
    if not rows:
        raise InputError("there are no rows to compare two methods on")
    for name, every in (("a", a), ("b", b)):
        if not isinstance(every, Sequence | np.ndarray) or isinstance(every, str | bytes) or not len(every):
            raise InputError(f"{name}: expected a list of arrays, one a seed, found {shown(every)}")
    if len(a) != len(b):
        raise InputError(f"a has {len(a)} seeds and b {len(b)}; give the same seeds of both")
    names = ("prediction of seed {} of " + name for name in "ab")
    first, second = (
        [kind(name.format(seed), one, rows) for seed, one in enumerate(every)]
        for name, every in zip(names, (a, b), strict=True)
    )
    return list(zip(first, second, strict=True))


def _test(
    of_seeds: np.ndarray,
    classes: list[np.ndarray],
    user: np.ndarray,
    item: np.ndarray,
    variance: Callable[[np.ndarray], float],
) -> Comparison:
    """Differences of seeds (S,), and what gives their mean's variance over clusters (n,), to a test of no difference.

    `classes` are (n,) bool: the rows of each kind that there must be enough of."""
    difference = float(of_seeds.mean())
    _, users = np.unique(user, return_inverse=True)
    _, items = np.unique(item, return_inverse=True)
    freedom = min(_effective(who[where]) for who in (users, items) for where in classes) - 1
    if freedom < SMALLEST_FREEDOM:
        return Comparison(difference, (-1.0, 1.0), 1.0)
    _, pairs = np.unique(users * (items.max() + 1) + items, return_inverse=True)
    of_users, of_items = variance(users), variance(items)
    of_rows = max(of_users + of_items - variance(pairs), of_users, of_items)
    seeds = len(of_seeds)
    of_trainings = float(of_seeds.var(ddof=1)) / seeds if seeds > 1 else 0.0
    total = of_rows + of_trainings
    if not total:
        return Comparison(difference, (difference, difference), 1.0 if difference == 0 else 0.0)
    freedom = total**2 / (of_rows**2 / freedom + of_trainings**2 / max(seeds - 1, 1))
    error = float(np.sqrt(total))
    reach = float(t.ppf(0.975, freedom)) * error
    p_value = float(2 * t.sf(abs(difference) / error, freedom))
    return Comparison(difference, (max(difference - reach, -1.0), min(difference + reach, 1.0)), p_value)


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


def _components(positive: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Structural components of the AUC: V10 at positive rows, V01 at negative ones, (n,)."""
    ranks = rankdata(prediction)
    out = np.empty(len(prediction))
    m, rest = positive.sum(), (~positive).sum()
    out[positive] = (ranks[positive] - rankdata(prediction[positive])) / rest
    out[~positive] = 1 - (ranks[~positive] - rankdata(prediction[~positive])) / m
    return out


def _effective(who: np.ndarray) -> float:
    """How many clusters with equally many rows would be as many as those of some rows, (n,), are."""
    rows = np.bincount(who).astype(np.float64)
    return float(rows.sum() ** 2 / (rows**2).sum())


def _correction(clusters: int) -> float:
    """Small-sample factor of a variance over clusters."""
    return clusters / max(clusters - 1, 1)
