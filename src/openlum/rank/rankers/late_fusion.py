"""A ranker with late fusion: knowledge joins the logit of a plain ranker (see `openlum.rank.fusion`).

Shapes: I rows, X inputs of the fusion.
"""

import numpy as np
import torch
from torch import Tensor

from openlum.rank.batches import RankingData, Rows
from openlum.rank.fusion import Fusion, cross_fit, fused_inputs, with_probabilities
from openlum.rank.rankers.contract import AnyRanker
from openlum.rank.settings import RankerConfig

PREFIX = "fusion."


class LateFusionRanker:
    """A plain ranker and the fusion that joins its logit with knowledge scores; an `AnyRanker`.

    Args:
        config: the configuration with knowledge.
        plain: the same ranker without knowledge.
    """

    def __init__(self, config: RankerConfig, plain: AnyRanker) -> None:
        assert config.knowledge is not None
        self.config, self.plain = config, plain
        self.fusion = Fusion(np.empty(0), 0.0)

    def fit(self, data: RankingData) -> np.ndarray:
        """Fit the fusion on the validation rows, and return their cross-fitted probabilities, (I,)."""
        rows = data.rows["valid"]
        self.fusion, probability = cross_fit(self._inputs(data, rows), rows.label.numpy(), rows.user.numpy())
        return probability

    def predict(self, data: RankingData, rows: Rows) -> np.ndarray:
        """Return predicted probabilities of rows, (I,) float32."""
        return self.fusion(self._inputs(data, rows)) if len(rows) else np.empty(0, np.float32)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the plain ranker and of the fusion."""
        fusion = {
            "weight": torch.from_numpy(self.fusion.weight),
            "bias": torch.tensor(self.fusion.bias, dtype=torch.float64),
        }
        return self.plain.tensors() | {f"{PREFIX}{name}": tensor for name, tensor in fusion.items()}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Load the tensors that `tensors()` returned."""
        self.fusion = Fusion(tensors[f"{PREFIX}weight"].numpy(), float(tensors[f"{PREFIX}bias"]))
        self.plain.load_tensors({name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)})

    def _inputs(self, data: RankingData, rows: Rows) -> np.ndarray:
        return late_fusion_inputs(self.plain.predict(data, rows), data, rows, self.config)


def late_fusion_inputs(probability: np.ndarray, data: RankingData, rows: Rows, config: RankerConfig) -> np.ndarray:
    """Return the fusion inputs of rows, (I, X), from a plain ranker's probabilities (I,) and the rows' knowledge."""
    assert config.knowledge is not None
    names, probability_names = config.knowledge.similarities, config.knowledge.probabilities
    return fused_inputs(probability, with_probabilities(data.knowledge_scores(rows, config), names, probability_names))
