"""Late fusion that cannot harm: knowledge joins a ranker only where it gains beyond its error on the validation rows.

The gain is measured on cross-fitted predictions: the weights for a user's rows come from other users. The fusion is kept if a
one-sided test says that it gains (p below 0.05). Otherwise the ranker's probabilities are passed through unchanged.

Shapes: I rows, Q knowledge scores.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from openlum.arguments.arrays import labels, probabilities, table
from openlum.arguments.values import shown
from openlum.errors import InputError
from openlum.evaluation.comparison import Comparison, compare_auc, compare_means
from openlum.rank.fusion import Fit, Fusion, Joined, can_cross_fit, cross_fit, folds, fused_inputs, penalised_fusion
from openlum.rank.tree_fusion import TreeFusion, fit_trees

Joining = Literal["linear", "trees"]
"""How knowledge joins a ranker's logit."""
Keep = Literal["auc", "logloss", "always"]
"""The metric that must gain, or that the fusion is kept in any case."""
LEVEL = 0.05
"""A fusion is kept if the p-value of its gain is smaller."""
FITS: dict[str, Fit] = {"linear": penalised_fusion, "trees": fit_trees}
KINDS: dict[str, type[Fusion] | type[TreeFusion]] = {"linear": Fusion, "trees": TreeFusion}


@dataclass(frozen=True)
class Decision:
    """Whether a fusion was kept, and what it gains on the validation rows."""

    kept: bool
    """Whether the fusion is used."""
    metric: Literal["auc", "logloss"]
    """The metric of the gain."""
    gain: float | None
    """AUC with knowledge minus AUC without, or log loss without minus log loss with; None if it cannot be measured."""
    p_value: float | None
    """One-sided p-value: how probable such a gain is if knowledge adds nothing."""


@dataclass(frozen=True)
class LateFusion:
    """A fitted fusion and the decision whether it is used."""

    joined: Joined
    """The fit of all rows."""
    decision: Decision
    """Whether it is used."""

    def __call__(self, probability: Any, scores: Any) -> np.ndarray:
        """Return probabilities, (I,): those of the fusion, or the ranker's own without any change.

        Args:
            probability: (I,) the ranker's probabilities.
            scores: (I, Q) knowledge scores, as in `fit_late_fusion`.
        """
        if self.decision.kept:
            return self.joined(fused_inputs(probability, scores))
        return probabilities("probability", probability, len(table("knowledge scores", scores)))

    def tensors(self) -> dict[str, Tensor]:
        """Return the fitted weights."""
        return self.joined.tensors()


def fit_late_fusion(
    probability: Any,
    scores: Any,
    label: Any,
    user: Any,
    item: Any = None,
    joining: Joining = "linear",
    keep: Keep = "auc",
) -> tuple[LateFusion, np.ndarray]:
    """Fit a fusion, and decide whether it is used.

    Args:
        probability: (I,) the ranker's probabilities.
        scores: (I, Q) knowledge scores.
        label: (I,) labels.
        user: (I,) users. The gain is measured over users.
        item: (I,) items, so that the error of the gain includes other items; None for an error over users alone.
        joining: `linear`, or `trees` for few trees on top.
        keep: the metric that must gain; `always` to use the fusion in any case.

    Returns:
        The fusion, and probabilities of the same rows, (I,): cross-fitted, or the ranker's own if the fusion is not used.

    Raises:
        InputError: a value is wrong, LightGBM is needed and not installed, or all labels are the same.
    """
    for name, value, choices in (("joining", joining, list(FITS)), ("keep", keep, ["auc", "logloss", "always"])):
        if value not in choices:
            raise InputError(f"{name}: expected one of {', '.join(choices)}, found {shown(value)}")
    label = labels(label)
    inputs = fused_inputs(probability, scores)
    joined, cross_fitted = cross_fit(inputs, label, user, FITS[joining])
    metric: Literal["auc", "logloss"] = "logloss" if keep == "logloss" else "auc"
    gain, p_value = None, None
    if can_cross_fit(label, folds(user, len(label))):
        comparison = _gain(metric, inputs, cross_fitted, label, user, item)
        gain, half = comparison.difference, comparison.p_value / 2
        p_value = half if gain > 0 else 1 - half
    kept = keep == "always" or (p_value is not None and p_value < LEVEL)
    late = LateFusion(joined, Decision(kept, metric, gain, p_value))
    return late, cross_fitted if kept else late(probability, scores)


def _gain(
    metric: str, inputs: np.ndarray, cross_fitted: np.ndarray, label: np.ndarray, user: Any, item: Any
) -> Comparison:
    """Return the gain of cross-fitted probabilities (I,) over the ranker alone, whose logit is the first of `inputs` (I, X)."""
    item = np.arange(len(label)) if item is None else item
    if metric == "auc":
        return compare_auc(label, user, item, [cross_fitted], [inputs[:, 0]])
    calibrated = cross_fit(inputs[:, :1], label, user)[
        1
    ]  # without calibration, the fusion would gain by calibrating alone
    return compare_means(user, item, [-_row_loss(label, cross_fitted)], [-_row_loss(label, calibrated)])


def _row_loss(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Return the log loss of each row, (I,)."""
    correct = np.where(label > 0, probability, 1 - probability.astype(np.float64))
    return np.asarray(-np.log(np.clip(correct, 1e-7, 1)))
