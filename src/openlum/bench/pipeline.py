"""The pipeline of a benchmark, from the log to knowledge. It skips artefacts that are up to date."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from openlum.artefact.json_file import fingerprint, read_json
from openlum.artefact.keys import Key, rerun_reason, step_key
from openlum.artefact.manifest import record_key
from openlum.bench.progress import run_all_with_progress
from openlum.console import metrics_in_words, new_console
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

    file: Path
    """The benchmark's file; `schema_file` is relative to it."""
    directory: Path
    """The directory of all artefacts. Artefacts that are already there are used."""
    console: Console
    """The console for messages."""
    from_dir: Path | None
    """Directory with the publisher's files of a public data set."""
    seeds: list[int]
    """Seeds; every ranker is trained once per seed."""
    models: int = 1
    """Number of trainings of the Large User Model; the seeds use them in turn."""
    processes: int = 1
    """Number of trainings at the same time."""


def build_dataset(experiment: Experiment, context: RunContext) -> Path:
    """Return the dataset of an experiment. A missing dataset is prepared as in `lum run`."""
    context.directory.mkdir(parents=True, exist_ok=True)
    _pipeline(experiment, context).dataset()
    return context.directory / "dataset"


def check_before_training(experiment: Experiment, context: RunContext, rankings: Sequence[RankSettings] = ()) -> None:
    """Check an experiment with an existing dataset, so that errors show before hours of training.

    Args:
        experiment: the experiment.
        context: where it runs.
        rankings: further settings with which rankers will be trained.

    Raises:
        InputError: names the file and the key, or the part of the dataset; see `openlum.pipeline.checks`.
    """
    _pipeline(experiment, context).check_before_training(rankings, context.directory / "models")


def _pipeline(experiment: Experiment, context: RunContext) -> Pipeline:
    return Pipeline(experiment, context.file, context.directory, context.console, context.from_dir)


@dataclass(frozen=True)
class ModelKnowledge:
    """The knowledge of one training of the Large User Model."""

    path: Path
    """Directory from `lum query`."""
    model: Path
    """Directory from `lum pretrain`."""
    summary: dict[str, Any]
    """The `pretrain` and `query` parts of `summary.json`."""


def build_knowledge(experiment: Experiment, context: RunContext) -> list[ModelKnowledge]:
    """Return the knowledge of every training of an experiment's Large User Model. Missing knowledge is made.

    Args:
        experiment: an experiment with an existing dataset; the trainings have its seed and the next ones.
        context: where it runs, the number of trainings, and how many run at the same time.
    """
    dataset, store = context.directory / "dataset", context.directory / "models"
    store.mkdir(parents=True, exist_ok=True)
    seeds = [experiment.pretrain.seed + number for number in range(context.models)]
    trainings = [_with_seed(experiment, seed) for seed in seeds]
    missing = [training for training in trainings if not _is_complete(training, dataset, store)]
    work = partial(_train, dataset=dataset, store=store)
    describe = partial(_lines_about, dataset=dataset, store=store)
    for _ in run_all_with_progress(work, missing, context.processes, "pretrain and query", describe):
        pass
    return [_model_knowledge(training, dataset, store) for training in trainings]


def _lines_about(experiment: Experiment, _: None, dataset: Path, store: Path) -> list[str]:
    """Return a line about a finished training: its seed, its validation metrics, and the directory of its knowledge."""
    knowledge = _model_knowledge(experiment, dataset, store)
    metrics = metrics_in_words(knowledge.summary["pretrain"]["validation"])
    return [f"pretrain and query, seed {experiment.pretrain.seed}: {metrics}: {knowledge.path}"]


def _with_seed(experiment: Experiment, seed: int) -> Experiment:
    return experiment.model_copy(update={"pretrain": experiment.pretrain.model_copy(update={"seed": seed})})


def _directories(experiment: Experiment, dataset: Path, store: Path) -> tuple[Path, Path]:
    """Return the directories of the model and its knowledge. The names contain a hash of all that the content depends on."""
    assert experiment.query is not None
    model, query_settings = (
        fingerprint(_model_key(experiment, dataset)),
        step_key("query", experiment.query.model_dump(), {}),
    )
    return store / f"model-{model}", store / f"knowledge-{fingerprint(model, query_settings)}"


def _model_key(experiment: Experiment, dataset: Path) -> Key:
    settings = [experiment.model.model_dump(), experiment.pretrain.model_dump()]
    return step_key("pretrain", settings, {"dataset": dataset})


def _knowledge_key(experiment: Experiment, dataset: Path, model: Path) -> Key:
    assert experiment.query is not None
    return step_key("query", experiment.query.model_dump(), {"dataset": dataset, "model": model})


def _is_complete(experiment: Experiment, dataset: Path, store: Path) -> bool:
    """Return whether the model and its knowledge exist, undamaged and up to date."""
    model, knowledge = _directories(experiment, dataset, store)
    if rerun_reason(model, _model_key(experiment, dataset)) is not None:
        return False
    return rerun_reason(knowledge, _knowledge_key(experiment, dataset, model)) is None


def _train(experiment: Experiment, dataset: Path, store: Path) -> None:
    """Train the model and write its knowledge, unless they are up to date."""
    assert experiment.query is not None
    console, (model, knowledge), seed = (
        new_console(),
        _directories(experiment, dataset, store),
        experiment.pretrain.seed,
    )
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


def _model_knowledge(experiment: Experiment, dataset: Path, store: Path) -> ModelKnowledge:
    model, knowledge = _directories(experiment, dataset, store)
    pretrained = read_json(model / "pretrain.json", "lum pretrain")
    return ModelKnowledge(knowledge, model, {"pretrain": pretrained, "query": query_part(knowledge)})
