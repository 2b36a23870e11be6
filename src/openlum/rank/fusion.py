"""Late fusion: a ranker's logit and the numbers of knowledge, joined on rows that the Large User Model has not learned from.

On the rows that rankers are trained on the answers are in-sample: they have seen what they tell. A ranker that learns there how
far to trust them trusts them too much. Here it learns without them, and the weights of its logit and of the knowledge come from
the validation rows (stacked generalisation: Wolpert, Neural Networks 1992).

Shapes: I rows, Q numbers of knowledge, X numbers that are joined: the logit, knowledge, and what is made of it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from openlum.arguments.arrays import groups, labels, probabilities, table
from openlum.errors import InputError

Calibration = Callable[[np.ndarray], np.ndarray]
"""A ranker's probabilities, (I,), to calibrated ones, (I,) float32."""
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
        return np.asarray(expit(self.logit(x)), np.float32)

    def logit(self, x: np.ndarray) -> np.ndarray:
        """Numbers (I, X) to log-odds, (I,) float64."""
        return np.asarray(table("numbers", x, len(self.weight)) @ self.weight + self.bias)


def fused_inputs(probability: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """A ranker's probabilities (I,) and numbers of knowledge (I, Q) to what is fused, (I, X).

    Raises:
        InputError: one is no probability, or not finite; or there are not as many of both.
    """
    numbers = table("numbers", numbers)
    probability = probabilities("probability", probability, len(numbers))
    return np.column_stack([logit(np.clip(probability.astype(np.float64), SMALLEST, 1 - SMALLEST)), numbers])


def of_several_values(names: list[str], known: list[str]) -> list[str]:
    """Those of some numbers of knowledge that are feedback predictions, FIELD=VALUE, whose field has more than two values.

    Args:
        names: of the numbers.
        known: names of all numbers of the knowledge.
    """
    fields = [name.partition("=")[0] for name in known if "=" in name]
    return [name for name in names if "=" in name and fields.count(name.partition("=")[0]) > 2]


def with_probabilities(numbers: np.ndarray, names: list[str], several: list[str]) -> np.ndarray:
    """Numbers of knowledge (I, Q), and after them the probabilities of some values.

    A label may stand for several values, such as 4 or 5 stars. Its probability is the sum of theirs, which no weights of their
    log-odds give.

    Args:
        numbers: similarities, and log-odds of feedback predictions.
        names: of the Q numbers.
        several: names of the feedback predictions whose probabilities are wanted too.

    Raises:
        InputError: there are not as many names as numbers, or a name of `several` is none of them.
    """
    numbers = table("numbers", numbers, len(names))
    unknown = [name for name in several if name not in names]
    if unknown:
        raise InputError(f"fusion: there is no number '{unknown[0]}'; there are: {', '.join(names)}")
    return np.concatenate([numbers, expit(numbers[:, [names.index(name) for name in several]])], 1)


def fit_fusion(x: np.ndarray, label: np.ndarray) -> Fusion:
    """Logistic regression of labels (I,) on numbers (I, X), each scaled to unit variance for its penalty (C = 1).

    Raises:
        InputError: all labels are the same, or one is neither 0 nor 1, or there are not as many of both.
    """
    x, label = _rows(x, label)
    if len(np.unique(label)) < 2:
        raise InputError("fusion: all labels are the same; its weights come from rows with both")
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, label)
    scaler, regression = fitted[0], fitted[1]
    weight = regression.coef_[0] / scaler.scale_
    return Fusion(weight, float(regression.intercept_[0] - weight @ scaler.mean_))


def _rows(x: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (I, X), at least one a row, and as many labels, (I,)."""
    label = labels(label)
    x = table("numbers", x)
    if len(x) != len(label) or not x.shape[1]:
        raise InputError(f"fusion: numbers {x.shape} and labels {label.shape}; expected (rows, columns) and (rows,)")
    return x, label


def calibration(probability: np.ndarray, label: np.ndarray) -> Calibration:
    """What makes a ranker's probabilities those of the rows that it is judged after (Platt scaling, 1999).

    Fusion with knowledge does this on the way. Without it a ranker that is too sure of itself has a log loss that says nothing of
    what it knows.

    Args:
        probability: of validation rows, (I,).
        label: theirs, (I,).
    """
    label = labels(label)
    nothing = np.empty((len(label), 0))
    fusion = fit_fusion(fused_inputs(probability, nothing), label)

    def calibrated(other: np.ndarray) -> np.ndarray:
        other = probabilities("probability", other)
        return fusion(fused_inputs(other, np.empty((len(other), 0))))

    return calibrated


def cross_fit(x: np.ndarray, label: np.ndarray, user: np.ndarray) -> tuple[Fusion, np.ndarray]:
    """Fit a fusion, and judge the very rows that it comes from by what the rows of other users tell.

    The weights for a user's rows come from five folds of users less its own. The level is one for all rows, that of the whole
    fusion at the mean row: levels of the folds would differ, each lower the more positive labels its own rows have, and rank the
    rows of different folds against their labels.

    Args:
        x: numbers, (I, X).
        label: labels, (I,).
        user: users, (I,).

    Returns:
        The fusion of all rows, and cross-fitted probabilities, (I,) float32: by its own weights where there are too few users, or
        where the other users' rows have one label alone.

    Raises:
        InputError: all labels are the same.
    """
    x, label = _rows(x, label)
    user = groups("user", user, len(label))
    whole = fit_fusion(x, label)
    out = whole(x)
    if len(np.unique(user)) < FOLDS:
        return whole, out
    centre = x.mean(0, np.float64, keepdims=True)  # (1, X)
    for others, own in GroupKFold(FOLDS).split(x, label, user):
        if len(np.unique(label[others])) > 1:
            weight = fit_fusion(x[others], label[others]).weight
            out[own] = expit((x[own] - centre) @ weight + whole.logit(centre))
    return whole, out
