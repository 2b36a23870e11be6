"""Hand-made features against a slow loop over rows, on a log in which users repeat items and many times are equal."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openlum.data.dataset import SPLITS, Dataset
from openlum.prepare.run import prepare
from openlum.rank.batches import RankingData
from openlum.rank.hand_features import WINDOWS, HandFeatures
from openlum.rank.settings import RankSettings
from tests.prepare.logs import START, write_log

USERS, ITEMS, EVENTS, UNIT = 6, 8, 240, 3600
STEPS = np.array([0, 0, 0, 1, 600, 4000, 90_000, 400_000])
"""Seconds from one event to the next one."""


@pytest.fixture(scope="module", params=[2**20, 60], ids=["one shard", "several shards"])
def repeats(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RankingData:
    rng, directory = np.random.default_rng(5), tmp_path_factory.mktemp("repeats")
    time = START + np.cumsum(rng.choice(STEPS, EVENTS))
    ids = {
        "user": [f"u{u}" for u in rng.integers(USERS, size=EVENTS)],
        "item": [f"i{i}" for i in rng.integers(ITEMS, size=EVENTS)],
        "time": time,
    }
    value = rng.integers(3, size=EVENTS)
    log = write_log(
        directory / "log",
        {
            "events": {**ids, "feedback": [["click", "skip", "buy"][v] for v in value]},
            "impressions": {**ids, "label": (value > 0).astype(np.int64)},
            "items": {
                "item": [f"i{i}" for i in range(ITEMS)],
                "colour": [["red", "blue"][i % 2] for i in range(ITEMS)],
                "tags": [[f"t{i % 3}", f"t{3 + i % 2}"] for i in range(ITEMS)],
            },
        },
        events={"path": "events.parquet", "user": "user", "item": "item", "time": "time"}
        | {"condition": {"feedback": {"feedback": True}}},
        impressions={"path": "impressions.parquet", "user": "user", "item": "item", "time": "time", "label": "label"},
        items={"path": "items.parquet", "id": "item", "features": {"colour": {}, "tags": {"type": "multi"}}},
        splits={"valid": 0.6, "test": 0.8},
        gap_unit="h",
        engine={"events_per_part": request.param},
    )
    prepare(log, directory / "dataset")
    settings = RankSettings(buffer_rows=1 if request.param < 2**20 else 2**22)
    data = RankingData(Dataset(directory / "dataset"), settings)
    assert data.is_whole == (request.param == 2**20)
    return data


def events_of(path: Path) -> list[dict[str, Any]]:
    """Return all events of the dataset."""
    dataset = Dataset(path)
    sequences = dataset.sequences
    tags, colour = dataset.item_features()["tags"], dataset.item_features()["colour"]
    return [
        {
            "user": int(sequences.user[user]),
            "item": int(sequences.item[index]),
            "time": int(sequences.time[index]),
            "feedback": int(sequences.condition["feedback"][index]),
            "tags": set(tags[sequences.item[index]].tolist()) - {0},
            "colour": int(colour[sequences.item[index]]),
        }
        for user in range(len(sequences.user))
        for index in range(sequences.offsets[user], sequences.offsets[user + 1])
    ]


def summary(name: str, times: list[tuple[int, int]], now: int) -> dict[str, float]:
    """Return the columns about earlier events, given as pairs of time and feedback."""
    columns = {f"{name}_events": float(len(times))}
    for value in (1, 2, 3):
        columns[f"{name}_feedback_{value}"] = (
            sum(feedback == value for _, feedback in times) / len(times) if times else math.nan
        )
    return columns | {f"{name}_gap": now // UNIT - max(time for time, _ in times) // UNIT if times else math.nan}


def expected_columns(events: list[dict[str, Any]], row: dict[str, Any]) -> dict[str, float]:
    """Return the features of one row, from all events."""
    now, item = row["time"], row["item"]
    before = [event for event in events if event["time"] < now]
    mine = [event for event in before if event["user"] == row["user"]]
    of_item = [event for event in before if event["item"] == item]

    def pairs(chosen: list[dict[str, Any]]) -> list[tuple[int, int]]:
        return [(event["time"], event["feedback"]) for event in chosen]

    columns = summary("user", pairs(mine), now) | summary("item", pairs(of_item), now)
    columns |= summary("user_item", pairs([event for event in mine if event["item"] == item]), now)
    columns |= summary("user_colour", pairs([event for event in mine if event["colour"] == row["colour"]]), now)
    # An event with two of the row's tags counts twice.
    shared = [event for event in mine for _ in event["tags"] & row["tags"]]
    columns |= summary("user_tags", pairs(shared), now)
    columns["item_age"] = now // UNIT - min((event["time"] for event in of_item), default=math.nan) // UNIT
    for name, seconds in WINDOWS.items():
        columns[f"item_events_{name}"] = sum(event["time"] >= now - seconds for event in of_item)
    last = max((event["time"] for event in mine), default=None)
    columns["user_item_last"] = any(event["time"] == last and event["item"] == item for event in mine)
    return {name: float(value) for name, value in columns.items()}


@pytest.mark.parametrize("split", SPLITS)
def test_columns_equal_a_loop_over_rows(repeats: RankingData, split: str) -> None:
    rows, events = repeats.rows[split], events_of(repeats.dataset.path)  # type: ignore[index]
    items = {event["item"]: event for event in events}
    features = HandFeatures(repeats, repeats.config("lightgbm", False))(rows)
    column = dict(zip(features.names, features.values.T, strict=True))
    for index in range(len(rows)):
        item = int(rows.item[index])
        row = {"user": int(rows.user[index]), "item": item, "time": int(rows.time[index])}
        row |= {name: items[item][name] for name in ("tags", "colour")}
        for name, value in expected_columns(events, row).items():
            assert column[name][index] == pytest.approx(value, rel=1e-6, nan_ok=True), (name, index)


def test_equal_times_occur(repeats: RankingData) -> None:
    """Otherwise the test above would not show that events at a row's second are left out."""
    rows = repeats.rows["train"]
    sequences = Dataset(repeats.dataset.path).sequences
    ties = sum(
        bool((sequences.time[sequences.item == item] == time).sum() > 1)
        for item, time in zip(rows.item.tolist(), rows.time.tolist(), strict=True)
    )
    assert ties > 5
    counts = np.unique(rows.time.numpy(), return_counts=True)[1]
    assert counts.max() > 2
