"""The rankers, behind one contract: `predict(data, rows)` gives probabilities, `save(file)` writes one safetensors file."""

from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors import safe_open
from safetensors.torch import load_file

from openlum.errors import InputError
from openlum.rank.batches import RankingData, Rows
from openlum.rank.rankers.base import Ranker
from openlum.rank.rankers.dcnv2 import DcnV2
from openlum.rank.rankers.dien import Dien
from openlum.rank.rankers.din import Din
from openlum.rank.rankers.dnn import Dnn
from openlum.rank.rankers.generative import GenerativeRanker
from openlum.rank.rankers.lightgbm import Trees
from openlum.rank.rankers.sim import Sim
from openlum.rank.settings import GENERATIVE, Architecture, RankerConfig

GRADIENT: dict[Architecture, type[Ranker]] = {"dnn": Dnn, "dcnv2": DcnV2, "din": Din, "dien": Dien, "sim": Sim}
"""Rankers that read rows and are trained by gradient descent."""


class AnyRanker(Protocol):
    """What all rankers are."""

    config: RankerConfig

    def predict(self, data: RankingData, rows: Rows) -> np.ndarray:
        """Predicted probabilities of rows, (I,) float32."""
        ...

    def save(self, file: Path) -> None:
        """Write it as one safetensors file."""
        ...


def new_network(config: RankerConfig) -> Ranker | GenerativeRanker:
    """An untrained ranker of any architecture but trees."""
    return GenerativeRanker(config) if config.architecture in GENERATIVE else GRADIENT[config.architecture](config)


def load_ranker(file: Path) -> AnyRanker:
    """Read what `save` wrote, ready to predict.

    Raises:
        InputError: the file is no ranker.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
        config = RankerConfig.model_validate_json(metadata["ranker"])
        weights = load_file(file)
        if config.architecture == "lightgbm":
            return Trees(config, bytes(weights["trees"].tolist()).decode())
        ranker = new_network(config)
        ranker.load_state_dict(weights)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; 'lum rank' writes it") from None
    except Exception as error:
        raise InputError(f"{file}: not a ranker ({error}); 'lum rank' writes rankers") from None
    return ranker.eval()
