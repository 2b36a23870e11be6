"""The steps up to knowledge, for a benchmark: nothing is made twice that has not changed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from openlum import __version__
from openlum.artefact import fingerprint, read_json
from openlum.pretrain.train import pretrain
from openlum.query.bulk import query
from openlum.run import Chain, Experiment
from openlum.summary import query_part


@dataclass(frozen=True)
class Place:
    """Where and how a benchmark runs."""

    bench: Path
    """The benchmark's file: its `schema_file` is relative to it."""
    directory: Path
    """Of all artefacts; what is there already is used."""
    console: Console
    """To print to."""
    from_dir: Path | None
    """The publisher's files of a public data set."""
    seeds: list[int]
    """One training each of every ranker."""
    models: int = 1
    """Trainings of a Large User Model; the seeds take them in turn."""
    processes: int = 1
    """Trainings of rankers at a time."""


def build_dataset(experiment: Experiment, place: Place) -> Path:
    """The dataset of an experiment, made as `lum run` does, unless it is there."""
    place.directory.mkdir(parents=True, exist_ok=True)
    _chain(experiment, place).dataset()
    return place.directory / "dataset"


def check_before_training(experiment: Experiment, place: Place) -> None:
    """Find now what would stop an experiment, whose dataset there is, after an hour of training.

    Raises:
        InputError: a question does not fit the dataset, or its rows teach a ranker nothing.
    """
    _chain(experiment, place).check_before_training()


def _chain(experiment: Experiment, place: Place) -> Chain:
    return Chain(experiment, place.bench, place.directory, place.console, place.from_dir)


@dataclass(frozen=True)
class Trained:
    """A Large User Model's answers to the rows of a data set."""

    knowledge: Path
    """From `lum query`."""
    told: dict[str, Any]
    """The `pretrain` and `query` parts of `summary.json`."""


def build_knowledge(experiment: Experiment, place: Place) -> list[Trained]:
    """The knowledge of every training of an experiment's Large User Model, made unless it is there.

    Args:
        experiment: whose dataset there is; the trainings' seeds are its own and the next ones.
        place: where, and how many trainings.
    """
    dataset, store = place.directory / "dataset", place.directory / "models"
    store.mkdir(parents=True, exist_ok=True)
    seeds = [experiment.pretrain.seed + number for number in range(place.models)]
    return [_trained(experiment, seed, dataset, store, place.console) for seed in seeds]


def _trained(experiment: Experiment, seed: int, dataset: Path, store: Path, console: Console) -> Trained:
    assert experiment.query is not None
    settings = experiment.pretrain.model_copy(update={"seed": seed})
    made = read_json(dataset / "dataset.json", "lum prepare")["fingerprint"]
    key = fingerprint(__version__, made, experiment.model.model_dump(), settings.model_dump())
    model = store / f"model-{key}"
    knowledge = store / f"knowledge-{fingerprint(key, experiment.query.model_dump())}"
    if not model.exists():
        console.print(f"[bold]pretrain[/bold]  {model}, seed {seed}", soft_wrap=True)
        pretrain(dataset, model, experiment.model, settings)
    if not knowledge.exists():
        console.print(f"[bold]query[/bold]     {knowledge}", soft_wrap=True)
        query(dataset, model, knowledge, experiment.query)
    pretrained = read_json(model / "pretrain.json", "lum pretrain")
    return Trained(knowledge, {"pretrain": pretrained, "query": query_part(knowledge)})
