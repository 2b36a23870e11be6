"""Impressions: row ids, labels, and a prefix that excludes the row's own second."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openlum.data.dataset import SPLITS, Dataset, Impressions
from openlum.errors import InputError
from openlum.prepare.run import prepare
from tests.prepare.logs import START, random_events, write_log


def all_splits(dataset: Dataset) -> dict[str, np.ndarray]:
    """Return the impressions of all splits, end to end."""
    parts: list[Impressions] = [dataset.impressions(split) for split in SPLITS]
    names = ("row", "user", "time", "item", "label", "prefix")
    return {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), users=st.integers(2, 10), seconds=st.integers(10, 100))
def test_prefix_counts_the_events_strictly_before_the_row(
    tmp_path_factory: pytest.TempPathFactory, seed: int, users: int, seconds: int
) -> None:
    directory = tmp_path_factory.mktemp("log")
    events = random_events(seed, users=users, seconds=seconds)
    shown = random_events(seed + 1, users=users + 2, seconds=2 * seconds)
    shown["click"] = [rating % 2 for rating in shown["rating"]]
    source = {"path": "shown.parquet", "user": "user", "item": "item", "time": "time", "label": "click"}
    prepare(write_log(directory, {"events": events, "shown": shown}, impressions=source), directory / "dataset")
    dataset = Dataset(directory / "dataset")
    rows = all_splits(dataset)
    names = dataset.vocabulary("users").decode(rows["user"])
    time, user = np.array(events["time"]), np.array(events["user"])
    expected = [((user == name) & (time < at)).sum() for name, at in zip(names, rows["time"], strict=True)]
    assert rows["prefix"].tolist() == expected
    seen = set(zip(*(shown[name] for name in ("user", "item", "time", "scenario", "click")), strict=True))
    assert len(rows["row"]) == len(seen)


def test_impressions_by_rule_are_numbered_as_in_the_log_and_labelled(tmp_path: Path) -> None:
    events = random_events(5)
    rule = {"field": "rating", "at_least": 4}
    info = prepare(write_log(tmp_path, {"events": events}, impressions_from_events=rule), tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    rows = all_splits(dataset)
    order = rows["row"]
    assert sorted(order) == list(range(len(events["user"])))
    users, items = dataset.vocabulary("users"), dataset.vocabulary("items")
    assert rows["user"].tolist() == users.encode([events["user"][row] for row in order]).tolist()
    assert rows["item"].tolist() == items.encode([events["item"][row] for row in order]).tolist()
    assert rows["label"].tolist() == [float(events["rating"][row] >= 4) for row in order]
    assert info.label_rule == "every event is an impression, labelled 1 where rating >= 4"
    user, time = np.array(events["user"]), np.array(events["time"])
    assert rows["prefix"].tolist() == [((user == user[row]) & (time < time[row])).sum() for row in order]


def test_events_without_a_label_give_no_impression(tmp_path: Path) -> None:
    events = random_events(6)
    events["rating"][:3] = [None] * 3
    rule = {"field": "rating", "at_least": 4}
    info = prepare(write_log(tmp_path, {"events": events}, impressions_from_events=rule), tmp_path / "dataset")
    assert info.notes["events without a label (not turned into impressions)"] == 3
    assert info.counts["impressions"] == info.counts["events"] - 3


def test_context_encoders_learn_from_training_rows_only(tmp_path: Path) -> None:
    n = 100
    events = {"user": ["u"] * n, "item": ["i"] * n, "time": range(START, START + n), "rating": [1] * n}
    shown = {
        "user": ["u"] * n,
        "item": ["i"] * n,
        "time": range(START, START + n),
        "scenario": ["home"] * n,
        "click": [k % 2 for k in range(n)],
        "place": [float(k) for k in range(n)],
        "device": ["old"] * 50 + ["rare"] + ["old"] * 29 + ["new"] * 20,
    }
    source = {"path": "shown.parquet", "user": "user", "item": "item", "time": "time", "label": "click"}
    context = {"place": {"type": "numeric"}, "device": {"min_count": 2}}
    tables = {"events": events | {"scenario": ["home"] * n}, "shown": shown}
    info = prepare(write_log(tmp_path, tables, impressions=source | {"context": context}), tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    assert dataset.vocabulary("context.device").values == ["old"]
    assert info.context[0].mean == np.mean(range(80))
    train, valid = dataset.impressions("train").context, dataset.impressions("valid").context
    assert np.abs(train["place"].mean()) < 1e-6
    assert np.abs(train["place"].std() - 1) < 1e-6
    assert valid["place"].min() > 1
    assert not valid["device"].any()


def test_a_schema_without_impressions_gives_empty_splits(tmp_path: Path) -> None:
    info = prepare(write_log(tmp_path, {"events": random_events(7)}), tmp_path / "dataset")
    assert info.impressions == {"train": 0, "valid": 0, "test": 0}
    assert len(Dataset(tmp_path / "dataset").impressions("test").row) == 0


def odd_names() -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Return a log whose columns have names that engines use for row and file numbers, and its schema."""
    events, shown = random_events(3), random_events(4)
    order = np.random.default_rng(0).permutation(len(shown["user"]))
    shown |= {"row_number": (1000 + order).tolist(), "click": (order % 2).tolist()}
    for table in (events, shown):
        table["file"] = [name[-1] for name in table["item"]]
    source = {"path": "shown.parquet", "user": "user", "item": "item", "time": "time", "label": "click"}
    condition = {"file": {}, "rating": {"feedback": True}}
    table = {"path": "events.parquet", "user": "user", "item": "item", "time": "time", "condition": condition}
    return {"events": events, "shown": shown}, {"events": table, "impressions": source | {"row": "row_number"}}


def test_columns_may_have_names_that_engines_use_internally(tmp_path: Path) -> None:
    log, schema = odd_names()
    prepare(write_log(tmp_path, log, **schema), tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    rows = all_splits(dataset)
    item = dict(zip(log["shown"]["row_number"], log["shown"]["item"], strict=True))
    assert dataset.vocabulary("items").decode(rows["item"]) == [item[row] for row in rows["row"]]
    values = dataset.vocabularies("condition")["file"].values
    assert set(values) == set(log["events"]["file"])


@pytest.mark.parametrize(
    ("column", "message"),
    [("file_row_number", "'file_row_number': this name is reserved"), ("Time", "'Time' .*only in case")],
)
def test_ambiguous_and_reserved_columns_are_named(tmp_path: Path, column: str, message: str) -> None:
    log, schema = odd_names()
    log["events"][column] = log["events"]["time"]
    with pytest.raises(InputError, match=rf"events\.parquet: column.*{message}"):
        prepare(write_log(tmp_path, log, **schema), tmp_path / "dataset")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": {"click": {}}}, "field 'click' is read from 'click', the label"),
        ({"context": {"seen": {"column": "click"}}}, "field 'seen' is read from 'click', the label"),
    ],
)
def test_a_field_read_from_the_label_column_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    log, schema = odd_names()
    with pytest.raises(InputError, match=message):
        prepare(write_log(tmp_path, log, **schema | {"impressions": schema["impressions"] | changes}), tmp_path / "d")


def test_a_label_rule_on_a_field_without_feedback_is_refused(tmp_path: Path) -> None:
    log, schema = odd_names()
    schema["events"]["condition"]["rating"] = {}
    rule = {"impressions": None, "impressions_from_events": {"field": "rating", "at_least": 4}}
    with pytest.raises(
        InputError, match=r"names 'rating', which models would see .*; set 'feedback: true' for 'rating'"
    ):
        prepare(write_log(tmp_path, log, **schema | rule), tmp_path / "dataset")
