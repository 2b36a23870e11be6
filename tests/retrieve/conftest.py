"""A log in which one item always follows another, and what the tests of next-item models share."""

from pathlib import Path

import numpy as np
import pytest
import torch

from openlum.data.dataset import Dataset
from openlum.prepare.run import prepare
from tests.prepare.logs import START, write_log

CYCLE = 24
"""Items of the planted log: after item i comes item i + 1, and after the last one the first."""


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """50 users who walk through the items in their order, each from another one on and for 8 to 18 events."""
    directory: Path = tmp_path_factory.mktemp("cycle")
    rng = np.random.default_rng(0)
    length = rng.integers(8, 19, 50)
    user = np.repeat(np.arange(50), length)
    step = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    item = (rng.integers(0, CYCLE, 50)[user] + step) % CYCLE
    events = {"user": [f"u{u}" for u in user], "item": [f"i{i}" for i in item], "time": START + 3600 * step}
    schema = write_log(
        directory,
        {"events": events},
        events={"path": "events.parquet", "user": "user", "item": "item", "time": "time"},
    )
    prepare(schema, directory / "dataset")
    return Dataset(directory / "dataset")
