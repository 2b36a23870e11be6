"""`lightgbm`: gradient-boosted trees (Ke et al. 2017) on hand-made features and, with knowledge, the similarities.

Shapes: I rows of a split, X features, Q questions.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openlum.errors import InputError
from openlum.rank.batches import RankingData, Rows
from openlum.rank.hand_features import HandFeatures
from openlum.rank.settings import RankerConfig

PATIENCE = 50
"""Stop after this many trees without a better validation AUC."""


def library() -> Any:
    """The module lightgbm.

    Raises:
        InputError: it is not installed.
    """
    try:
        import lightgbm
    except ImportError:
        raise InputError("the ranker 'lightgbm' needs an optional part: pip install 'openlum[trees]'") from None
    return lightgbm


class Trees:
    """The contract of all rankers, for trees.

    Args:
        config: what it takes.
    """

    def __init__(self, config: RankerConfig) -> None:
        self.config = config
        self.text = ""
        """The trees, as LightGBM writes them; none before training."""

    def fit(self, data: RankingData, seed: int, step_done: Callable[[str], None]) -> list[float]:
        """Grow trees until the validation AUC rises no more; its value after every tree that was kept."""
        lightgbm, settings = library(), self.config.settings.trees
        train, valid = (self._dataset(data, data.rows[split]) for split in ("train", "valid"))
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
        callbacks = [
            lightgbm.early_stopping(PATIENCE, verbose=False),
            lightgbm.record_evaluation(curve),
            lambda state: step_done(f"tree {state.iteration + 1}"),
        ]
        booster = lightgbm.train(parameters, train, settings.rounds, valid_sets=[valid], callbacks=callbacks)
        self.text = booster.model_to_string(num_iteration=booster.best_iteration)
        return list(curve["valid_0"]["auc"][: booster.best_iteration])

    def predict(self, data: RankingData, rows: Rows) -> np.ndarray:
        """Predicted probabilities of rows, (I,) float32."""
        if not len(rows):
            return np.empty(0, np.float32)
        booster = library().Booster(model_str=self.text)
        return np.asarray(booster.predict(self._features(data, rows)[0]), np.float32)

    def tensors(self) -> dict[str, Tensor]:
        """The trees' text, as bytes."""
        return {"trees": torch.frombuffer(bytearray(self.text.encode()), dtype=torch.uint8)}

    def take(self, tensors: dict[str, Tensor]) -> None:
        """What `tensors` gave."""
        self.text = bytes(tensors["trees"].tolist()).decode()

    def _dataset(self, data: RankingData, rows: Rows) -> Any:
        values, categories = self._features(data, rows)
        return library().Dataset(values, rows.label.numpy(), categorical_feature=categories, free_raw_data=True)

    def _features(self, data: RankingData, rows: Rows) -> tuple[np.ndarray, list[int]]:
        """Values (I, X) float32, and which columns are categories."""
        made = HandFeatures(data, self.config)(rows)
        if self.config.knowledge is not None:
            similarity = data.numbers(rows, self.config)  # (I, Q)
            made.columns |= {f"similarity.{index}": similarity[:, index] for index in range(similarity.shape[1])}
        categories = [index for index, name in enumerate(made.columns) if name in made.categories]
        return np.stack([np.asarray(column, np.float32) for column in made.columns.values()], 1), categories
