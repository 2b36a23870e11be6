"""Fixtures that tests of several folders share."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's threads of several test processes would wait for each other

from pathlib import Path

import numpy as np
import pytest

from openlum.data.dataset import Dataset
from openlum.data.prepare import prepare
from tests.data.logs import random_events, write_log


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A prepared data set of some hundred events: every type of feature, feedback, impressions by rule."""
    directory: Path = tmp_path_factory.mktemp("small")
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
    )
    prepare(schema, directory / "dataset")
    return Dataset(directory / "dataset")
