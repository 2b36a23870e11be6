"""The contract of all rankers."""

from typing import Protocol

import numpy as np
from torch import Tensor

from openlum.rank.batches import RankingData, Rows
from openlum.rank.settings import RankerConfig


class AnyRanker(Protocol):
    """A ranker: it predicts probabilities of rows, and can be saved and loaded as tensors."""

    config: RankerConfig

    def predict(self, data: RankingData, rows: Rows) -> np.ndarray:
        """Return predicted probabilities of rows, (I,) float32."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that the ranker learned."""
        ...

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Load the tensors that `tensors()` of a ranker with the same configuration returned; the ranker can then predict."""
        ...
