"""Fixtures of the benchmarks' tests: the planted world of the rankers' tests, and a count of trainings."""

from pathlib import Path
from typing import Any

import pytest
import torch

from openlum.artefact.directory import read_json, write_json
from openlum.bench import trials as trials
from openlum.bench.trials import Trial
from openlum.data.dataset import Dataset
from tests.rank.planted import write_knowledge, write_planted_dataset


def planted_knowledge(directory: Path, dataset: Dataset, seed: int) -> Path:
    """Knowledge with a fingerprint, as `lum query` writes it."""
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
    """Names of the trials that are trained in this process, so with one process."""
    names: list[str] = []
    train = trials._train

    def counted(trial: Trial, **rest: Any) -> None:
        names.append(trial.name)
        train(trial, **rest)

    monkeypatch.setattr(trials, "_train", counted)
    return names
