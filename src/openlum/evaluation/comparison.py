"""Paired tests of the difference between two methods on the same rows.

Sources: DeLong et al. 1988 (structural components of the AUC); Sun and Xu 2014 (their computation from midranks in n log n);
Obuchowski 1997 (rows of one user are dependent, so the user is the unit of the variance); Cameron, Gelbach and Miller 2011
(rows of one item are dependent too: the variance is the sum of the variances over users and over items, less the variance over
pairs of user and item).

Shapes: S seeds, n rows, C clusters (users, items, or pairs of both).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openlum.arguments.arrays import finite_numbers, groups, labels, scores
from openlum.arguments.values import shown, whole_number
from openlum.errors import InputError

SMALLEST_FREEDOM = 0.1
"""Fewest degrees of freedom of a test. With fewer, one user or one item has nearly all rows, and the test proves nothing."""


@dataclass(frozen=True)
class Comparison:
    """The difference of a metric between two methods, with its interval and p-value."""

    difference: float
    """The metric of `a` minus the metric of `b`."""
    ci95: tuple[float, float]
    """95 % confidence interval of the difference."""
    p_value: float
    """Two-sided p-value of the hypothesis of no difference."""

    def to_dict(self, a: str, b: str, metric: str = "auc") -> dict[str, Any]:
        """Return one entry of `comparisons` in `summary.json`: method `a` against method `b`."""
        figures = {"difference": self.difference, "ci95": list(self.ci95), "p_value": self.p_value}
        return {"a": a, "b": b, "metric": metric} | figures


def compare_auc(
    label: np.ndarray, user: np.ndarray, item: np.ndarray, a: Sequence[np.ndarray], b: Sequence[np.ndarray]
) -> Comparison:
    """Test the difference of the AUCs of two rankers, each averaged over its seeds.

    The interval covers three sources of variation: other users, other items, and other trainings.

    - *Trainings*: with two or more seeds, the variance includes the spread of the per-seed differences. With one seed, the
      interval ignores the variance between trainings. It always ignores the variance of a Large User Model that all seeds
      share. With two or three seeds the spread is itself uncertain, and the p-value is too low.
    - *Few users or items*, or users and items with most of the rows: the normal distribution of the papers would reject too
      often, so Student's t is used. Its degrees of freedom are the number of users (or items, if fewer) with the rarer label,
      less one. Each cluster is weighted by its share of these rows (Kish 1965: (sum n)^2 / sum n^2). The degrees of freedom of
      the seeds are combined with these as in Satterthwaite (1946).
    - *One user or one item* proves nothing about others: the interval is then -1 to 1.

    Args:
        label: (n,) 0 or 1.
        user: (n,) user ids.
        item: (n,) item ids.
        a: S arrays of predictions (n,), one per seed.
        b: the same for the other ranker, with the same seeds.
    """
    positive = labels(label) > 0
    user, item = groups("user", user, len(positive)), groups("item", item, len(positive))
    pairs = _checked_pairs(a, b, len(positive), scores)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return Comparison(float("nan"), (float("nan"), float("nan")), float("nan"))
    seed_components = [
        _structural_components(positive, x) - _structural_components(positive, y) for x, y in pairs
    ]  # S of (n,)
    seed_differences = np.array([components[positive].mean() for components in seed_components])  # (S,)
    components = np.mean(seed_components, axis=0)  # (n,)
    difference = float(seed_differences.mean())

    def variance(cluster: np.ndarray) -> float:
        """Return the variance over clusters; `cluster` (n,) numbers them from 0."""
        positive_sum = np.bincount(cluster, np.where(positive, components - difference, 0))  # (C,)
        negative_sum = np.bincount(cluster, np.where(positive, 0, components - difference))  # (C,)
        with_positive, with_negative = (len(np.unique(cluster[rows])) for rows in (positive, ~positive))
        return float(
            _small_sample_factor(with_positive) * (positive_sum**2).sum() / positives**2
            + _small_sample_factor(with_negative) * (negative_sum**2).sum() / negatives**2
            + _small_sample_factor(cluster.max() + 1)
            * 2
            * (positive_sum * negative_sum).sum()
            / (positives * negatives)
        )

    return _t_test(seed_differences, [positive, ~positive], user, item, variance)


def compare_means(user: np.ndarray, item: np.ndarray, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> Comparison:
    """Test the difference of two means over rows, such as NDCG@10 over users and their held-out items, as in `compare_auc`.

    Args:
        user: (n,) user ids.
        item: (n,) item ids.
        a: S arrays of the rows' values (n,), one per seed.
        b: the same for the other method, with the same seeds.
    """
    user = groups("user", user)
    item = groups("item", item, len(user))
    seed_differences = np.array([x - y for x, y in _checked_pairs(a, b, len(user), finite_numbers)])  # (S, n)
    centred = seed_differences.mean(0) - seed_differences.mean()  # (n,)

    def variance(cluster: np.ndarray) -> float:
        """Return the variance over clusters; `cluster` (n,) numbers them from 0."""
        factor = _small_sample_factor(cluster.max() + 1)
        return float(factor * (np.bincount(cluster, centred) ** 2).sum() / len(cluster) ** 2)

    return _t_test(seed_differences.mean(1), [np.ones(len(user), bool)], user, item, variance)


def mean_comparison(comparisons: Sequence[Comparison]) -> Comparison:
    """Test the mean difference of the same two methods over independent data sets, such as logs of several simulation seeds.

    The variance is the mean variance within a data set or, if it is larger, the variance of the differences between the data
    sets (random effects, DerSimonian and Laird 1986). The degrees of freedom are combined as in Satterthwaite (1946).

    Args:
        comparisons: S comparisons, one per data set. One alone is returned as it is.
    """
    from scipy import stats

    if not comparisons:
        raise InputError("there are no comparisons to average")
    if len(comparisons) == 1:
        return comparisons[0]
    differences = np.array([comparison.difference for comparison in comparisons])  # (S,)
    # A small data set has a wide interval of Student's t, so this error is rather too large than too small.
    errors = (
        np.array([comparison.ci95[1] - comparison.ci95[0] for comparison in comparisons]) / 2 / stats.norm.ppf(0.975)
    )
    within, between = float((errors**2).mean()), float(differences.var(ddof=1))
    difference, total, excess = float(differences.mean()), max(within, between), max(between - within, 0.0)
    if not total:
        return Comparison(difference, (difference, difference), 1.0 if difference == 0 else 0.0)
    freedom = (total / excess) ** 2 * (len(comparisons) - 1) if excess else np.inf
    error = float(np.sqrt(total / len(comparisons)))
    half_width = float(stats.t.ppf(0.975, freedom)) * error
    p_value = float(2 * stats.t.sf(abs(difference) / error, freedom))
    return Comparison(difference, (max(difference - half_width, -1.0), min(difference + half_width, 1.0)), p_value)


def bootstrap_auc_interval(
    label: np.ndarray,
    user: np.ndarray,
    item: np.ndarray,
    a: Sequence[np.ndarray],
    b: Sequence[np.ndarray],
    resamples: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % interval of `compare_auc` with variances from paired bootstraps over users, items, and pairs of both.

    200 resamples are enough for a variance (Efron and Tibshirani 1993, chapter 6).

    Args:
        label: (n,) 0 or 1.
        user: (n,) user ids.
        item: (n,) item ids.
        a: S arrays of predictions (n,), one per seed.
        b: the same for the other ranker, with the same seeds.
        resamples: number of draws with replacement of users, of items and of pairs.
        seed: seed of the draws.
    """
    positive = labels(label) > 0
    user, item = groups("user", user, len(positive)), groups("item", item, len(positive))
    resamples, seed = whole_number("resamples", resamples, 2), whole_number("seed", seed, 0)
    pairs = _checked_pairs(a, b, len(positive), scores)
    if positive.all() or not positive.any():
        return float("nan"), float("nan")
    aucs = [(_WeightedAuc(positive, x), _WeightedAuc(positive, y)) for x, y in pairs]

    def differences(weight: np.ndarray) -> np.ndarray:
        return np.array([x(weight) - y(weight) for x, y in aucs])  # (S,)

    def variance(cluster: np.ndarray) -> float:
        clusters = int(cluster.max()) + 1
        if clusters < 2:  # one cluster cannot be resampled
            return 0.0

        from scipy import stats

        def difference(drawn: np.ndarray) -> float:
            weight = np.bincount(drawn, minlength=clusters)[cluster].astype(np.float64)  # (n,)
            return float(differences(weight).mean())

        result = stats.bootstrap(
            (np.arange(clusters),), difference, n_resamples=resamples, batch=1, vectorized=False, method="percentile",
            rng=np.random.default_rng(seed),
        )  # fmt: skip
        return float(result.standard_error**2)

    return _t_test(differences(np.ones(len(label))), [positive, ~positive], user, item, variance).ci95


def _checked_pairs(
    a: Any, b: Any, rows: int, check: Callable[[str, Any, int], np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the arrays (n,) of two methods as pairs, one pair per seed; `check` raises if an array is wrong."""
    if not rows:
        raise InputError("there are no rows to compare two methods on")
    for name, arrays in (("a", a), ("b", b)):
        if not isinstance(arrays, Sequence | np.ndarray) or isinstance(arrays, str | bytes) or not len(arrays):
            raise InputError(f"{name}: expected a list of arrays, one per seed, found {shown(arrays)}")
    if len(a) != len(b):
        raise InputError(f"a has {len(a)} seeds and b has {len(b)}; give both the same seeds")
    names = ("prediction of seed {} of " + name for name in "ab")
    checked_a, checked_b = (
        [check(name.format(seed), array, rows) for seed, array in enumerate(arrays)]
        for name, arrays in zip(names, (a, b), strict=True)
    )
    return list(zip(checked_a, checked_b, strict=True))


def _t_test(
    seed_differences: np.ndarray,
    classes: list[np.ndarray],
    user: np.ndarray,
    item: np.ndarray,
    variance: Callable[[np.ndarray], float],
) -> Comparison:
    """Return a two-sided t-test and its 95 % interval from per-seed differences (S,).

    Args:
        seed_differences: (S,).
        classes: row masks (n,) bool, one per label; the degrees of freedom come from the class with the fewest clusters.
        user: (n,) user ids.
        item: (n,) item ids.
        variance: returns the variance of the mean difference over clusters (n,), which are numbered from 0.
    """
    from scipy import stats  # imported here: it takes half a second

    difference = float(seed_differences.mean())
    _, users = np.unique(user, return_inverse=True)
    _, items = np.unique(item, return_inverse=True)
    freedom = min(_effective_clusters(cluster[rows]) for cluster in (users, items) for rows in classes) - 1
    if freedom < SMALLEST_FREEDOM:
        return Comparison(difference, (-1.0, 1.0), 1.0)
    _, pairs = np.unique(users * (items.max() + 1) + items, return_inverse=True)
    user_variance, item_variance = variance(users), variance(items)
    row_variance = max(user_variance + item_variance - variance(pairs), user_variance, item_variance)
    seeds = len(seed_differences)
    training_variance = float(seed_differences.var(ddof=1)) / seeds if seeds > 1 else 0.0
    total = row_variance + training_variance
    if not total:
        return Comparison(difference, (difference, difference), 1.0 if difference == 0 else 0.0)
    freedom = total**2 / (row_variance**2 / freedom + training_variance**2 / max(seeds - 1, 1))
    error = float(np.sqrt(total))
    half_width = float(stats.t.ppf(0.975, freedom)) * error
    p_value = float(2 * stats.t.sf(abs(difference) / error, freedom))
    return Comparison(difference, (max(difference - half_width, -1.0), min(difference + half_width, 1.0)), p_value)


class _WeightedAuc:
    """The AUC of one prediction as a function of the rows' weights. The rows are sorted once.

    Args:
        positive: (n,) bool.
        prediction: (n,).
    """

    def __init__(self, positive: np.ndarray, prediction: np.ndarray) -> None:
        self.order = np.argsort(prediction, kind="stable")
        ordered = prediction[self.order]
        self.positive = positive[self.order]
        self.tie_start = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))  # of each run of ties

    def __call__(self, weight: np.ndarray) -> float:
        """Return the AUC with weights (n,); ties count half."""
        weight = weight[self.order]
        positives = np.add.reduceat(weight * self.positive, self.tie_start)
        negatives = np.add.reduceat(weight * ~self.positive, self.tie_start)
        below = np.cumsum(negatives) - negatives
        ordered_pairs = (positives * (below + negatives / 2)).sum()
        return float(ordered_pairs / max(positives.sum() * negatives.sum(), 1e-12))


def _structural_components(positive: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return the structural components of the AUC, (n,): V10 at positive rows and V01 at negative rows."""
    from scipy import stats

    ranks = stats.rankdata(prediction)
    components = np.empty(len(prediction))
    positives, negatives = positive.sum(), (~positive).sum()
    components[positive] = (ranks[positive] - stats.rankdata(prediction[positive])) / negatives
    components[~positive] = 1 - (ranks[~positive] - stats.rankdata(prediction[~positive])) / positives
    return components


def _effective_clusters(cluster: np.ndarray) -> float:
    """Return the effective number of clusters of rows (n,): the number of equally large clusters with the same weight (Kish)."""
    rows = np.bincount(cluster).astype(np.float64)
    return float(rows.sum() ** 2 / (rows**2).sum())


def _small_sample_factor(clusters: int) -> float:
    """Return the small-sample correction of a variance over clusters."""
    return clusters / max(clusters - 1, 1)
