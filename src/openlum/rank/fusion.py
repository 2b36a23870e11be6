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
from typing import Any, Protocol

import numpy as np
import torch
from scipy.special import expit, logit
from torch import Tensor

from openlum.arguments.arrays import groups, labels, probabilities, table
from openlum.errors import InputError
from openlum.evaluation.metrics import log_loss

Calibration = Callable[[np.ndarray], np.ndarray]
"""A function from a ranker's probabilities (I,) to calibrated probabilities (I,) float32."""
FOLDS = 5
"""Number of folds of users in `cross_fit`."""
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
"""Penalties of the weights of knowledge that are tried, the weakest first."""
ROWS_PER_INPUT = 1000
"""With more rows per input, the weakest penalty is used: there, weights of noise cost less than 0.0005 nats per row."""
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

    def at_level(self, level: "Fusion", centre: np.ndarray) -> "Fusion":
        """Return this fusion with another intercept: its logit at the row `centre` (1, X) is that of the fusion `level`."""
        return Fusion(self.weight, self.bias + float((level.logit(centre) - self.logit(centre))[0]))

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights as tensors."""
        return {"weight": torch.from_numpy(self.weight), "bias": torch.tensor(self.bias, dtype=torch.float64)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Fusion":
        """Return the fusion that `tensors()` described."""
        return cls(tensors["weight"].numpy(), float(tensors["bias"]))


class Joined(Protocol):
    """A fitted join of a ranker's logit and knowledge scores: a `Fusion`, or trees on top of it."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return probabilities, (I,) float32, from inputs (I, X)."""
        ...

    def logit(self, x: np.ndarray) -> np.ndarray:
        """Return log-odds, (I,) float64, from inputs (I, X)."""
        ...

    def at_level(self, level: Any, centre: np.ndarray) -> "Joined":
        """Return the same with the intercept of `level`, another fit, at the row `centre` (1, X)."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that was fitted."""
        ...


Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], Joined]
"""A function that fits inputs (I, X) to labels (I,); it may hold out folds (I,) to choose a penalty."""


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


def fit_fusion(x: np.ndarray, label: np.ndarray, penalty: float = PENALTIES[0]) -> Fusion:
    """Return a logistic regression of labels (I,) on inputs (I, X).

    All inputs are scaled to unit variance. The weight of the first input has the penalty 1 (half of the squared weight), the
    weights of the others have `penalty`. With a large penalty, the result is a calibration of the first input.

    Raises:
        InputError: all labels are the same, a label is neither 0 nor 1, or the numbers of rows differ.
    """
    from sklearn.linear_model import LogisticRegression  # imported here: scikit-learn takes over a second
    from sklearn.preprocessing import StandardScaler

    x, label = _checked_rows(x, label)
    if len(np.unique(label)) < 2:
        raise InputError("fusion: all labels are the same; give rows with both labels")
    scaler = StandardScaler().fit(x)
    scale = np.full(x.shape[1], penalty**-0.5)  # an input that is scaled down needs a larger weight, which costs more
    scale[0] = 1.0
    regression = LogisticRegression(max_iter=1000, solver="newton-cholesky").fit(scaler.transform(x) * scale, label)
    weight = regression.coef_[0] * scale / scaler.scale_
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


def cross_fit(x: np.ndarray, label: np.ndarray, user: Any, fit: Fit | None = None) -> tuple[Joined, np.ndarray]:
    """Fit a fusion, and predict the same rows with weights that were fitted to other users' rows.

    Users are split into five folds. The weights and the penalty for a fold come from the other folds. All folds share one
    intercept: the logit of the full fusion at the mean row. (With its own intercept, a fold with many positive labels would get
    low predictions, because its intercept is fitted on the other folds.)

    Args:
        x: inputs, (I, X); the first is the ranker's logit.
        label: labels, (I,).
        user: users, (I,).
        fit: how rows are fitted; by default `penalised_fusion`.

    Returns:
        The fusion of all rows, and cross-fitted probabilities, (I,) float32. The probabilities are those of the whole fusion if
        `can_cross_fit` is false.

    Raises:
        InputError: all labels are the same.
    """
    x, label = _checked_rows(x, label)
    chosen_fit: Fit = fit or penalised_fusion
    fold = folds(user, len(label))
    fusion = chosen_fit(x, label, fold)
    probability = fusion(x)
    if can_cross_fit(label, fold):
        centre = x.mean(0, np.float64, keepdims=True)  # (1, X)
        for number in range(FOLDS):
            rows, others = fold == number, fold != number
            fold_fusion = chosen_fit(x[others], label[others], fold[others])
            probability[rows] = fold_fusion.at_level(fusion, centre)(x[rows])
    return fusion, probability


def folds(user: Any, rows: int) -> np.ndarray:
    """Return the fold of each row, (I,), from 0 to 4, by its user; 0 for all rows if there are fewer than five users.

    Raises:
        InputError: the number of users is not `rows`.
    """
    from sklearn.model_selection import GroupKFold

    user = groups("user", user, rows)
    fold = np.zeros(rows, np.int64)
    if len(np.unique(user)) >= FOLDS:
        for number, (_, fold_rows) in enumerate(GroupKFold(FOLDS).split(user, groups=user)):
            fold[fold_rows] = number
    return fold


def can_cross_fit(label: np.ndarray, fold: np.ndarray) -> bool:
    """Return whether there are several folds, and rows of both labels outside of each."""
    numbers = np.unique(fold)
    return len(numbers) > 1 and all(len(np.unique(label[fold != number])) > 1 for number in numbers)


def penalised_fusion(x: np.ndarray, label: np.ndarray, fold: np.ndarray) -> Fusion:
    """Return a fusion of all rows, with the penalty that has the lowest log loss on rows that were left out, fold by fold.

    The weakest penalty is used without a choice if there are more than `ROWS_PER_INPUT` rows per input. The strongest is used
    if the folds do not allow a choice.

    Args:
        x: inputs, (I, X); the weight of the first always has the weakest penalty.
        label: labels, (I,).
        fold: folds, (I,).
    """
    if x.shape[1] < 2 or len(label) > ROWS_PER_INPUT * x.shape[1]:
        return fit_fusion(x, label)
    if not can_cross_fit(label, fold):
        return fit_fusion(x, label, PENALTIES[-1])
    loss = np.zeros(len(PENALTIES))  # summed over rows
    for number in np.unique(fold):
        rows, others = fold == number, fold != number
        for index, penalty in enumerate(PENALTIES):
            probability = fit_fusion(x[others], label[others], penalty)(x[rows])
            loss[index] += log_loss(label[rows], probability) * rows.sum()
    return fit_fusion(x, label, PENALTIES[int(loss.argmin())])
