"""Fixtures for the tests of several folders."""

import os

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # otherwise the torch threads of several test processes wait for each other

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from openlum.data.dataset import Dataset
from openlum.prepare.run import prepare
from tests.prepare.logs import random_events, write_log
from tests.tiny import run_tiny

SHARED = Path(__file__).parents[2] / "shared" / "data"
"""Directory with copies of real data sets. It may be missing."""


def built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """Return a directory that the first test process builds and all test processes share. Tests that change it must copy it."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    directory = shared / name
    with FileLock(shared / f"{name}.lock"):
        if not (shared / f"{name}.built").exists():
            shutil.rmtree(directory, ignore_errors=True)  # left by a process that failed
            build(directory)
            (shared / f"{name}.built").touch()
    return directory


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the results of `lum run tiny.yaml`."""
    return built_once(tmp_path_factory, "tiny-run", run_tiny)


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A prepared data set of 300 events with every type of feature, feedback, and impressions from events."""
    return Dataset(built_once(tmp_path_factory, "small", _prepare_small) / "dataset")


@pytest.fixture(scope="session")
def sharded_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The data set `small_dataset` in five shards."""
    build = partial(_prepare_small, events_per_part=60)
    return Dataset(built_once(tmp_path_factory, "sharded", build) / "dataset")


def _prepare_small(directory: Path, events_per_part: int = 2**20) -> None:
    rng = np.random.default_rng(0)
    items, users = [f"i{n}" for n in range(20)], [f"u{n}" for n in range(8)]
    item_table = {
        "id": items,
        "title": [f"Item {n}" for n in range(20)],
        "tags": [[f"t{tag}" for tag in rng.choice(6, n % 4, replace=False)] for n in range(20)],
        "price": rng.normal(10, 3, 20),
        "content": list(rng.normal(size=(20, 3))),
    }
    schema = write_log(
        directory,
        {"events": random_events(0, 300), "items": item_table, "users": {"id": users, "city": ["a", "b"] * 4}},
        items={
            "path": "items.parquet",
            "id": "id",
            "title": "title",
            "features": {
                "tags": {"type": "multi", "max_values": 2},
                "price": {"type": "numeric"},
                "content": {"type": "vector", "width": 3},
            },
        },
        users={"path": "users.parquet", "id": "id", "features": {"city": {}}},
        impressions_from_events={"field": "rating", "at_least": 4},
        gap_unit="s",
        engine={"events_per_part": events_per_part},
    )
    prepare(str(schema), str(directory / "dataset"))


@pytest.fixture(scope="session")
def real_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the publishers' files in `ml-1m`, `kuairand-pure` and `amazon-beauty`."""
    if not (SHARED / "unpack.py").is_file():
        pytest.skip("no copies of real data sets in ../shared/data")
    directory = tmp_path_factory.mktemp("real")
    subprocess.run([sys.executable, str(SHARED / "unpack.py"), str(directory)], check=True, capture_output=True)
    return directory
