import copy

import numpy as np
import pytest
import torch

from openlum.rank.batches import RankingData, Rows
from openlum.rank.calibration_curve import MAX_BINS, MIN_ROWS_PER_BIN, calibration_curve


@pytest.fixture(scope="module")
def probability(data: RankingData) -> np.ndarray:
    """Return a probability for every test row."""
    return np.random.default_rng(0).beta(2, 5, len(data.rows["test"]))


@pytest.fixture(scope="module")
def rows(data: RankingData, probability: np.ndarray) -> Rows:
    """Return test rows whose labels are drawn with these probabilities."""
    rows = copy.copy(data.rows["test"])
    rows.label = torch.from_numpy(np.random.default_rng(1).random(len(rows)) < probability).float()
    return rows


def test_bins_have_equally_many_predictions_and_their_means(rows: Rows, probability: np.ndarray) -> None:
    bins = calibration_curve(rows, [probability])
    order = np.argsort(probability)
    for bin, index in zip(bins, np.array_split(order, MAX_BINS), strict=True):
        assert abs(bin["predictions"] - len(index)) <= 1
        assert bin["predicted"] == pytest.approx(probability[index].mean(), abs=0.002)
        assert bin["observed"] == pytest.approx(rows.label.numpy()[index].mean(), abs=0.02)
        assert 0 <= bin["ci95"][0] < bin["observed"] < bin["ci95"][1] <= 1
    whole = np.average([bin["observed"] for bin in bins], weights=[bin["predictions"] for bin in bins])
    assert whole == pytest.approx(float(rows.label.mean()))


def test_intervals_contain_true_probabilities_and_not_wrong_ones(rows: Rows, probability: np.ndarray) -> None:
    def misses(prediction: np.ndarray) -> int:
        bins = calibration_curve(rows, [prediction])
        return sum(not bin["ci95"][0] <= bin["predicted"] <= bin["ci95"][1] for bin in bins)

    assert misses(probability) <= 2
    assert misses(probability**0.3) == MAX_BINS
    assert misses(probability**3) >= MAX_BINS - 2


def test_a_row_counts_once_per_seed(rows: Rows, probability: np.ndarray) -> None:
    one, two = calibration_curve(rows, [probability]), calibration_curve(rows, [probability, probability])
    assert [bin["predictions"] for bin in two] == [2 * bin["predictions"] for bin in one]
    for a, b in zip(one, two, strict=True):  # the same rows twice are not more evidence
        assert b["observed"] == pytest.approx(a["observed"])
        assert b["ci95"] == pytest.approx(a["ci95"], abs=0.002)


def test_equal_predictions_share_a_bin(rows: Rows) -> None:
    assert len(calibration_curve(rows, [np.full(len(rows), 0.3)])) == 1
    halves = np.where(np.arange(len(rows)) % 3 == 0, 0.2, 0.6)
    bins = calibration_curve(rows, [halves])
    assert [bin["predicted"] for bin in bins] == pytest.approx([0.2, 0.6])
    assert [bin["predictions"] for bin in bins] == [(halves == 0.2).sum(), (halves == 0.6).sum()]


def test_few_rows_make_few_bins(rows: Rows, probability: np.ndarray) -> None:
    index = torch.arange(3 * MIN_ROWS_PER_BIN)
    assert len(calibration_curve(rows.take(index), [probability[: len(index)]])) == 3
    assert len(calibration_curve(rows.take(index[:5]), [probability[:5]])) == 1


def test_the_interval_of_a_bin_without_positives_is_above_zero(rows: Rows, probability: np.ndarray) -> None:
    negative = copy.copy(rows)
    negative.label = torch.zeros(len(rows))
    for bin in calibration_curve(negative, [probability * 1e-6]):
        assert bin["observed"] == bin["ci95"][0] == 0
        assert bin["ci95"][1] > 1 / bin["predictions"]
