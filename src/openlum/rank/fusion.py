"""Late fusion: a logistic regression joins a ranker's logit with knowledge scores.

On the rows that rankers are trained on, the answers are in-sample: the Large User Model was trained on the events behind these
rows. A ranker that learns there how much to trust the answers trusts them too much. In late fusion the ranker is trained without
knowledge. The weights of its logit and of the knowledge scores are fitted on the validation rows, which the Large User Model
has not learned (stacked generalisation: Wolpert, Neural Networks 1992).

*Knowledge scores* are the similarities of answers and target item, and the feedback logits (log-odds of feedback predictions).

Shapes: I rows, Q knowledge scores, X inputs of the fusion: the ranker's logit, knowledge scores, and their probabilities.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from openlum.arguments.arrays import groups, labels, probabilities, table
from openlum.errors import InputError

Calibration = Callable[[np.ndarray], np.ndarray]
"""A function from a ranker's probabilities (I,) to calibrated probabilities (I,) float32."""
FOLDS = 5
"""Number of folds of users in `cross_fit`."""
SMALLEST = 1e-6
"""Probabilities are clipped to [SMALLEST, 1 - SMALLEST] before the logit is computed."""


@dataclass(frozen=True)
class Fusion:
    """A fitted logistic regression."""

    weight: np.ndarray
    """(X,) float64."""
    bias: float
    """Intercept of the logit."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return probabilities, (I,) float32, from inputs (I, X)."""
        return np.asarray(expit(self.logit(x)), np.float32)

    def logit(self, x: np.ndarray) -> np.ndarray:
        """Return log-odds, (I,) float64, from inputs (I, X)."""
        return np.asarray(table("fusion inputs", x, len(self.weight)) @ self.weight + self.bias)


def fused_inputs(probability: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the inputs of a fusion, (I, X): the logit of a ranker's probabilities (I,), then knowledge scores (I, Q).

    Raises:
        InputError: a value is not a probability or not finite, or the numbers of rows differ.
    """
    scores = table("knowledge scores", scores)
    probability = probabilities("probability", probability, len(scores))
    return np.column_stack([logit(np.clip(probability.astype(np.float64), SMALLEST, 1 - SMALLEST)), scores])


def multi_value_feedback(names: list[str], all_names: list[str]) -> list[str]:
    """Return the names of feedback predictions, FIELD=VALUE, whose field has more than two values.

    Args:
        names: names of knowledge scores to choose from.
        all_names: names of all scores of the knowledge.
    """
    fields = [name.partition("=")[0] for name in all_names if "=" in name]
    return [name for name in names if "=" in name and fields.count(name.partition("=")[0]) > 2]


def with_probabilities(scores: np.ndarray, names: list[str], probability_names: list[str]) -> np.ndarray:
    """Return knowledge scores (I, Q), followed by the probabilities of some feedback predictions.

    A label may stand for several values of a feedback field, such as 4 or 5 stars. The probability of the label is then the sum
    of the probabilities of the values. No weighted sum of their log-odds equals it.

    Args:
        scores: (I, Q) similarities and feedback logits.
        names: names of the Q scores.
        probability_names: names of the feedback predictions whose probabilities are appended.

    Raises:
        InputError: the numbers of names and scores differ, or a name of `probability_names` is not in `names`.
    """
    scores = table("knowledge scores", scores, len(names))
    unknown = [name for name in probability_names if name not in names]
    if unknown:
        raise InputError(f"fusion: unknown knowledge score '{unknown[0]}'; choose from {', '.join(names)}")
    return np.concatenate([scores, expit(scores[:, [names.index(name) for name in probability_names]])], 1)


def fit_fusion(x: np.ndarray, label: np.ndarray) -> Fusion:
    """Return a logistic regression of labels (I,) on inputs (I, X). Inputs are scaled to unit variance for the penalty (C = 1).

    Raises:
        InputError: all labels are the same, a label is neither 0 nor 1, or the numbers of rows differ.
    """
    from sklearn.linear_model import LogisticRegression  # imported here: scikit-learn takes over a second
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, label = _checked_rows(x, label)
    if len(np.unique(label)) < 2:
        raise InputError("fusion: all labels are the same; give rows with both labels")
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, label)
    scaler, regression = fitted[0], fitted[1]
    weight = regression.coef_[0] / scaler.scale_
    return Fusion(weight, float(regression.intercept_[0] - weight @ scaler.mean_))


def _checked_rows(x: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs (I, X) with at least one column, and labels (I,).

    Raises:
        InputError: the arrays have other shapes or values.
    """
    label = labels(label)
    x = table("fusion inputs", x)
    if len(x) != len(label) or not x.shape[1]:
        raise InputError(
            f"fusion: inputs of shape {x.shape} and labels of shape {label.shape}; expected (rows, columns) and (rows,)"
        )
    return x, label


def calibration(probability: np.ndarray, label: np.ndarray) -> Calibration:
    """Return a function that calibrates a ranker's probabilities (Platt scaling, 1999).

    Late fusion calibrates by itself. Without calibration, the log loss of an overconfident ranker says nothing about its ranking.

    Args:
        probability: (I,) the ranker's probabilities of the validation rows.
        label: (I,) labels of the validation rows.
    """
    label = labels(label)
    no_scores = np.empty((len(label), 0))
    fusion = fit_fusion(fused_inputs(probability, no_scores), label)

    def calibrate(probability: np.ndarray) -> np.ndarray:
        probability = probabilities("probability", probability)
        return fusion(fused_inputs(probability, np.empty((len(probability), 0))))

    return calibrate


def cross_fit(x: np.ndarray, label: np.ndarray, user: np.ndarray) -> tuple[Fusion, np.ndarray]:
    """Fit a fusion, and predict the same rows with weights that were fitted to other users' rows.

    Users are split into five folds. The weights for a fold come from the other folds. All folds share one intercept: the logit of
    the full fusion at the mean row. (With its own intercept, a fold with many positive labels would get low predictions, because
    its intercept is fitted on the other folds.)

    Args:
        x: inputs, (I, X).
        label: labels, (I,).
        user: users, (I,).

    Returns:
        The fusion of all rows, and cross-fitted probabilities, (I,) float32. The probabilities are those of the whole fusion if
        there are fewer than five users, and for a fold if the rows of all other folds have the same label.

    Raises:
        InputError: all labels are the same.
    """
    from sklearn.model_selection import GroupKFold

    x, label = _checked_rows(x, label)
    user = groups("user", user, len(label))
    fusion = fit_fusion(x, label)
    probability = fusion(x)
    if len(np.unique(user)) < FOLDS:
        return fusion, probability
    centre = x.mean(0, np.float64, keepdims=True)  # (1, X)
    for fit_rows, fold_rows in GroupKFold(FOLDS).split(x, label, user):
        if len(np.unique(label[fit_rows])) > 1:
            weight = fit_fusion(x[fit_rows], label[fit_rows]).weight
            probability[fold_rows] = expit((x[fold_rows] - centre) @ weight + fusion.logit(centre))
    return fusion, probability
