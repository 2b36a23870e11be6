"""Late fusion: a ranker's logit and the numbers of knowledge, joined on rows that the Large User Model has not learned from.

On the rows that rankers are trained on the answers are in-sample: they have seen what they tell. A ranker that learns there how
far to trust them trusts them too much. Here it learns without them, and the weights of its logit and of the knowledge come from
the validation rows (stacked generalisation: Wolpert, Neural Networks 1992).

Shapes: I rows, Q numbers of knowledge, X = 1 + Q.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5
SMALLEST = 1e-6
"""Probabilities closer than this to 0 or 1 count as this close."""


@dataclass(frozen=True)
class Fusion:
    """A logistic regression over numbers of a row."""

    weight: np.ndarray
    """(X,) float64."""
    bias: float
    """Added to the logit."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Numbers (I, X) to probabilities, (I,) float32."""
        return np.asarray(1 / (1 + np.exp(-(x @ self.weight + self.bias))), np.float32)


def fused_inputs(probability: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """A ranker's probabilities (I,) and numbers of knowledge (I, Q) to what is fused, (I, X)."""
    p = np.clip(probability.astype(np.float64), SMALLEST, 1 - SMALLEST)
    return np.column_stack([np.log(p / (1 - p)), numbers])


def fit_fusion(x: np.ndarray, label: np.ndarray) -> Fusion:
    """Logistic regression of labels (I,) on numbers (I, X), each scaled to unit variance for its penalty (C = 1)."""
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, label)
    scaler, regression = fitted[0], fitted[1]
    weight = regression.coef_[0] / scaler.scale_
    return Fusion(weight, float(regression.intercept_[0] - weight @ scaler.mean_))


def cross_fit(x: np.ndarray, label: np.ndarray, user: np.ndarray) -> np.ndarray:
    """Probabilities of the very rows that weights come from, (I,) float32: of each by weights of other users' rows.

    Where there are too few users, or the rows of some have one label alone, by weights of all rows.
    """
    out = fit_fusion(x, label)(x)
    if len(np.unique(user)) < FOLDS:
        return out
    for others, own in GroupKFold(FOLDS).split(x, label, user):
        if len(np.unique(label[others])) > 1:
            out[own] = fit_fusion(x[others], label[others])(x[own])
    return out
