"""The rankers with one contract, and their files (one safetensors file each)."""

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file

from openlum.artefact.tensors import write_tensors
from openlum.errors import InputError
from openlum.rank.rankers.base import Ranker
from openlum.rank.rankers.contract import AnyRanker
from openlum.rank.rankers.dcnv2 import DcnV2
from openlum.rank.rankers.dien import Dien
from openlum.rank.rankers.din import Din
from openlum.rank.rankers.dnn import Dnn
from openlum.rank.rankers.generative import GenerativeRanker
from openlum.rank.rankers.late_fusion import LateFusionRanker
from openlum.rank.rankers.lightgbm import Trees
from openlum.rank.rankers.sim import Sim
from openlum.rank.settings import GENERATIVE, Architecture, RankerConfig

__all__ = ["ROWWISE", "AnyRanker", "load_ranker", "new_network", "save_ranker"]

ROWWISE: dict[Architecture, type[Ranker]] = {"dnn": Dnn, "dcnv2": DcnV2, "din": Din, "dien": Dien, "sim": Sim}
"""Networks that read one row at a time, with a fixed number of behaviours."""


def new_network(config: RankerConfig) -> Ranker | GenerativeRanker:
    """Return an untrained neural ranker (not `lightgbm`). With `config.knowledge`, knowledge is an input."""
    return GenerativeRanker(config) if config.architecture in GENERATIVE else ROWWISE[config.architecture](config)


def save_ranker(ranker: AnyRanker, file: Path) -> None:
    """Write a ranker's tensors and its configuration as one safetensors file."""
    write_tensors(ranker.tensors(), file, metadata={"ranker": ranker.config.model_dump_json()})


def load_ranker(file: Path) -> AnyRanker:
    """Read a ranker that `save_ranker` wrote; the ranker can then predict.

    Raises:
        InputError: the file does not hold a ranker.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
        ranker = _untrained(RankerConfig.model_validate_json(metadata["ranker"]))
        ranker.load_tensors(load_file(file))
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; 'lum rank' writes it") from None
    except Exception as error:
        raise InputError(f"{file}: not a ranker of this version ({error}); train it again with 'lum rank'") from None
    return ranker


def _untrained(config: RankerConfig) -> AnyRanker:
    if config.late_fusion:
        return LateFusionRanker(config, _untrained(config.plain))
    return Trees(config) if config.architecture == "lightgbm" else new_network(config)
