"""Fixtures of the retrieval tests: a log in which the next item follows from the last item."""

from pathlib import Path

import numpy as np
import pytest
import torch

from openlum.data.dataset import Dataset
from openlum.model import LargeUserModel, ModelSettings
from openlum.prepare.run import prepare
from openlum.pretrain.initialization import build_model
from tests.model.conftest import fill_zero_weights
from tests.prepare.logs import START, write_log

CYCLE = 24
"""Number of items of the planted log: after item i comes item i + 1, and after the last item the first."""


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Return a log of 50 users who go through the items in order, each from a random item on and for 8 to 18 events."""
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


@pytest.fixture
def awake(small_dataset: Dataset, tmp_path: Path) -> LargeUserModel:
    """Return an untrained model whose answers depend on its inputs, saved in `model`."""
    shape = ModelSettings(width=16, layers=1, heads=2, embedding_width=8, max_events=20)
    model = build_model(small_dataset, shape, seed=0).eval()
    fill_zero_weights(model)
    model.save_pretrained(tmp_path / "model")
    return model
