"""Encoders learn from the training period alone: later items, users and events do not change them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openlum.data.dataset import Dataset
from openlum.prepare.run import append, prepare
from tests.prepare.logs import EVENTS, START, random_events, write_log

TRAINING = 160
"""Training events: the first four fifths of 200."""
FEATURES = {
    "price": {"type": "numeric"},
    "size": {"type": "numeric", "buckets": 4},
    "since": {"type": "time"},
    "brand": {"min_count": 2},
    "tags": {"type": "multi", "max_values": 3},
    "maker": {"hash_rows": 7},
    "content": {"type": "vector", "width": 2},
}
SCHEMA: dict[str, Any] = {
    "items": {"path": "items.parquet", "id": "id", "title": "name", "features": FEATURES},
    "users": {"path": "users.parquet", "id": "id", "features": FEATURES},
    "impressions": {"path": "shown.parquet", "user": "user", "item": "item", "time": "time", "label": "click"}
    | {"context": {"place": {"type": "numeric"}, "device": {}}},
}


def entities(ids: list[str], seed: int, scale: float = 1.0, prefix: str = "") -> dict[str, list[Any]]:
    """Return a table of items or users with random features."""
    rng, n = np.random.default_rng(seed), len(ids)
    days = np.datetime64("2020-01-01") + (scale * rng.integers(0, 100, n)).astype("timedelta64[D]")
    return {
        "id": ids,
        "name": [f"{prefix}{one}" for one in ids],
        "price": (scale * rng.normal(10, 3, n)).tolist(),
        "size": (scale * rng.integers(0, 20, n)).tolist(),
        "since": days.astype("datetime64[us]").tolist(),
        "brand": [f"{prefix}brand {k}" for k in rng.integers(0, 6, n)],
        "tags": [[f"{prefix}tag {k}" for k in rng.choice(6, size, replace=False)] for size in rng.integers(0, 4, n)],
        "maker": [f"{prefix}maker {k}" for k in rng.integers(0, 9, n)],
        "content": rng.normal(size=(n, 2)).tolist(),
    }


def log(later: bool) -> dict[str, Any]:
    """Return a log whose last fifth has the users and items of the rest; if `later`, other ones with extreme features."""
    events = {name: column[:200] for name, column in random_events(0, 260, users=9, items=25, seconds=500).items()}
    order = np.argsort(events["time"], kind="stable")
    events = {name: [column[row] for row in order] for name, column in events.items()}
    events["time"][TRAINING:] = [START + 1000 + row for row in range(40)]
    items, users = sorted(set(events["item"][:TRAINING])), sorted(set(events["user"][:TRAINING]))
    tables = {"items": entities(items, 1), "users": entities(users, 2)}
    # In the table of each log but without events: encoders must not learn from it.
    strange = {
        "items": entities(["an entity without events"], 3, 1e6, "never "),
        "users": entities(["an entity without events"], 4, 1e6, "never "),
    }
    if later:
        events["item"][TRAINING:] = [f"a later item {row % 10}" for row in range(40)]
        events["user"][TRAINING:] = [f"a later user {row % 4}" for row in range(40)]
        # More frequent than any other, brands and tags too.
        strange["items"] = entities([f"a later item {row}" for row in range(300)], 5, 1e4, "later ")
        strange["users"] = entities([f"a later user {row}" for row in range(300)], 6, 1e4, "later ")
    else:
        events["item"][TRAINING:] = [items[row % 3] for row in range(40)]
        events["user"][TRAINING:] = [users[row % 2] for row in range(40)]
    for name, rows in strange.items():
        tables[name] = {column: tables[name][column] + rows[column] for column in rows}
    shown = {name: list(events[name]) for name in ("user", "item", "scenario")}
    shown |= {"time": [time + 1 for time in events["time"]], "click": [rating % 2 for rating in events["rating"]]}
    shown["place"] = [float(row % 7) * (1e3 if later and row >= TRAINING else 1) for row in range(200)]
    shown["device"] = [f"later {row}" if later and row >= TRAINING else f"d{row % 3}" for row in range(200)]
    if later:  # encoders do not learn from unlabelled candidates either, in the training period or later
        shown = {name: column + column[100:] for name, column in shown.items()}
        shown["click"] = shown["click"][:200] + [None] * 100
        shown["place"], shown["device"] = shown["place"][:200] + [1e6] * 100, shown["device"][:200] + ["waiting"] * 100
    return {"events": events, "shown": shown} | tables


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    """Return two datasets with the same training period and different later events."""
    found = []
    for later in (False, True):
        directory = tmp_path_factory.mktemp("later" if later else "usual")
        prepare(write_log(directory, log(later), **SCHEMA), directory / "dataset")
        found.append(Dataset(directory / "dataset"))
    return found


def test_later_entities_change_no_scale_bucket_or_vocabulary(alike: list[Dataset]) -> None:
    usual, later = alike
    assert usual.info.valid_time == later.info.valid_time
    for kind in ("condition", "item", "user", "context"):
        assert usual.specs(kind) == later.specs(kind), kind
        words, others = usual.vocabularies(kind), later.vocabularies(kind)
        assert {name: word.values for name, word in words.items()} == {n: w.values for n, w in others.items()}
        assert [w.counts.tolist() for w in words.values()] == [w.counts.tolist() for w in others.values()]
    assert not [word for words in later.vocabularies("item").values() for word in words.values if "later" in word]


def test_later_entities_change_no_id_and_no_encoded_value_of_the_training_period(alike: list[Dataset]) -> None:
    usual, later = alike
    for name in ("items", "users"):
        before, after = usual.vocabulary(name), later.vocabulary(name)
        trained = before.counts > 0
        trained_values = [value for value, is_trained in zip(before.values, trained[1:], strict=True) if is_trained]
        # Entities with events in the training period have the first ids in both logs.
        assert after.values[: len(trained_values)] == before.values[: len(trained_values)] == trained_values
        assert after.counts[: len(trained_values) + 1].tolist() == before.counts[: len(trained_values) + 1].tolist()
        features = (d.item_features() if name == "items" else d.user_features() for d in alike)
        one, other = features
        for field, values in one.items():
            np.testing.assert_array_equal(
                values[: len(trained_values) + 1], other[field][: len(trained_values) + 1], err_msg=field
            )
    one, other = (dataset.impressions("train") for dataset in alike)
    np.testing.assert_array_equal(one.context["place"], other.context["place"])
    np.testing.assert_array_equal(one.item, other.item)


def test_scales_are_those_of_the_trained_items(alike: list[Dataset]) -> None:
    for dataset, which in zip(alike, (False, True), strict=True):
        tables = log(which)
        trained = set(tables["events"]["item"][:TRAINING])
        price = [p for one, p in zip(tables["items"]["id"], tables["items"]["price"], strict=True) if one in trained]
        spec = next(spec for spec in dataset.info.item if spec.name == "price")
        np.testing.assert_allclose((spec.mean, spec.std), (np.mean(price), np.std(price)), rtol=1e-6)


def test_ids_are_ordered_by_first_event_over_all_preparations(tmp_path: Path) -> None:
    events = random_events(3, 200, users=30, items=40, seconds=400)
    order = np.argsort(events["time"], kind="stable")
    events = {name: [column[row] for row in order] for name, column in events.items()}
    cut = events["time"].index(START + 200)
    for name, part in (("first", slice(cut)), ("then", slice(cut, None))):
        write_log(tmp_path / name, {"events": {column: values[part] for column, values in events.items()}})
    prepare(tmp_path / "first" / "schema.yaml", tmp_path / "dataset")
    append(tmp_path / "dataset", tmp_path / "then" / "events.parquet")
    for name, column in (("items", events["item"]), ("users", events["user"])):
        first = sorted(set(column), key=lambda one: (events["time"][column.index(one)], one))
        assert Dataset(tmp_path / "dataset").vocabulary(name).values == first


def test_trained_items_without_any_value_leave_scales_and_buckets_empty(tmp_path: Path) -> None:
    events = random_events(1)
    items = sorted(set(events["item"]))
    table: dict[str, Any] = entities([*items, "late"], 0)
    for name in FEATURES:
        table[name][:-1] = [None] * len(items)
    schema = write_log(tmp_path, {"events": events, "items": table}, events=EVENTS, items=SCHEMA["items"])
    info = prepare(schema, tmp_path / "dataset")
    specs, dataset = {spec.name: spec for spec in info.item}, Dataset(tmp_path / "dataset")
    assert (specs["price"].mean, specs["price"].std) == (0, 1)
    assert (specs["size"].edges, specs["brand"].size, specs["tags"].size) == ([], 1, 1)
    late = dataset.vocabulary("items").encode(["late"])[0]
    assert dataset.item_features()["price"][late] == np.float32(table["price"][-1])
    assert dataset.item_features()["brand"][late] == 0
