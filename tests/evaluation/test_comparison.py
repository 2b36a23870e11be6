import numpy as np
import pytest
from scipy.stats import binom, ttest_1samp, ttest_rel
from sklearn.metrics import roc_auc_score

from openlum.errors import InputError
from openlum.evaluation.comparison import (
    Comparison,
    _WeightedAuc,
    bootstrap_auc_interval,
    compare_auc,
    compare_means,
    mean_comparison,
)
from openlum.evaluation.metrics import auc


def draw(rng: np.random.Generator, users: int = 60, rows: int = 8, gain: float = 0.0) -> tuple[np.ndarray, ...]:
    """Return label, user and two predictions. Rows of a user share a part of the label's cause and of each prediction's error."""
    user = np.repeat(np.arange(users), rows)
    taste = rng.normal(size=users)[user] + rng.normal(size=users * rows)
    label = (taste + rng.normal(size=len(user)) > 0).astype(float)
    a, b = (rng.normal(size=users)[user] + rng.normal(size=len(user)) for _ in range(2))
    return label, user, (1 + gain) * taste + a, taste + b


def own_items(user: np.ndarray) -> np.ndarray:
    """Return a different item for every row, so that rows are not dependent by item."""
    return np.arange(len(user))


def draw_both(rng: np.random.Generator, users: int = 80, items: int = 30) -> tuple[np.ndarray, ...]:
    """Return label, user, item and two predictions; rows of a user are dependent, rows of an item far more so."""
    user, item = np.repeat(np.arange(users), 10), rng.integers(0, items, users * 10)
    cause = rng.normal(size=users)[user] + rng.normal(size=items)[item] + rng.normal(size=len(user))
    label = (cause > 0).astype(float)
    a, b = (cause + rng.normal(size=users)[user] + 2 * rng.normal(size=items)[item] for _ in range(2))
    return label, user, item, a, b


def test_a_true_null_is_rejected_at_about_the_nominal_rate() -> None:
    rng, runs = np.random.default_rng(0), 300
    rejected = 0
    for _ in range(runs):
        label, user, a, b = draw(rng)
        rejected += compare_auc(label, user, own_items(user), [a], [b]).p_value < 0.05
    assert binom.ppf(0.001, runs, 0.035) <= rejected <= binom.ppf(0.999, runs, 0.07)


@pytest.mark.parametrize("users", [2, 3, 5, 10])
def test_few_users_rarely_reject_a_true_null(users: int) -> None:
    rng, runs = np.random.default_rng(users), 300
    comparisons = [
        compare_auc(label, user, own_items(user), [a], [b])
        for label, user, a, b in (draw(rng, users, 40) for _ in range(runs))
    ]
    assert sum(comparison.p_value < 0.05 for comparison in comparisons) <= binom.ppf(0.999, runs, 0.09)


def test_a_user_with_most_rows_counts_as_one_user() -> None:
    rng, runs, rejected = np.random.default_rng(7), 400, 0
    for _ in range(runs):
        label, user, a, b = draw(rng, 40, 20)
        owner = np.where(user < 24, 0, user)  # one user has three fifths of the rows
        order = np.lexsort((rng.random(len(user)), owner))
        rejected += compare_auc(label[order], owner[order], own_items(owner), [a[order]], [b[order]]).p_value < 0.05
    assert rejected <= binom.ppf(0.999, runs, 0.06)


def test_rows_of_one_item_are_dependent() -> None:
    """Clustered by user only, a true null is rejected far too often; by user and item, at about the nominal rate."""
    rng, runs, by_both, by_user = np.random.default_rng(2), 300, 0, 0
    for _ in range(runs):
        label, user, item, a, b = draw_both(rng)
        by_both += compare_auc(label, user, item, [a], [b]).p_value < 0.05
        by_user += compare_auc(label, user, own_items(user), [a], [b]).p_value < 0.05
    assert by_user / runs > 0.2
    assert binom.ppf(0.001, runs, 0.03) <= by_both <= binom.ppf(0.999, runs, 0.07)


def test_users_and_items_are_interchangeable() -> None:
    label, user, item, a, b = draw_both(np.random.default_rng(3))
    original, swapped = compare_auc(label, user, item, [a], [b]), compare_auc(label, item, user, [a], [b])
    assert (original.p_value, *original.ci95) == pytest.approx((swapped.p_value, *swapped.ci95))


@pytest.mark.parametrize(("seeds", "nominal"), [(5, True), (1, False)])
def test_several_seeds_account_for_the_variance_of_trainings(seeds: int, nominal: bool) -> None:
    """Two rankers of the same kind, whose trainings vary in quality. One seed rejects a true null too often, five do not."""
    rng, runs, rejected = np.random.default_rng(seeds), 300, 0
    for _ in range(runs):
        user, signal = np.repeat(np.arange(400), 5), rng.normal(size=2000)
        label = (signal + rng.normal(size=2000) > 0).astype(float)

        def train(signal: np.ndarray = signal) -> np.ndarray:
            return rng.uniform(0.5, 1.5) * signal + rng.normal(size=2000)

        a, b = ([train() for _ in range(seeds)] for _ in range(2))
        rejected += compare_auc(label, user, own_items(user), a, b).p_value < 0.05
    assert (rejected <= binom.ppf(0.999, runs, 0.06)) == nominal


def test_means_with_a_user_per_row_equal_students_paired_test() -> None:
    rng = np.random.default_rng(0)
    a, b, user = rng.normal(0.1, size=300), rng.normal(size=300), np.arange(300)
    comparison, expected = compare_means(user, user, [a], [b]), ttest_rel(a, b)
    assert (comparison.difference, comparison.p_value) == pytest.approx(((a - b).mean(), expected.pvalue))
    assert comparison.ci95 == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_items_whose_rows_cancel_do_not_narrow_the_interval() -> None:
    """Each item has two rows with opposite values: there is no variance over items, but there is over users."""
    gain = np.random.default_rng(0).normal(size=150)
    a, user, item = np.concatenate([gain, -gain]) + 0.1, np.arange(300), np.tile(np.arange(150), 2)
    expected = np.diff(ttest_rel(a, np.zeros(300)).confidence_interval(0.95))[0]
    for first, second in ((user, item), (item, user)):
        low, high = compare_means(first, second, [a], [np.zeros(300)]).ci95
        assert high - low == pytest.approx(expected, rel=0.01)  # slightly wider, because there are fewer items


def test_with_variance_over_seeds_only_the_test_is_students_over_seeds() -> None:
    seed_means = [0.01, 0.03, 0.02, 0.06]
    a, b = [np.full(500, mean) for mean in seed_means], [np.zeros(500)] * 4
    comparison, expected = compare_means(np.arange(500), np.arange(500), a, b), ttest_1samp(seed_means, 0)
    assert comparison.p_value == pytest.approx(expected.pvalue)
    assert comparison.ci95 == pytest.approx(tuple(expected.confidence_interval(0.95)))


@pytest.mark.parametrize("seeds", [1, 4])
def test_means_over_few_items_and_seeds_reject_a_true_null_at_about_the_nominal_rate(seeds: int) -> None:
    rng, runs, rejected, by_user = np.random.default_rng(seeds), 400, 0, 0
    user = np.arange(400)
    for _ in range(runs):
        item = rng.integers(0, 60, 400)
        item_effect = rng.normal(size=60)[item]
        a, b = ([item_effect * side + rng.normal(size=400) for _ in range(seeds)] for side in (1, -1))
        rejected += compare_means(user, item, a, b).p_value < 0.05
        by_user += compare_means(user, user, a, b).p_value < 0.05
    assert binom.ppf(0.001, runs, 0.035) <= rejected <= binom.ppf(0.999, runs, 0.065)
    assert by_user / runs > 0.2


def test_one_user_proves_nothing() -> None:
    label, user, a, b = draw(np.random.default_rng(0), users=1, rows=50)
    comparison = compare_auc(label, user, own_items(user), [a], [b])
    assert (comparison.ci95, comparison.p_value) == ((-1, 1), 1)
    assert bootstrap_auc_interval(label, user, own_items(user), [a], [b]) == (-1, 1)


def test_one_item_proves_nothing() -> None:
    label, user, a, b = draw(np.random.default_rng(0))
    comparison = compare_auc(label, user, np.zeros_like(user), [a], [b])
    assert (comparison.ci95, comparison.p_value) == ((-1, 1), 1)


def test_rows_of_one_user_are_dependent() -> None:
    """If the rows count as independent, a true null is rejected far too often."""
    rng, runs = np.random.default_rng(1), 150
    rejected = 0
    for _ in range(runs):
        label, user, a, b = draw(rng, users=30, rows=20)
        rejected += compare_auc(label, np.arange(len(user)), own_items(user), [a], [b]).p_value < 0.05
    assert rejected / runs > 0.15


@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_a_bootstrap_over_users(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label, user, a, b = draw(rng, users=100, gain=0.3)
    comparison = compare_auc(label, user, own_items(user), [a], [b])
    user_rows = [np.flatnonzero(user == user_id) for user_id in range(100)]
    differences = []
    for _ in range(600):
        rows = np.concatenate([user_rows[user_id] for user_id in rng.integers(100, size=100)])
        differences.append(auc(label[rows], a[rows]) - auc(label[rows], b[rows]))
    assert comparison.difference == pytest.approx(roc_auc_score(label, a) - roc_auc_score(label, b))
    assert (comparison.ci95[1] - comparison.ci95[0]) / 3.92 == pytest.approx(np.std(differences), rel=0.15)


def test_the_sign_shows_the_better_method_and_swapping_reverses_it() -> None:
    label, user, a, b = draw(np.random.default_rng(2), gain=2.0)
    original, swapped = (
        compare_auc(label, user, own_items(user), [a], [b]),
        compare_auc(label, user, own_items(user), [b], [a]),
    )
    assert original.difference > 0
    assert original.p_value < 0.01
    assert original.ci95[0] > 0
    assert (swapped.difference, swapped.p_value) == pytest.approx((-original.difference, original.p_value))
    assert swapped.ci95 == pytest.approx((-original.ci95[1], -original.ci95[0]))


def test_seeds_are_averaged() -> None:
    label, user, a, b = draw(np.random.default_rng(3))
    _, _, c, d = draw(np.random.default_rng(4))
    mean_a = (roc_auc_score(label, a) + roc_auc_score(label, c)) / 2
    comparison = compare_auc(label, user, own_items(user), [a, c], [b, d])
    assert comparison.difference == pytest.approx(mean_a - (roc_auc_score(label, b) + roc_auc_score(label, d)) / 2)


def test_a_ranker_does_not_differ_from_itself() -> None:
    label, user, a, _ = draw(np.random.default_rng(5))
    comparison = compare_auc(label, user, own_items(user), [a], [a])
    assert (comparison.difference, comparison.ci95, comparison.p_value) == (0, (0, 0), 1)


def test_one_class_has_no_comparison() -> None:
    rows = np.ones(4), np.arange(4), np.arange(4), [np.arange(4)], [np.arange(4)]
    assert np.isnan(compare_auc(*rows).p_value)
    assert np.isnan(bootstrap_auc_interval(*rows)).all()


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_bootstrap_agrees_with_the_test_if_items_repeat(seeds: int) -> None:
    rng = np.random.default_rng(8)
    label, user, item, first, second = draw_both(rng, users=400, items=200)
    a, b = ([x + 0.3 * rng.normal(size=len(x)) for _ in range(seeds)] for x in (first, second))
    comparison, interval = compare_auc(label, user, item, a, b), bootstrap_auc_interval(label, user, item, a, b)
    assert interval == pytest.approx(comparison.ci95, abs=0.15 * (comparison.ci95[1] - comparison.ci95[0]))
    by_user = compare_auc(label, user, own_items(user), a, b).ci95
    assert interval[1] - interval[0] > 1.3 * (by_user[1] - by_user[0])


def test_the_bootstrap_accounts_for_the_variance_of_trainings() -> None:
    """The seeds differ by far more than the sampling of rows explains."""
    label, user, first, second = draw(np.random.default_rng(6), users=500)
    a, b = ([first + noise * second for noise in (0.0, 1.0, 3.0)], [first] * 3)
    comparison, interval = (
        compare_auc(label, user, own_items(user), a, b),
        bootstrap_auc_interval(label, user, own_items(user), a, b),
    )
    assert interval == pytest.approx(comparison.ci95, abs=0.05 * (comparison.ci95[1] - comparison.ci95[0]))
    assert comparison.ci95[1] - comparison.ci95[0] > 2 * np.std([auc(label, prediction) for prediction in a])


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_bootstrap_agrees_with_the_test_for_many_users(seeds: int) -> None:
    rng = np.random.default_rng(6)
    label, user, first, second = draw(rng, users=500, gain=0.3)
    a, b = ([x + 0.3 * rng.normal(size=len(x)) for _ in range(seeds)] for x in (first, second))
    comparison, bootstrap_interval = (
        compare_auc(label, user, own_items(user), a, b),
        bootstrap_auc_interval(label, user, own_items(user), a, b),
    )
    width = comparison.ci95[1] - comparison.ci95[0]
    assert bootstrap_interval == pytest.approx(comparison.ci95, abs=0.15 * width)
    assert bootstrap_auc_interval(label, user, own_items(user), a, b) == bootstrap_interval


def test_the_bootstrap_draws_users_not_rows() -> None:
    """If every row counts as a user, the interval is too narrow, as in the test."""
    label, user, a, b = draw(np.random.default_rng(1), users=40, rows=40)
    by_user, by_row = (
        bootstrap_auc_interval(label, cluster, own_items(cluster), [a], [b]) for cluster in (user, np.arange(len(user)))
    )
    assert by_user[1] - by_user[0] > 1.3 * (by_row[1] - by_row[0])


def test_the_bootstrap_of_a_ranker_against_itself_is_zero() -> None:
    label, user, a, _ = draw(np.random.default_rng(5))
    assert bootstrap_auc_interval(label, user, own_items(user), [a], [a]) == (0, 0)


@pytest.mark.parametrize("decimals", [0, 1, 9])
@pytest.mark.parametrize("seed", range(3))
def test_weighted_auc_equals_an_independent_implementation(seed: int, decimals: int) -> None:
    """Weights as in the bootstrap: counts, with zero for a cluster that was not drawn. Fewer decimals mean more ties."""
    rng = np.random.default_rng(seed)
    prediction = rng.random(200).round(decimals)
    label = rng.random(200) < prediction
    weighted_auc = _WeightedAuc(label, prediction)
    for weight in (np.ones(200), rng.integers(0, 4, 200).astype(float), rng.random(200)):
        assert weighted_auc(weight) == pytest.approx(roc_auc_score(label, prediction, sample_weight=weight))


def logs_without_gain(rng: np.random.Generator, logs: int, spread: float) -> list[Comparison]:
    """Return the comparisons of two equal methods on logs of their own; the gain differs from log to log with mean 0."""
    comparisons = []
    for gain in spread * rng.normal(size=logs):
        a, b = rng.normal(size=(2, 400))
        comparisons.append(compare_means(np.arange(400), np.arange(400), [a + gain], [b]))
    return comparisons


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_a_mean_over_logs_rejects_a_true_null_at_about_the_nominal_rate(spread: float) -> None:
    rng, runs = np.random.default_rng(3), 400
    rejected = sum(mean_comparison(logs_without_gain(rng, 3, spread)).p_value < 0.05 for _ in range(runs))
    assert rejected <= binom.ppf(0.999, runs, 0.07)
    if not spread:
        assert rejected >= binom.ppf(0.001, runs, 0.03)


def test_a_mean_over_logs_has_the_interval_of_their_average() -> None:
    low, high = (Comparison(gain, (gain - 0.02, gain + 0.02), 0.1) for gain in (0.01, 0.02))
    mean = mean_comparison([low, high, low, high])
    assert mean.difference == pytest.approx(0.015)
    assert mean.ci95 == pytest.approx((0.005, 0.025))  # half as wide as the intervals of four logs
    assert mean_comparison([low]) == low
    far = mean_comparison([low, Comparison(0.5, (0.48, 0.52), 0.0)])
    assert far.p_value > 0.05  # two logs that differ so much prove no gain on a third
    same = Comparison(0.0, (0.0, 0.0), 1.0)
    assert mean_comparison([same, same]) == same


def test_no_comparisons_have_no_mean() -> None:
    with pytest.raises(InputError, match="no comparisons"):
        mean_comparison([])
