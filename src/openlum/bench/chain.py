"""The steps up to knowledge, for a benchmark: those of `lum run`, with the same skipping of what has not changed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from openlum.artefact import read_json
from openlum.run import Chain, Experiment


@dataclass(frozen=True)
class Place:
    """Where and how a benchmark runs."""

    directory: Path
    """Of all artefacts; what is there already is used."""
    console: Console
    """To print to."""
    from_dir: Path | None
    """The publisher's files of a public data set."""
    seeds: list[int]
    """One training each of every method."""
    processes: int = 1
    """Trainings at a time."""


def build_dataset(experiment: Experiment, place: Place) -> Path:
    """The dataset of an experiment, and nothing after it."""
    _chain(experiment, place).dataset()
    return place.directory / "dataset"


def build_knowledge(experiment: Experiment, place: Place) -> tuple[Path, dict[str, Any]]:
    """Data, dataset, model and knowledge of an experiment, whose rankers and retrieval are left out.

    Returns:
        The knowledge, and the `pretrain` and `query` parts of `summary.json`.
    """
    _chain(experiment.model_copy(update={"rank": None, "retrieve": None}), place).run()
    knowledge = place.directory / "knowledge"
    made = read_json(knowledge / "knowledge.json", "lum query")
    asked = {name: made[name] for name in ("rows", "seconds")} | {"questions": len(made["questions"])}
    return knowledge, {
        "pretrain": read_json(place.directory / "model" / "pretrain.json", "lum pretrain"),
        "query": asked,
    }


def _chain(experiment: Experiment, place: Place) -> Chain:
    place.directory.mkdir(parents=True, exist_ok=True)
    return Chain(experiment, place.directory / "experiment", place.directory, place.console, place.from_dir)
