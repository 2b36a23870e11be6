import numpy as np
import pytest
from scipy.stats import binom, ttest_1samp, ttest_rel
from sklearn.metrics import roc_auc_score

from openlum.evaluation.comparison import _WeightedAuc, bootstrap_auc, compare_auc, compare_means
from openlum.evaluation.metrics import auc


def draw(rng: np.random.Generator, users: int = 60, rows: int = 8, gain: float = 0.0) -> tuple[np.ndarray, ...]:
    """Label, user and two scores. Rows of one user share a part of the label's cause and of each score's error."""
    user = np.repeat(np.arange(users), rows)
    taste = rng.normal(size=users)[user] + rng.normal(size=users * rows)
    label = (taste + rng.normal(size=len(user)) > 0).astype(float)
    a, b = (rng.normal(size=users)[user] + rng.normal(size=len(user)) for _ in range(2))
    return label, user, (1 + gain) * taste + a, taste + b


def own_items(user: np.ndarray) -> np.ndarray:
    """Every row has an item of its own, so that items say no more than rows do."""
    return np.arange(len(user))


def draw_both(rng: np.random.Generator, users: int = 80, items: int = 30) -> tuple[np.ndarray, ...]:
    """Label, user, item and two scores; rows of one user share something, and those of one item far more."""
    user, item = np.repeat(np.arange(users), 10), rng.integers(0, items, users * 10)
    cause = rng.normal(size=users)[user] + rng.normal(size=items)[item] + rng.normal(size=len(user))
    label = (cause > 0).astype(float)
    a, b = (cause + rng.normal(size=users)[user] + 2 * rng.normal(size=items)[item] for _ in range(2))
    return label, user, item, a, b


def test_rejects_a_true_null_about_as_often_as_it_says() -> None:
    rng, runs = np.random.default_rng(0), 300
    rejected = 0
    for _ in range(runs):
        label, user, a, b = draw(rng)
        rejected += compare_auc(label, user, own_items(user), [a], [b]).p_value < 0.05
    assert binom.ppf(0.001, runs, 0.035) <= rejected <= binom.ppf(0.999, runs, 0.07)


@pytest.mark.parametrize("users", [2, 3, 5, 10])
def test_few_users_prove_little(users: int) -> None:
    rng, runs = np.random.default_rng(users), 300
    found = [
        compare_auc(label, user, own_items(user), [a], [b])
        for label, user, a, b in (draw(rng, users, 40) for _ in range(runs))
    ]
    assert sum(one.p_value < 0.05 for one in found) <= binom.ppf(0.999, runs, 0.09)


def test_a_user_with_most_of_the_rows_is_not_many() -> None:
    rng, runs, rejected = np.random.default_rng(7), 400, 0
    for _ in range(runs):
        label, user, a, b = draw(rng, 40, 20)
        owner = np.where(user < 24, 0, user)  # three fifths of the rows are one user's
        order = np.lexsort((rng.random(len(user)), owner))
        rejected += compare_auc(label[order], owner[order], own_items(owner), [a[order]], [b[order]]).p_value < 0.05
    assert rejected <= binom.ppf(0.999, runs, 0.06)


def test_rows_of_one_item_are_no_independent_rows() -> None:
    """By users alone a true null is rejected far too often; by users and items about as often as it says."""
    rng, runs, by_both, by_user = np.random.default_rng(2), 300, 0, 0
    for _ in range(runs):
        label, user, item, a, b = draw_both(rng)
        by_both += compare_auc(label, user, item, [a], [b]).p_value < 0.05
        by_user += compare_auc(label, user, own_items(user), [a], [b]).p_value < 0.05
    assert by_user / runs > 0.2
    assert binom.ppf(0.001, runs, 0.03) <= by_both <= binom.ppf(0.999, runs, 0.07)


def test_users_and_items_count_alike() -> None:
    label, user, item, a, b = draw_both(np.random.default_rng(3))
    one, other = compare_auc(label, user, item, [a], [b]), compare_auc(label, item, user, [a], [b])
    assert (one.p_value, *one.ci95) == pytest.approx((other.p_value, *other.ci95))


@pytest.mark.parametrize(("seeds", "seen"), [(5, True), (1, False)])
def test_trainings_differ_too(seeds: int, seen: bool) -> None:
    """Two rankers of the same kind, each training of which is a little better or worse: several seeds find out."""
    rng, runs, rejected = np.random.default_rng(seeds), 300, 0
    for _ in range(runs):
        user, signal = np.repeat(np.arange(400), 5), rng.normal(size=2000)
        label = (signal + rng.normal(size=2000) > 0).astype(float)

        def train(signal: np.ndarray = signal) -> np.ndarray:
            return rng.uniform(0.5, 1.5) * signal + rng.normal(size=2000)

        a, b = ([train() for _ in range(seeds)] for _ in range(2))
        rejected += compare_auc(label, user, own_items(user), a, b).p_value < 0.05
    assert (rejected <= binom.ppf(0.999, runs, 0.06)) == seen


def test_means_without_items_are_students_paired_test() -> None:
    rng = np.random.default_rng(0)
    a, b, user = rng.normal(0.1, size=300), rng.normal(size=300), np.arange(300)
    found, expected = compare_means(user, user, [a], [b]), ttest_rel(a, b)
    assert (found.difference, found.p_value) == pytest.approx(((a - b).mean(), expected.pvalue))
    assert found.ci95 == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_items_whose_rows_cancel_make_nothing_more_certain() -> None:
    """Two rows an item, one the other's opposite: over items there is no variance, over users there is."""
    gain = np.random.default_rng(0).normal(size=150)
    a, user, item = np.concatenate([gain, -gain]) + 0.1, np.arange(300), np.tile(np.arange(150), 2)
    expected = np.diff(ttest_rel(a, np.zeros(300)).confidence_interval(0.95))[0]
    for one, other in ((user, item), (item, user)):
        low, high = compare_means(one, other, [a], [np.zeros(300)]).ci95
        assert high - low == pytest.approx(expected, rel=0.01)  # of fewer items, so a little more


def test_seeds_that_alone_differ_are_students_test_of_them() -> None:
    of_seeds = [0.01, 0.03, 0.02, 0.06]
    a, b = [np.full(500, one) for one in of_seeds], [np.zeros(500)] * 4
    found, expected = compare_means(np.arange(500), np.arange(500), a, b), ttest_1samp(of_seeds, 0)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.ci95 == pytest.approx(tuple(expected.confidence_interval(0.95)))


@pytest.mark.parametrize("seeds", [1, 4])
def test_means_over_few_items_and_trainings_reject_a_true_null_about_as_often_as_they_say(seeds: int) -> None:
    rng, runs, rejected, by_user = np.random.default_rng(seeds), 400, 0, 0
    user = np.arange(400)
    for _ in range(runs):
        item = rng.integers(0, 60, 400)
        of_items = rng.normal(size=60)[item]
        a, b = ([of_items * side + rng.normal(size=400) for _ in range(seeds)] for side in (1, -1))
        rejected += compare_means(user, item, a, b).p_value < 0.05
        by_user += compare_means(user, user, a, b).p_value < 0.05
    assert binom.ppf(0.001, runs, 0.035) <= rejected <= binom.ppf(0.999, runs, 0.065)
    assert by_user / runs > 0.2


def test_one_user_proves_nothing() -> None:
    label, user, a, b = draw(np.random.default_rng(0), users=1, rows=50)
    found = compare_auc(label, user, own_items(user), [a], [b])
    assert (found.ci95, found.p_value) == ((-1, 1), 1)
    assert bootstrap_auc(label, user, own_items(user), [a], [b]) == (-1, 1)


def test_one_item_proves_nothing() -> None:
    label, user, a, b = draw(np.random.default_rng(0))
    found = compare_auc(label, user, np.zeros_like(user), [a], [b])
    assert (found.ci95, found.p_value) == ((-1, 1), 1)


def test_rows_of_one_user_are_no_independent_rows() -> None:
    """Taken for independent, the same data rejects a true null far too often."""
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
    found = compare_auc(label, user, own_items(user), [a], [b])
    rows_of = [np.flatnonzero(user == one) for one in range(100)]
    differences = []
    for _ in range(600):
        rows = np.concatenate([rows_of[one] for one in rng.integers(100, size=100)])
        differences.append(auc(label[rows], a[rows]) - auc(label[rows], b[rows]))
    assert found.difference == pytest.approx(roc_auc_score(label, a) - roc_auc_score(label, b))
    assert (found.ci95[1] - found.ci95[0]) / 3.92 == pytest.approx(np.std(differences), rel=0.15)


def test_the_sign_says_which_is_better_and_swapping_turns_it() -> None:
    label, user, a, b = draw(np.random.default_rng(2), gain=2.0)
    forth, back = (
        compare_auc(label, user, own_items(user), [a], [b]),
        compare_auc(label, user, own_items(user), [b], [a]),
    )
    assert forth.difference > 0
    assert forth.p_value < 0.01
    assert forth.ci95[0] > 0
    assert (back.difference, back.p_value) == pytest.approx((-forth.difference, forth.p_value))
    assert back.ci95 == pytest.approx((-forth.ci95[1], -forth.ci95[0]))


def test_seeds_are_averaged() -> None:
    label, user, a, b = draw(np.random.default_rng(3))
    _, _, c, d = draw(np.random.default_rng(4))
    mean_a = (roc_auc_score(label, a) + roc_auc_score(label, c)) / 2
    found = compare_auc(label, user, own_items(user), [a, c], [b, d])
    assert found.difference == pytest.approx(mean_a - (roc_auc_score(label, b) + roc_auc_score(label, d)) / 2)


def test_a_ranker_does_not_differ_from_itself() -> None:
    label, user, a, _ = draw(np.random.default_rng(5))
    found = compare_auc(label, user, own_items(user), [a], [a])
    assert (found.difference, found.ci95, found.p_value) == (0, (0, 0), 1)


def test_one_class_has_no_comparison() -> None:
    rows = np.ones(4), np.arange(4), np.arange(4), [np.arange(4)], [np.arange(4)]
    assert np.isnan(compare_auc(*rows).p_value)
    assert np.isnan(bootstrap_auc(*rows)).all()


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_bootstrap_agrees_with_the_test_where_items_repeat(seeds: int) -> None:
    rng = np.random.default_rng(8)
    label, user, item, first, second = draw_both(rng, users=400, items=200)
    a, b = ([one + 0.3 * rng.normal(size=len(one)) for _ in range(seeds)] for one in (first, second))
    found, interval = compare_auc(label, user, item, a, b), bootstrap_auc(label, user, item, a, b)
    assert interval == pytest.approx(found.ci95, abs=0.15 * (found.ci95[1] - found.ci95[0]))
    by_user = compare_auc(label, user, own_items(user), a, b).ci95
    assert interval[1] - interval[0] > 1.3 * (by_user[1] - by_user[0])


def test_the_bootstrap_knows_trainings() -> None:
    """Seeds that differ by far more than the rows let them."""
    label, user, first, second = draw(np.random.default_rng(6), users=500)
    a, b = ([first + noise * second for noise in (0.0, 1.0, 3.0)], [first] * 3)
    found, interval = compare_auc(label, user, own_items(user), a, b), bootstrap_auc(label, user, own_items(user), a, b)
    assert interval == pytest.approx(found.ci95, abs=0.05 * (found.ci95[1] - found.ci95[0]))
    assert found.ci95[1] - found.ci95[0] > 2 * np.std([auc(label, one) for one in a])


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_bootstrap_agrees_with_the_test_where_there_are_many_users(seeds: int) -> None:
    rng = np.random.default_rng(6)
    label, user, first, second = draw(rng, users=500, gain=0.3)
    a, b = ([one + 0.3 * rng.normal(size=len(one)) for _ in range(seeds)] for one in (first, second))
    found, low_and_high = (
        compare_auc(label, user, own_items(user), a, b),
        bootstrap_auc(label, user, own_items(user), a, b),
    )
    width = found.ci95[1] - found.ci95[0]
    assert low_and_high == pytest.approx(found.ci95, abs=0.15 * width)
    assert bootstrap_auc(label, user, own_items(user), a, b) == low_and_high


def test_the_bootstrap_draws_users_not_rows() -> None:
    """Rows taken for users of their own make the interval too narrow, as they do in the test."""
    label, user, a, b = draw(np.random.default_rng(1), users=40, rows=40)
    ends = [bootstrap_auc(label, who, own_items(who), [a], [b]) for who in (user, np.arange(len(user)))]
    assert ends[0][1] - ends[0][0] > 1.3 * (ends[1][1] - ends[1][0])


def test_the_bootstrap_of_a_ranker_against_itself_is_zero() -> None:
    label, user, a, _ = draw(np.random.default_rng(5))
    assert bootstrap_auc(label, user, own_items(user), [a], [a]) == (0, 0)


@pytest.mark.parametrize("decimals", [0, 1, 9])
@pytest.mark.parametrize("seed", range(3))
def test_weighted_auc_equals_an_independent_implementation(seed: int, decimals: int) -> None:
    """Weights as the bootstrap has them: whole numbers, and zero for who was not drawn; fewer decimals mean more ties."""
    rng = np.random.default_rng(seed)
    prediction = rng.random(200).round(decimals)
    label = rng.random(200) < prediction
    ours = _WeightedAuc(label, prediction)
    for weight in (np.ones(200), rng.integers(0, 4, 200).astype(float), rng.random(200)):
        assert ours(weight) == pytest.approx(roc_auc_score(label, prediction, sample_weight=weight))
