"""What a benchmark of a data set consists of. `datasets/NAME.yaml` holds one for each."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from openlum.config import S, Settings, load_settings, parse_settings
from openlum.errors import InputError
from openlum.model.settings import ModelSettings
from openlum.pipeline.experiment import Experiment
from openlum.pretrain.settings import PretrainSettings
from openlum.rank.settings import Architecture, Seed
from openlum.retrieve.sequential import SequentialSettings
from openlum.retrieve.settings import RetrieveSettings

DATASETS = Path(__file__).with_name("datasets")


LUM = "lum"
"""The Large User Model, among trainings for retrieval."""


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

    @field_validator("opponents")
    @classmethod
    def _not_ours(cls, opponents: dict[str, SequentialSettings]) -> dict[str, SequentialSettings]:
        if LUM in opponents:
            raise ValueError(f"'{LUM}' is the Large User Model; name the end-to-end model otherwise")
        return opponents


class RankingBench(Settings):
    """Ranking: every ranker without and with knowledge, and the generative opponents."""

    tune: dict[Architecture, Annotated[list[dict[str, Any]], Field(min_length=1)]] = Field(min_length=1)
    """Every ranker to what it is tuned over: changes of `rank`, one training each, judged by validation AUC. All have as many,
    with knowledge too."""
    tune_seed: Seed = 100
    """Seed of the tuning's trainings."""

    @model_validator(mode="after")
    def _same_budget(self) -> "RankingBench":
        numbers = {name: len(settings) for name, settings in self.tune.items()}
        if len(set(numbers.values())) > 1:
            told = ", ".join(f"{name} {number}" for name, number in numbers.items())
            raise ValueError(f"tune: every ranker must have as many settings as the others ({told})")
        return self

    def untuned(self) -> "RankingBench":
        """The same with the first setting of every ranker alone."""
        return self.model_copy(update={"tune": {name: settings[:1] for name, settings in self.tune.items()}})


NO_KNOWLEDGE, WHOLE_METHOD = "no knowledge", "whole method"
"""Rows that every table of ablations begins with."""


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

    def of(self, experiment: Experiment) -> Experiment:
        """The experiment with these changes."""
        sections = ("model", "pretrain", "query", "rank")
        found = {
            name: changed(getattr(experiment, name), getattr(self, name), f"ablation '{self.label}', {name}")
            for name in sections
        }
        content = experiment.model_dump(exclude_unset=True) | {name: one.model_dump() for name, one in found.items()}
        return parse_settings(content, Experiment, where=f"ablation '{self.label}'")


class Bench(Settings):
    """One file of `datasets/`, or one of the user's."""

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
    ablations: list[Ablation] = []
    """What is taken away or changed."""

    @model_validator(mode="after")
    def _can_run(self) -> "Bench":
        """Changes that do not fit are found now, and not after the trainings before them."""
        rank, query = self.experiment.rank, self.experiment.query
        if rank is None or query is None:
            if self.ranking or self.ablations:
                raise ValueError("'ranking' and 'ablations' need the experiment's 'query' and 'rank'; one is null")
            return self
        labels = [NO_KNOWLEDGE, WHOLE_METHOD, *(one.label for one in self.ablations)]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"ablations: the label '{twice[0]}' is taken; give each its own")
        try:
            for name, settings in self.ranking.tune.items() if self.ranking else []:
                for number, one in enumerate(settings, 1):
                    where = f"ranking.tune.{name}, setting {number}"
                    if changed(rank, one, where).informs(name) != rank.informs(name):
                        raise ValueError(f"{where}: whether knowledge can enter '{name}' must not change")
            for ablation in self.ablations:
                informed = ablation.of(self.experiment).rank
                assert informed is not None
                if not informed.informs(self.ablation_ranker):
                    raise ValueError(
                        f"ablation '{ablation.label}': knowledge cannot enter '{self.ablation_ranker}' like this"
                    )
        except InputError as error:
            raise ValueError(str(error)) from None
        return self


def bench_file(name: str) -> Path:
    """The file of a benchmark: one of `datasets/` by its name, or one of the user's by its path.

    Raises:
        InputError: there is none of this name.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    file = DATASETS / f"{name}.yaml"
    if not file.exists():
        known = ", ".join(sorted(f.stem for f in DATASETS.glob("*.yaml")))
        raise InputError(f"no benchmark for '{name}'; there are {known}; one of your own is a file, NAME.yaml")
    return file


def load_bench(file: Path) -> Bench:
    """A benchmark's file.

    Raises:
        InputError: it is missing, or is no benchmark.
    """
    return load_settings(file, Bench)


def changed(settings: S, changes: dict[str, Any], where: str = "benchmark") -> S:
    """Settings with some keys changed, nested ones key by key; keys of a mapping of names, such as questions, as a whole.

    `where` stands for the place of the changes in messages.
    """
    content = settings.model_dump()
    for key, value in changes.items():
        nested = isinstance(getattr(settings, key, None), Settings)
        content[key] = content[key] | value if nested and isinstance(value, dict) else value
    return parse_settings(content, type(settings), where=where)
