"""Settings of a benchmark. `datasets/NAME.yaml` has the shipped ones, one per data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from openlum.config import S, Settings, load_settings, parse_settings
from openlum.errors import InputError
from openlum.model.settings import ModelSettings
from openlum.pipeline.experiment import Experiment
from openlum.pretrain.settings import PretrainSettings
from openlum.rank.registry import RankerName
from openlum.rank.settings import Seed
from openlum.retrieve.settings import RetrieveSettings, SequentialSettings

DATASETS = Path(__file__).with_name("datasets")
"""Directory of the shipped benchmarks."""
LUM = "lum"
"""Name of the Large User Model among the trainings for retrieval."""


class RetrievalBench(Settings):
    """Retrieval: the last event of each user is held out, and all items are ranked."""

    protocol: list[str]
    """The protocol in words: the held-out events and the inputs of the models, one line each."""
    model: ModelSettings
    """Shape of the Large User Model."""
    pretrain: PretrainSettings
    """Training of the Large User Model, with protocol `last`."""
    retrieve: RetrieveSettings
    """Questions and cut-offs. The questions of `known` use fields of the held-out event, so they have more information than the
    opponents and are reported separately."""
    opponents: dict[str, SequentialSettings]
    """End-to-end models: name to shape and training."""

    @field_validator("opponents")
    @classmethod
    def _check_names(cls, opponents: dict[str, SequentialSettings]) -> dict[str, SequentialSettings]:
        if LUM in opponents:
            raise ValueError(f"'{LUM}' is reserved for the Large User Model; give the end-to-end model another name")
        return opponents


class RankingBench(Settings):
    """Ranking: every ranker without and with knowledge, and the generative opponents."""

    tune: dict[RankerName, Annotated[list[dict[str, Any]], Field(min_length=1)]] = Field(min_length=1)
    """Ranker to the settings over which it is tuned: changes of `rank`, one training each, compared by validation AUC. Every
    ranker has the same number of settings, without and with knowledge."""
    tune_seed: Seed = 100
    """Seed of the trainings for tuning."""

    @model_validator(mode="after")
    def _check_same_budget(self) -> "RankingBench":
        numbers = {name: len(settings) for name, settings in self.tune.items()}
        if len(set(numbers.values())) > 1:
            counts = ", ".join(f"{name} {number}" for name, number in numbers.items())
            raise ValueError(f"tune: every ranker must have the same number of settings (found {counts})")
        return self

    def untuned(self) -> "RankingBench":
        """Return the same settings with only the first setting of every ranker."""
        return self.model_copy(update={"tune": {name: settings[:1] for name, settings in self.tune.items()}})


NO_KNOWLEDGE, WHOLE_METHOD = "no knowledge", "whole method"
"""The first two rows of every table of ablations."""


class Ablation(Settings):
    """One change of the method, evaluated by the test AUC of a ranker with the changed knowledge."""

    table: str
    """Name of the table to which the ablation belongs."""
    label: str
    """Description of the change, for the table."""
    rank: dict[str, Any] = {}
    """Changes of `rank`."""
    query: dict[str, Any] = {}
    """Changes of `query`."""
    model: dict[str, Any] = {}
    """Changes of `model`."""
    pretrain: dict[str, Any] = {}
    """Changes of `pretrain`."""

    def apply_to(self, experiment: Experiment) -> Experiment:
        """Return the experiment with these changes."""
        sections = ("model", "pretrain", "query", "rank")
        changed = {
            name: with_changes(getattr(experiment, name), getattr(self, name), f"ablation '{self.label}', {name}")
            for name in sections
        }
        content = experiment.model_dump(exclude_unset=True) | {
            name: settings.model_dump() for name, settings in changed.items()
        }
        return parse_settings(content, Experiment, where=f"ablation '{self.label}'")


class Bench(Settings):
    """A benchmark file: one of `datasets/`, or a user's own."""

    protocol: list[str]
    """The protocol in words: the splits, the label and the inputs of the models, one line each."""
    experiment: Experiment
    """The pipeline up to knowledge, and the settings that rankers share."""
    ranking: RankingBench | None = None
    """The ranking benchmark, or None."""
    retrieval: RetrievalBench | None = None
    """The retrieval benchmark, or None."""
    ablation_ranker: RankerName = "din"
    """The ranker of the ablations."""
    ablations: list[Ablation] = []
    """Changes of the method, one ablation each."""

    @model_validator(mode="after")
    def _check_changes(self) -> "Bench":
        """Check all changes before the first training."""
        rank, query = self.experiment.rank, self.experiment.query
        if rank is None or query is None:
            if self.ranking or self.ablations:
                raise ValueError("'ranking' and 'ablations' need the experiment's 'query' and 'rank'; one is null")
            return self
        labels = [NO_KNOWLEDGE, WHOLE_METHOD, *(ablation.label for ablation in self.ablations)]
        duplicates = sorted({label for label in labels if labels.count(label) > 1})
        if duplicates:
            raise ValueError(f"ablations: the label '{duplicates[0]}' is used twice; give each ablation its own label")
        try:
            for name, settings in self.ranking.tune.items() if self.ranking else []:
                for number, changes in enumerate(settings, 1):
                    where = f"ranking.tune.{name}, setting {number}"
                    if with_changes(rank, changes, where).accepts_knowledge(name) != rank.accepts_knowledge(name):
                        raise ValueError(f"{where}: a setting must not change whether knowledge can enter '{name}'")
            for ablation in self.ablations:
                changed = ablation.apply_to(self.experiment).rank
                assert changed is not None
                if not changed.accepts_knowledge(self.ablation_ranker):
                    raise ValueError(
                        f"ablation '{ablation.label}': knowledge cannot enter the ranker '{self.ablation_ranker}'"
                    )
        except InputError as error:
            raise ValueError(str(error)) from None
        return self


def bench_file(name: str) -> Path:
    """Return the file of a benchmark: one of `datasets/` by its name, or a user's own by its path.

    Raises:
        InputError: there is no benchmark of this name.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    file = DATASETS / f"{name}.yaml"
    if not file.exists():
        names = ", ".join(sorted(f.stem for f in DATASETS.glob("*.yaml")))
        raise InputError(f"unknown benchmark '{name}'; choose from {names}, or give a file of your own, NAME.yaml")
    return file


def load_bench(file: Path, overrides: Sequence[str] = ()) -> Bench:
    """Read a benchmark file.

    Args:
        file: the file.
        overrides: changes of its content, `KEY=VALUE` each, such as `experiment.pretrain.epochs=3`.

    Raises:
        InputError: the file is missing or does not hold a benchmark, or an override has a mistake.
    """
    return load_settings(file, Bench, overrides)


def with_changes(settings: S, changes: dict[str, Any], where: str = "benchmark") -> S:
    """Return settings with some keys changed. Nested settings change key by key; mappings of names, such as questions, as a
    whole.

    Args:
        settings: the original settings.
        changes: key to new value.
        where: the source of the changes, for error messages.
    """
    content = settings.model_dump()
    for key, value in changes.items():
        nested = isinstance(getattr(settings, key, None), Settings)
        content[key] = content[key] | value if nested and isinstance(value, dict) else value
    return parse_settings(content, type(settings), where=where)
