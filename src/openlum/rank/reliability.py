"""Whether a ranker's probabilities come true: predicted against observed shares of positive rows, by bins of the prediction.

Shapes: S seeds, I rows, n predictions of a bin.
"""

from typing import Any

import numpy as np
from scipy.stats import binomtest

from openlum.evaluation.comparison import compare_means
from openlum.rank.batches import Rows

BINS = 10
"""Most bins."""
ROWS_OF_A_BIN = 50
"""Fewest rows a bin, on average; with fewer rows there are fewer bins."""


def reliability(rows: Rows, probabilities: list[np.ndarray]) -> list[dict[str, Any]]:
    """Predicted and observed shares of positive rows in bins of equally many predictions, lowest first.

    Seeds are pooled: a row counts once a seed, each time in the bin of that seed's prediction. Equal predictions share a bin. The
    interval is the wider of two: of a share of independent rows (Wilson 1927), which knows that a rare event may have been missed
    by chance, and of rows that depend on each other by user and item (`compare_means`).

    Args:
        rows: that were predicted.
        probabilities: S arrays of calibrated probabilities (I,), one a seed.

    Returns:
        Bins with `predicted` and `observed` (means), `ci95` of what is observed, and `predictions` (how many; all seeds').
    """
    label, user, item = rows.label.numpy(), rows.user.numpy(), rows.item.numpy()
    seeds, pooled = len(probabilities), np.concatenate(probabilities).astype(np.float64)  # (S * I,)
    row = np.tile(np.arange(len(rows)), seeds)
    bins = int(np.clip(len(rows) // ROWS_OF_A_BIN, 1, BINS))
    edges = np.unique(np.quantile(pooled, np.arange(1, bins) / bins))
    place = np.searchsorted(edges, pooled, side="right")
    inside = [np.flatnonzero(place == one) for one in np.unique(place)]  # of (n,)
    return [_bin(label, user, item, row[index], pooled[index], seeds) for index in inside]


def _bin(
    label: np.ndarray, user: np.ndarray, item: np.ndarray, row: np.ndarray, predicted: np.ndarray, seeds: int
) -> dict[str, Any]:
    """One bin of `reliability`: labels, users and items of all rows, (I,); rows (n,) and predictions (n,) of the bin."""
    of_bin = label[row].astype(np.float64)
    mean, observed = float(predicted.mean()), float(of_bin.mean())
    dependent = compare_means(user[row], item[row], [of_bin], [predicted]).ci95  # of observed less predicted
    positives, rows = round(of_bin.sum() / seeds), max(round(len(row) / seeds), 1)
    independent = binomtest(positives, rows).proportion_ci(method="wilson")
    low = min(mean + dependent[0], float(independent.low), observed)
    high = max(mean + dependent[1], float(independent.high), observed)
    return {
        "predicted": mean,
        "observed": observed,
        "ci95": [max(low, 0.0), min(high, 1.0)],
        "predictions": len(row),
    }
