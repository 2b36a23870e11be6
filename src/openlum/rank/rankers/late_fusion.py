"""A ranker with late fusion: knowledge joins the logit of a plain ranker (see `openlum.rank.joining`).

Shapes: I rows, Q knowledge scores.
"""

import numpy as np
import torch
from torch import Tensor

from openlum.rank.batches import RankingData, Rows
from openlum.rank.fusion import Fusion, with_probabilities
from openlum.rank.joining import KINDS, Decision, LateFusion, fit_late_fusion
from openlum.rank.rankers.contract import AnyRanker
from openlum.rank.settings import RankerConfig

PREFIX = "fusion."


class LateFusionRanker:
    """A plain ranker and the fusion that joins its logit with knowledge scores; an `AnyRanker`.

    If the fusion did not gain beyond its error, the ranker predicts exactly what the plain ranker predicts.

    Args:
        config: the configuration with knowledge.
        plain: the same ranker without knowledge.
    """

    def __init__(self, config: RankerConfig, plain: AnyRanker) -> None:
        assert config.knowledge is not None
        self.config, self.plain = config, plain
        self.late = LateFusion(Fusion(np.empty(0), 0.0), Decision(False, "auc", None, None))
        """The fusion, and whether it is used."""

    def fit(self, data: RankingData) -> np.ndarray:
        """Fit the fusion on the validation rows, and return their probabilities, (I,): cross-fitted, or the plain ranker's."""
        rows = data.rows["valid"]
        self.late, probability = fit_on_validation_rows(self.plain.predict(data, rows), data, self.config)
        return probability

    def predict(self, data: RankingData, rows: Rows) -> np.ndarray:
        """Return predicted probabilities of rows, (I,) float32."""
        if not len(rows):
            return np.empty(0, np.float32)
        probability = self.plain.predict(data, rows)
        if not self.late.decision.kept:
            return probability
        return self.late(probability, late_fusion_scores(data, rows, self.config))

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the plain ranker and of the fusion."""
        fusion = self.late.tensors() | {"kept": torch.tensor(self.late.decision.kept)}
        return self.plain.tensors() | {f"{PREFIX}{name}": tensor for name, tensor in fusion.items()}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Load the tensors that `tensors()` returned. The gain that was measured is not among them."""
        fusion = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
        joined = KINDS[self.config.settings.knowledge.joining].from_tensors(fusion)
        self.late = LateFusion(joined, Decision(bool(fusion["kept"]), "auc", None, None))
        self.plain.load_tensors({name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)})


def fit_on_validation_rows(
    probability: np.ndarray, data: RankingData, config: RankerConfig
) -> tuple[LateFusion, np.ndarray]:
    """Return a fusion that was fitted on the validation rows, and the rows' probabilities (see `fit_late_fusion`).

    Args:
        probability: (I,) the plain ranker's probabilities of the validation rows.
        data: with knowledge.
        config: the configuration with knowledge.
    """
    rows, settings = data.rows["valid"], config.settings.knowledge
    scores = late_fusion_scores(data, rows, config)
    row_arrays = rows.label.numpy(), rows.user.numpy(), rows.item.numpy()
    return fit_late_fusion(probability, scores, *row_arrays, settings.joining, settings.keep)


def late_fusion_scores(data: RankingData, rows: Rows, config: RankerConfig) -> np.ndarray:
    """Return the knowledge scores of rows that join a ranker's logit, (I, Q)."""
    assert config.knowledge is not None
    names, probability_names = config.knowledge.similarities, config.knowledge.probabilities
    return with_probabilities(data.knowledge_scores(rows, config), names, probability_names)
