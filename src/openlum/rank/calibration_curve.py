"""Calibration curve of a ranker: predicted and observed shares of positive rows, in bins of the prediction.

Shapes: S seeds, I rows, n predictions of a bin.
"""

from typing import Any

import numpy as np

from openlum.evaluation.comparison import compare_means
from openlum.rank.batches import Rows

MAX_BINS = 10
"""Largest number of bins."""
MIN_ROWS_PER_BIN = 50
"""Fewest rows per bin, on average; with fewer rows there are fewer bins."""


def calibration_curve(rows: Rows, probabilities: list[np.ndarray]) -> list[dict[str, Any]]:
    """Return predicted and observed shares of positive rows in bins with equally many predictions, lowest bin first.

    The seeds are pooled: a row counts once per seed, each time in the bin of that seed's prediction. Equal predictions share a
    bin. The interval is the wider one of two intervals: Wilson's (1927) for independent rows, which is valid for rare events,
    and the interval of `compare_means` for rows that share users and items.

    Args:
        rows: the rows that were predicted.
        probabilities: S arrays of calibrated probabilities (I,), one per seed.

    Returns:
        Bins with `predicted` and `observed` (means), `ci95` of `observed`, and `predictions` (their number over all seeds).
    """
    label, user, item = rows.label.numpy(), rows.user.numpy(), rows.item.numpy()
    seeds, pooled = len(probabilities), np.concatenate(probabilities).astype(np.float64)  # (S * I,)
    row = np.tile(np.arange(len(rows)), seeds)
    bins = int(np.clip(len(rows) // MIN_ROWS_PER_BIN, 1, MAX_BINS))
    edges = np.unique(np.quantile(pooled, np.arange(1, bins) / bins))
    bin_index = np.searchsorted(edges, pooled, side="right")
    members = [np.flatnonzero(bin_index == index) for index in np.unique(bin_index)]  # (n,) each
    return [_bin(label, user, item, row[index], pooled[index], seeds) for index in members]


def _bin(
    label: np.ndarray, user: np.ndarray, item: np.ndarray, row: np.ndarray, predicted: np.ndarray, seeds: int
) -> dict[str, Any]:
    """Return one bin of `calibration_curve`.

    Args:
        label: (I,) labels of all rows.
        user: (I,) users of all rows.
        item: (I,) items of all rows.
        row: (n,) row indices of the bin's predictions.
        predicted: (n,) predictions of the bin.
        seeds: S.
    """
    from scipy.stats import binomtest  # imported here: it takes half a second

    bin_label = label[row].astype(np.float64)
    mean, observed = float(predicted.mean()), float(bin_label.mean())
    dependent = compare_means(user[row], item[row], [bin_label], [predicted]).ci95  # of observed minus predicted
    positives, rows = round(bin_label.sum() / seeds), max(round(len(row) / seeds), 1)
    independent = binomtest(positives, rows).proportion_ci(method="wilson")
    low = min(mean + dependent[0], float(independent.low), observed)
    high = max(mean + dependent[1], float(independent.high), observed)
    return {
        "predicted": mean,
        "observed": observed,
        "ci95": [max(low, 0.0), min(high, 1.0)],
        "predictions": len(row),
    }
