"""Fixtures of the benchmarks' tests: the planted world of the rankers' tests, and trainings without further processes."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch

from openlum.artefact import read_json, write_json
from openlum.bench import cells
from openlum.bench.cells import Cell
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


class Here:
    """Stands for the pool of processes: trains here and now, and counts."""

    trained: list[str] = []

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., None], cell: Cell, *rest: Any) -> Future[None]:
        self.trained.append(cell.name)
        done: Future[None] = Future()
        done.set_result(work(cell, *rest))
        return done


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cells that were trained, in this process."""
    monkeypatch.setattr(cells, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(Here, "trained", [])
    return Here.trained
