"""Fixtures of the benchmark tests: the planted data of the ranker tests, and a list of trained trials."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from openlum.artefact.json_file import read_json, write_json
from openlum.bench import settings as bench_settings
from openlum.bench import trials
from openlum.bench.trials import Trial
from openlum.data.dataset import Dataset
from openlum.rank import joining
from tests.bench.tiny import TINY
from tests.rank.planted import write_knowledge, write_planted_dataset


def planted_knowledge(directory: Path, dataset: Dataset, seed: int) -> Path:
    """Write knowledge with a fingerprint, as `lum query` does, and return its directory."""
    write_knowledge(directory, dataset, seed=seed)
    content = read_json(directory / "knowledge.json", "lum query")
    write_json(directory / "knowledge.json", content | {"fingerprint": str(seed)})
    return directory


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset(write_planted_dataset(tmp_path_factory.mktemp("planted")))


@pytest.fixture(scope="session")
def knowledge_dir(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_knowledge(tmp_path_factory.mktemp("knowledge") / "knowledge", dataset, seed=0)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the trials that are trained in this process; worker processes are not counted."""
    names: list[str] = []
    train = trials._train

    def recorded_train(trial: Trial, **options: Any) -> None:
        names.append(trial.name)
        train(trial, **options)

    monkeypatch.setattr(trials, "_train", recorded_train)
    return names


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `--runs` directory that the tests of a module share."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def tiny_benchmark(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the shipped benchmarks by `tiny` and by `bare`, which has no ranking, retrieval and ablations.

    Late fusion is always used, although a model of one epoch hardly knows anything.
    """
    monkeypatch.setattr(joining, "LEVEL", 1.1)
    datasets = tmp_path_factory.mktemp("datasets")
    (datasets / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    (datasets / "bare.yaml").write_text(yaml.safe_dump(TINY | {"ranking": None, "retrieval": None, "ablations": []}))
    monkeypatch.setattr(bench_settings, "DATASETS", datasets)
