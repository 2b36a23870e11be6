"""A small dataset of several days, and a model of it, for tests of knowledge as of times."""

from pathlib import Path

import pytest

from openlum.data.dataset import Dataset
from openlum.model import LargeUserModel, ModelSettings
from openlum.prepare.run import prepare
from openlum.pretrain.initialization import build_model
from tests.conftest import built_once
from tests.model.conftest import fill_zero_weights
from tests.prepare.logs import random_events, write_log

DAY = 86_400


def _prepare_days(directory: Path) -> None:
    users = [f"u{number}" for number in range(8)]
    schema = write_log(
        directory,
        {"events": random_events(0, 300, seconds=12 * DAY), "users": {"id": [*users, "idle"], "city": ["a"] * 9}},
        users={"path": "users.parquet", "id": "id", "features": {"city": {}}},
        impressions_from_events={"field": "rating", "at_least": 4},
        gap_unit="s",
        engine={"events_per_part": 60},
    )
    prepare(str(schema), str(directory / "dataset"))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Twelve days of events in several shards, and the user `idle` without events."""
    return Dataset(built_once(tmp_path_factory, "days", _prepare_days) / "dataset")


@pytest.fixture(scope="session")
def model(dataset: Dataset) -> LargeUserModel:
    """A model with windows that are shorter than histories."""
    shape = ModelSettings(width=16, layers=2, heads=2, embedding_width=8, field_width=8, max_events=10)
    model = build_model(dataset, shape, seed=0).eval()
    fill_zero_weights(model)
    return model


@pytest.fixture(scope="session")
def model_dir(model: LargeUserModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("users")
    model.save_pretrained(directory / "model")
    return directory / "model"
