"""The steps up to knowledge, for a benchmark: nothing is made twice that has not changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from openlum.artefact.directory import fingerprint, read_json, record_key
from openlum.artefact.keys import Key, rerun_reason, step_key
from openlum.bench.workers import run_all_shown
from openlum.console import new_console
from openlum.errors import InputError
from openlum.pipeline.experiment import Experiment
from openlum.pipeline.run import Pipeline
from openlum.pipeline.summary import query_part
from openlum.pretrain.train import pretrain
from openlum.query.bulk import query
from openlum.rank.settings import RankSettings


@dataclass(frozen=True)
class RunContext:
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
    """Trainings at a time."""


def build_dataset(experiment: Experiment, context: RunContext) -> Path:
    """The dataset of an experiment, made as `lum run` does, unless it is there."""
    context.directory.mkdir(parents=True, exist_ok=True)
    _pipeline(experiment, context).dataset()
    return context.directory / "dataset"


def check_before_training(experiment: Experiment, context: RunContext, rankings: Sequence[RankSettings] = ()) -> None:
    """Find now what would stop an experiment, whose dataset there is, after an hour of training.

    Args:
        experiment: the chain.
        context: where it runs.
        rankings: settings that rankers will be trained with beside the experiment's own.

    Raises:
        InputError: names the file and the key, or the part of the dataset; see `checks.py`.
    """
    _pipeline(experiment, context).check_before_training(rankings, context.directory / "models")


def _pipeline(experiment: Experiment, context: RunContext) -> Pipeline:
    return Pipeline(experiment, context.bench, context.directory, context.console, context.from_dir)


@dataclass(frozen=True)
class Trained:
    """A Large User Model's answers to the rows of a data set."""

    knowledge: Path
    """From `lum query`."""
    told: dict[str, Any]
    """The `pretrain` and `query` parts of `summary.json`."""


def build_knowledge(experiment: Experiment, context: RunContext) -> list[Trained]:
    """The knowledge of every training of an experiment's Large User Model, made unless it is there.

    Args:
        experiment: whose dataset there is; the trainings' seeds are its own and the next ones.
        context: where, how many trainings, and how many at a time.
    """
    dataset, store = context.directory / "dataset", context.directory / "models"
    store.mkdir(parents=True, exist_ok=True)
    seeds = [experiment.pretrain.seed + number for number in range(context.models)]
    trainings = [_with_seed(experiment, seed) for seed in seeds]
    missing = [one for one in trainings if not _is_made(one, dataset, store)]
    work = partial(_train, dataset=dataset, store=store)
    for one, _ in run_all_shown(work, missing, context.processes, "pretrain and query", context.console):
        context.console.print(
            f"made      {_places(one, dataset, store)[1]}, seed {one.pretrain.seed}", style="dim", soft_wrap=True
        )
    return [_trained(one, dataset, store) for one in trainings]


def _with_seed(experiment: Experiment, seed: int) -> Experiment:
    return experiment.model_copy(update={"pretrain": experiment.pretrain.model_copy(update={"seed": seed})})


def _places(experiment: Experiment, dataset: Path, store: Path) -> tuple[Path, Path]:
    """Of the model and its answers: their names change with everything that these depend on."""
    assert experiment.query is not None
    model, query_alone = (
        fingerprint(_model_key(experiment, dataset)),
        step_key("query", experiment.query.model_dump(), {}),
    )
    return store / f"model-{model}", store / f"knowledge-{fingerprint(model, query_alone)}"


def _model_key(experiment: Experiment, dataset: Path) -> Key:
    settings = [experiment.model.model_dump(), experiment.pretrain.model_dump()]
    return step_key("pretrain", settings, {"dataset": dataset})


def _knowledge_key(experiment: Experiment, dataset: Path, model: Path) -> Key:
    assert experiment.query is not None
    return step_key("query", experiment.query.model_dump(), {"dataset": dataset, "model": model})


def _is_made(experiment: Experiment, dataset: Path, store: Path) -> bool:
    """Whether the model and its answers are there, whole and as they were written."""
    model, knowledge = _places(experiment, dataset, store)
    if rerun_reason(model, _model_key(experiment, dataset)) is not None:
        return False
    return rerun_reason(knowledge, _knowledge_key(experiment, dataset, model)) is None


def _train(experiment: Experiment, dataset: Path, store: Path) -> None:
    """Train the model, and write its answers, unless they are there."""
    assert experiment.query is not None
    console, (model, knowledge), seed = new_console(), _places(experiment, dataset, store), experiment.pretrain.seed
    try:
        key = _model_key(experiment, dataset)
        if (reason := rerun_reason(model, key)) is not None:
            console.print(Text.assemble(("pretrain", "bold"), f"  {model}, seed {seed} {reason}"), soft_wrap=True)
            pretrain(dataset, model, experiment.model, experiment.pretrain)
            record_key(model, key)
        key = _knowledge_key(experiment, dataset, model)
        if (reason := rerun_reason(knowledge, key)) is not None:
            console.print(Text.assemble(("query", "bold"), f"     {knowledge} {reason}"), soft_wrap=True)
            query(dataset, model, knowledge, experiment.query)
            record_key(knowledge, key)
    except InputError as error:
        raise InputError(f"Large User Model, seed {seed}: {error}") from None


def _trained(experiment: Experiment, dataset: Path, store: Path) -> Trained:
    model, knowledge = _places(experiment, dataset, store)
    pretrained = read_json(model / "pretrain.json", "lum pretrain")
    return Trained(knowledge, {"pretrain": pretrained, "query": query_part(knowledge)})
