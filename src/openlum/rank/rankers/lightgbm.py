"""`lightgbm`: gradient-boosted trees (Ke et al. 2017) on hand-made features and, with knowledge, knowledge scores.

Shapes: I rows of a split, X features, Q knowledge scores.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openlum.rank.batches import RankingData, Rows
from openlum.rank.boosted_trees import import_lightgbm, tensor_to_text, text_to_tensor
from openlum.rank.hand_features import HandFeatures
from openlum.rank.rankers.contract import RankerDescription
from openlum.rank.settings import RankerConfig

PATIENCE = 50
"""Training stops after this many trees without a better validation AUC."""


class Trees(RankerDescription):
    """Gradient-boosted trees; an `AnyRanker`.

    Args:
        config: the ranker's configuration.
    """

    name = "lightgbm"
    knowledge_input = "scores"
    learning_rate_key = "rank.trees.learning_rate"

    @classmethod
    def check_requirements(cls) -> None:
        import_lightgbm()

    def __init__(self, config: RankerConfig) -> None:
        self.config = config
        self.text = ""
        """The trees in LightGBM's text format; empty before training."""

    def fit(self, data: RankingData, seed: int, step_done: Callable[[str], None]) -> list[float]:
        """Grow trees until the validation AUC no longer rises, and return the validation AUC after each tree that is kept."""
        lightgbm, settings = import_lightgbm(), self.config.settings.trees
        curve: dict[str, Any] = {}
        parameters = {
            "objective": "binary",
            "metric": "auc",
            "learning_rate": settings.learning_rate,
            "num_leaves": settings.leaves,
            "min_data_in_leaf": settings.min_rows,
            "feature_fraction": 0.8,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "seed": seed,
            "num_threads": torch.get_num_threads(),
            "deterministic": True,
            "verbosity": -1,
        }
        train = self._dataset(data, data.rows["train"], parameters)
        valid = self._dataset(data, data.rows["valid"], parameters, reference=train)
        callbacks = [
            lightgbm.early_stopping(PATIENCE, verbose=False),
            lightgbm.record_evaluation(curve),
            lambda state: step_done(f"tree {state.iteration + 1}"),
        ]
        booster = lightgbm.train(parameters, train, settings.rounds, valid_sets=[valid], callbacks=callbacks)
        self.text = booster.model_to_string(num_iteration=booster.best_iteration)
        return list(curve["valid_0"]["auc"][: booster.best_iteration])

    def predict(self, data: RankingData, rows: Rows) -> np.ndarray:
        """Return predicted probabilities of rows, (I,) float32."""
        if not len(rows):
            return np.empty(0, np.float32)
        booster = import_lightgbm().Booster(model_str=self.text)
        return np.asarray(booster.predict(HandFeatures(data, self.config)(rows).values), np.float32)

    def tensors(self) -> dict[str, Tensor]:
        """Return the trees' text as bytes."""
        return {"trees": text_to_tensor(self.text)}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Load the tensors that `tensors()` returned."""
        self.text = tensor_to_text(tensors["trees"])

    def _dataset(self, data: RankingData, rows: Rows, parameters: dict[str, Any], reference: Any = None) -> Any:
        """Return the features in LightGBM's bins: a byte each. The features themselves leave the memory."""
        features = HandFeatures(data, self.config)(rows)
        return (
            import_lightgbm()
            .Dataset(
                features.values,
                rows.label.numpy(),
                reference=reference,
                categorical_feature=features.categories,
                params=parameters,
                free_raw_data=True,
            )
            .construct()
        )
