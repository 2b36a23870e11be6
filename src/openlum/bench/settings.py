"""What a benchmark of a data set consists of. `datasets/NAME.yaml` holds one for each."""

from pathlib import Path
from typing import Any

from pydantic import Field

from openlum.config import S, Settings, load_settings, parse_settings
from openlum.errors import InputError
from openlum.model.settings import ModelSettings
from openlum.pretrain.settings import PretrainSettings
from openlum.rank.settings import Architecture
from openlum.retrieve.sequential import SequentialSettings
from openlum.retrieve.settings import RetrieveSettings
from openlum.run import Experiment

DATASETS = Path(__file__).with_name("datasets")


class RetrievalBench(Settings):
    """Retrieval: the last event of each user held out, all items ranked."""

    protocol: list[str]
    """What is held out, what is seen: one line each."""
    model: ModelSettings
    """Shape of the Large User Model."""
    pretrain: PretrainSettings
    """Its training, with protocol `last`."""
    retrieve: RetrieveSettings
    """Questions. Those of `known` are told more than the opponents, and are reported apart."""
    opponents: dict[str, SequentialSettings]
    """End-to-end models: name to shape and training."""


class RankingBench(Settings):
    """Ranking: every ranker without and with knowledge, and the generative opponents."""

    tune: dict[Architecture, list[dict[str, Any]]]
    """Every ranker to what it is tuned over: changes of `rank`, one training each, judged by validation AUC. With
    knowledge a ranker has the same budget."""
    tune_seed: int = 100
    """Seed of the tuning's trainings."""

    def untuned(self) -> "RankingBench":
        """The same with the first setting of every ranker alone."""
        return self.model_copy(update={"tune": {name: settings[:1] for name, settings in self.tune.items()}})


class Ablation(Settings):
    """One change of the method, judged by what the best ranker makes of it."""

    table: str
    """Which comparison it belongs to."""
    label: str
    """What is changed, for the table."""
    rank: dict[str, Any] = {}
    """Changes of `rank`."""
    query: dict[str, Any] = {}
    """Changes of `query`."""
    model: dict[str, Any] = {}
    """Changes of `model`."""
    pretrain: dict[str, Any] = {}
    """Changes of `pretrain`."""


class Bench(Settings):
    """One file of `datasets/`."""

    protocol: list[str]
    """What was split how, what the label is, what is seen: one line each."""
    experiment: Experiment
    """The chain up to knowledge, and the settings that rankers share."""
    ranking: RankingBench | None = None
    """The benchmark of ranking."""
    retrieval: RetrievalBench | None = None
    """The benchmark of retrieval."""
    ablation_ranker: Architecture = "din"
    """The ranker of the ablations."""
    ablations: list[Ablation] = Field(default=[])
    """What is taken away or changed."""


def load_bench(dataset: str) -> Bench:
    """The benchmark of a data set.

    Raises:
        InputError: there is none.
    """
    file = DATASETS / f"{dataset}.yaml"
    if not file.exists():
        known = ", ".join(sorted(f.stem for f in DATASETS.glob("*.yaml")))
        raise InputError(f"no benchmark for '{dataset}'; there are {known}")
    return load_settings(file, Bench)


def changed(settings: S, changes: dict[str, Any]) -> S:
    """Settings with some keys changed, nested ones key by key; keys of a mapping of names, such as questions, as a whole."""
    content = settings.model_dump()
    for key, value in changes.items():
        nested = isinstance(getattr(settings, key, None), Settings)
        content[key] = content[key] | value if nested else value
    return parse_settings(content, type(settings), where=f"benchmark, {changes}")
