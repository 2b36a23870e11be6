"""The rankers with one contract, and their files (one safetensors file each)."""

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file

from openlum.artefact.tensors import write_tensors
from openlum.errors import InputError
from openlum.rank.rankers.base import Ranker
from openlum.rank.rankers.contract import AnyRanker, RankerDescription
from openlum.rank.rankers.late_fusion import LateFusionRanker
from openlum.rank.registry import RANKERS
from openlum.rank.settings import RankerConfig

__all__ = ["AnyRanker", "Ranker", "RankerDescription", "load_ranker", "new_ranker", "save_ranker"]


def new_ranker(config: RankerConfig) -> AnyRanker:
    """Return an untrained ranker. With late fusion, it is a plain ranker and an untrained fusion."""
    if config.late_fusion:
        return LateFusionRanker(config, new_ranker(config.plain))
    ranker: AnyRanker = RANKERS.load(config.architecture)(config)
    return ranker


def save_ranker(ranker: AnyRanker, file: Path) -> None:
    """Write a ranker's tensors and its configuration as one safetensors file."""
    write_tensors(ranker.tensors(), file, metadata={"ranker": ranker.config.model_dump_json()})


def load_ranker(file: Path) -> AnyRanker:
    """Read a ranker that `save_ranker` wrote; the ranker can then predict.

    Raises:
        InputError: the file does not hold a ranker, or the package of the ranker is not installed.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
        ranker = new_ranker(RankerConfig.model_validate_json(metadata["ranker"]))
        ranker.load_tensors(load_file(file))
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; 'lum rank' writes it") from None
    except Exception as error:
        raise InputError(f"{file}: not a ranker of this version ({error}); train it again with 'lum rank'") from None
    return ranker
