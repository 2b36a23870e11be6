"""What all rankers are."""

from typing import Protocol

import numpy as np
from torch import Tensor

from openlum.rank.batches import RankingData, Rows
from openlum.rank.settings import RankerConfig


class AnyRanker(Protocol):
    """Gives probabilities of rows, and itself as tensors to be saved."""

    config: RankerConfig

    def predict(self, data: RankingData, rows: Rows) -> np.ndarray:
        """Predicted probabilities of rows, (I,) float32."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All that it learned."""
        ...

    def take(self, tensors: dict[str, Tensor]) -> None:
        """What `tensors` of a ranker with this configuration gave; ready to predict."""
        ...
