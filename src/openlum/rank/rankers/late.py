"""Any ranker, with knowledge that joins its logit: see `openlum.rank.fusion`.

Shapes: I rows, Q numbers of knowledge.
"""

import numpy as np
import torch
from torch import Tensor

from openlum.rank.batches import RankingData, Rows
from openlum.rank.fusion import Fusion, cross_fit, fused_inputs, with_probabilities
from openlum.rank.rankers.contract import AnyRanker
from openlum.rank.settings import RankerConfig

PREFIX = "fusion."


class LateRanker:
    """The contract of all rankers, for a plain one with knowledge.

    Args:
        config: with knowledge.
        plain: the same ranker without.
    """

    def __init__(self, config: RankerConfig, plain: AnyRanker) -> None:
        assert config.knowledge is not None
        self.config, self.plain = config, plain
        self.fusion = Fusion(np.empty(0), 0.0)

    def fit(self, data: RankingData) -> np.ndarray:
        """Weigh the plain ranker and knowledge against each other on the validation rows; their probabilities, cross-fitted."""
        rows = data.rows["valid"]
        self.fusion, crossed = cross_fit(self._inputs(data, rows), rows.label.numpy(), rows.user.numpy())
        return crossed

    def predict(self, data: RankingData, rows: Rows) -> np.ndarray:
        """Predicted probabilities of rows, (I,) float32."""
        return self.fusion(self._inputs(data, rows)) if len(rows) else np.empty(0, np.float32)

    def tensors(self) -> dict[str, Tensor]:
        """Those of the plain ranker, and the fusion's."""
        fusion = {
            "weight": torch.from_numpy(self.fusion.weight),
            "bias": torch.tensor(self.fusion.bias, dtype=torch.float64),
        }
        return self.plain.tensors() | {f"{PREFIX}{name}": tensor for name, tensor in fusion.items()}

    def take(self, tensors: dict[str, Tensor]) -> None:
        """What `tensors` gave."""
        self.fusion = Fusion(tensors[f"{PREFIX}weight"].numpy(), float(tensors[f"{PREFIX}bias"]))
        self.plain.take({name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)})

    def _inputs(self, data: RankingData, rows: Rows) -> np.ndarray:
        return late_inputs(self.plain.predict(data, rows), data, rows, self.config)


def late_inputs(probability: np.ndarray, data: RankingData, rows: Rows, config: RankerConfig) -> np.ndarray:
    """What joins in the logit of rows: a plain ranker's probabilities of them, (I,), and their knowledge; (I, X)."""
    assert config.knowledge is not None
    names, several = config.knowledge.similarities, config.knowledge.probabilities
    return fused_inputs(probability, with_probabilities(data.numbers(rows, config), names, several))
