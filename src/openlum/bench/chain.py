"""The steps up to knowledge, for a benchmark: those of `lum run`, with the same skipping of what has not changed."""

from pathlib import Path
from typing import Any

from rich.console import Console

from openlum.artefact import read_json
from openlum.run import Chain, Experiment


def build_dataset(experiment: Experiment, directory: Path, console: Console, from_dir: Path | None) -> Path:
    """The dataset of an experiment, and nothing after it."""
    directory.mkdir(parents=True, exist_ok=True)
    Chain(experiment, directory / "experiment", directory, console, from_dir).dataset()
    return directory / "dataset"


def build_knowledge(
    experiment: Experiment, directory: Path, console: Console, from_dir: Path | None
) -> tuple[Path, dict[str, Any]]:
    """Data, dataset, model and knowledge of an experiment.

    Args:
        experiment: its rankers and retrieval are left out.
        directory: of the artefacts.
        console: to print to.
        from_dir: the publisher's files of a public data set.

    Returns:
        The knowledge, and the `pretrain` and `query` parts of `summary.json`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    without = experiment.model_copy(update={"rank": None, "retrieve": None})
    Chain(without, directory / "experiment", directory, console, from_dir).run()
    knowledge = directory / "knowledge"
    made = read_json(knowledge / "knowledge.json", "lum query")
    asked = {name: made[name] for name in ("rows", "seconds")} | {"questions": len(made["questions"])}
    return knowledge, {"pretrain": read_json(directory / "model" / "pretrain.json", "lum pretrain"), "query": asked}
