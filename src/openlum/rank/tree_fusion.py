"""Non-linear late fusion: a few small trees correct the logistic regression (`rank.knowledge.joining: trees`).

The trees start from the logit of the regression (LightGBM's `init_score`), so they learn only what it cannot express, such as
knowledge that counts more where the ranker is unsure.

Shapes: I rows, X inputs of the fusion.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from openlum.rank.boosted_trees import import_lightgbm, tensor_to_text, text_to_tensor
from openlum.rank.fusion import Fusion, penalised_fusion

NEEDED_BY = "rank.knowledge.joining: trees"
"""What needs LightGBM, for messages."""
TREES, LEAVES, LEARNING_RATE = 60, 8, 0.05
"""Number of trees, their leaves, and the shrinkage of each."""
SMALLEST_LEAF = 0.01
"""Share of the rows that a leaf has at least."""


@dataclass(frozen=True)
class TreeFusion:
    """A logistic regression and the trees that correct its logit."""

    linear: Fusion
    """The regression."""
    text: str
    """The trees in LightGBM's text format."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return probabilities, (I,) float32, from inputs (I, X)."""
        return np.asarray(expit(self.logit(x)), np.float32)

    def logit(self, x: np.ndarray) -> np.ndarray:
        """Return log-odds, (I,) float64, from inputs (I, X)."""
        linear = self.linear.logit(x)
        if not len(linear):
            return linear
        trees = import_lightgbm(NEEDED_BY).Booster(model_str=self.text)
        return np.asarray(linear + trees.predict(x, raw_score=True))

    def at_level(self, level: "TreeFusion", centre: np.ndarray) -> "TreeFusion":
        """Return these trees with a regression that has the intercept of `level`'s at the row `centre` (1, X)."""
        return TreeFusion(self.linear.at_level(level.linear, centre), self.text)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights of the regression, and the trees' text as bytes."""
        return self.linear.tensors() | {"trees": text_to_tensor(self.text)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "TreeFusion":
        """Return the fusion that `tensors()` described."""
        return cls(Fusion.from_tensors(tensors), tensor_to_text(tensors["trees"]))


def fit_trees(x: np.ndarray, label: np.ndarray, fold: np.ndarray) -> TreeFusion:
    """Return a regression of labels (I,) on inputs (I, X), and trees that correct it; folds (I,) choose its penalty.

    Raises:
        InputError: LightGBM is not installed.
    """
    lightgbm = import_lightgbm(NEEDED_BY)
    linear = penalised_fusion(x, label, fold)
    parameters = {
        "objective": "binary",
        "learning_rate": LEARNING_RATE,
        "num_leaves": LEAVES,
        "min_data_in_leaf": max(20, int(SMALLEST_LEAF * len(label))),
        "lambda_l2": 10.0,
        "seed": 0,
        "num_threads": torch.get_num_threads(),
        "deterministic": True,
        "verbosity": -1,
    }
    rows = lightgbm.Dataset(x, label, init_score=linear.logit(x))
    return TreeFusion(linear, lightgbm.train(parameters, rows, TREES).model_to_string())
