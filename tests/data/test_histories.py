"""Histories in raw values are encoded to the ids and numbers of the dataset."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.model.processor import Processor
from openlum.prepare.run import prepare
from tests.prepare.logs import EVENTS, random_events, write_log

FIELDS: dict[str, Any] = {
    "rating": {"feedback": True},
    "scenario": {},
    "tags": {"type": "multi", "max_values": 2},
    "price": {"type": "numeric"},
    "rank": {"type": "numeric", "buckets": 4},
    "query": {"type": "vector", "width": 3},
    "shown": {"type": "time"},
    "code": {"hash_rows": 50},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset whose condition has every type of field, with missing values."""
    directory, rng = tmp_path_factory.mktemp("histories"), np.random.default_rng(0)
    events = random_events(0, 200)
    n = len(events["user"])

    def sometimes(values: list[Any]) -> list[Any]:
        return [value if keep else None for value, keep in zip(values, rng.random(n) < 0.8, strict=True)]

    events |= {
        "tags": [[f"t{tag}" for tag in rng.choice(6, size % 4, replace=False)] for size in range(n)],
        "price": sometimes(rng.normal(10, 3, n).tolist()),
        "rank": sometimes(rng.integers(0, 30, n).tolist()),
        "query": sometimes(list(rng.normal(size=(n, 3)))),
        "shown": pa.array(1_500_000_000 + rng.integers(0, 10**7, n)).cast(pa.timestamp("s")),
        "code": [f"c{code}" for code in rng.integers(0, 99, n)],
    }
    schema = write_log(directory, {"events": events}, events=EVENTS | {"condition": FIELDS})
    prepare(schema, directory / "dataset")
    return Dataset(directory / "dataset")


def test_raw_values_are_encoded_to_the_values_of_the_dataset(dataset: Dataset) -> None:
    sequences, processor = dataset.sequences, Processor.from_dataset(dataset)
    histories = dataset.histories()
    assert list(histories) == dataset.vocabulary("users").decode(sequences.user)
    events = [event for history in histories.values() for event in history]
    assert [event["time"] for event in events] == sequences.time.tolist()
    assert processor.items.encode([event["item"] for event in events]).tolist() == sequences.item.tolist()
    rows = [{name: value for name, value in event.items() if name not in ("item", "time")} for event in events]
    specs = [spec for spec in dataset.specs("condition") if spec.name in FIELDS]
    encoded = processor.encode_conditions(rows, specs, strict=True)
    for name in set(FIELDS) - {"code"}:
        expected = torch.from_numpy(np.ascontiguousarray(sequences.condition[name]))
        torch.testing.assert_close(encoded[name], expected.to(encoded[name].dtype), atol=1e-4, rtol=0, equal_nan=True)
    assert not any("code" in event for event in events), "a dataset does not have the values of hashed fields"
    assert any("price" not in event for event in events)


def test_chosen_users_have_their_own_histories(dataset: Dataset) -> None:
    histories = dataset.histories()
    assert dataset.histories(["u3", "u1"]) == {user: histories[user] for user in ("u3", "u1")}
    assert list(dataset.histories(["u3", "u1"])) == ["u3", "u1"]


def test_an_unknown_user_is_named(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="user_ids: the dataset has no user 'nobody'"):
        dataset.histories(["u1", "nobody"])
    with pytest.raises(InputError, match="user_ids: expected a list of user ids, found 'u1'"):
        dataset.histories("u1")


def test_a_dataset_shows_its_figures(dataset: Dataset, tmp_path: Path) -> None:
    html = dataset._repr_html_()
    assert f"{dataset.info.counts['events']:,}" in html
    assert "<th" in html
