"""`impressions_from_events: {negatives: N}`: every event with sampled negatives, from any log."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openlum.data.dataset import SPLITS, Dataset
from openlum.data.sequences import Impressions, concatenate
from openlum.errors import InputError
from openlum.prepare.negatives import sample_negatives
from openlum.prepare.run import append, prepare
from openlum.rank.checks import check_rows
from tests.prepare.logs import START, random_events, write_log

CONDITION = {"rating": {"feedback": True}, "scenario": {}, "shelf": {}}
EVENTS = {"path": "events.parquet", "user": "user", "item": "item", "time": "time", "condition": CONDITION}


def log(seed: int, n: int = 300, users: int = 8, items: int = 60) -> dict[str, list[Any]]:
    """Return events with a scenario, which belongs to the moment, and a shelf, which belongs to the item."""
    events = random_events(seed, n, users, items, seconds=80)
    return events | {"shelf": [f"s{int(item[1:]) % 7}" for item in events["item"]]}


def prepared(directory: Path, events: dict[str, list[Any]], rule: dict[str, Any], **schema: Any) -> Dataset:
    parts = {"events": EVENTS, "impressions_from_events": rule} | schema
    prepare(write_log(directory, {"events": events}, **parts), directory / "dataset")
    return Dataset(directory / "dataset")


def all_rows(dataset: Dataset) -> Impressions:
    rows = concatenate([dataset.impressions(split) for split in SPLITS])
    return rows.take(np.argsort(rows.row))


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 1000),
    negatives=st.integers(1, 5),
    how=st.sampled_from(["same time", "popularity", "uniform"]),
    events_per_part=st.sampled_from([60, 10_000]),
)
def test_every_event_is_a_positive_beside_items_that_never_occur_with_the_user(
    tmp_path_factory: pytest.TempPathFactory, seed: int, negatives: int, how: str, events_per_part: int
) -> None:
    events = log(seed)
    rule = {"negatives": negatives, "how": how, "seed": seed}
    engine = {"events_per_part": events_per_part}
    dataset = prepared(tmp_path_factory.mktemp("log"), events, rule, engine=engine)
    rows = all_rows(dataset)
    columns = (events["user"], events["item"], events["time"])
    first = sorted({key: place for place, key in reversed(list(enumerate(zip(*columns, strict=True))))}.values())
    assert rows.row.tolist() == [place * (negatives + 1) + slot for place in first for slot in range(negatives + 1)]
    slots = rows.row % (negatives + 1)
    assert np.array_equal(rows.label, slots == 0)
    assert rows.request is not None
    users, items = dataset.vocabulary("users"), dataset.vocabulary("items")
    for name, vocabulary, ids in (("user", users, rows.user), ("item", items, rows.item)):
        expected = vocabulary.encode([events[name][place] for place in first])
        chosen = slots == 0 if name == "item" else slice(None)
        assert ids[chosen].tolist() == (expected if name == "item" else np.repeat(expected, negatives + 1)).tolist()
    assert rows.time.tolist() == np.repeat([events["time"][place] for place in first], negatives + 1).tolist()
    shape = (-1, negatives + 1)
    assert (rows.request.reshape(shape) == rows.request.reshape(shape)[:, :1]).all()
    assert len(set(rows.request.tolist())) == len(first)
    assert (rows.prefix.reshape(shape) == rows.prefix.reshape(shape)[:, :1]).all()
    own = {(user, item) for user, item in zip(users.encode(events["user"]), items.encode(events["item"]), strict=True)}
    assert not own & set(zip(rows.user[slots > 0].tolist(), rows.item[slots > 0].tolist(), strict=True))
    assert "negatives" in dataset.info.label_rule
    assert f"(how: {how}, seed: {seed}" in dataset.info.label_rule
    user, time = np.array(events["user"]), np.array(events["time"])
    seen = [((user == user[place]) & (time < time[place])).sum() for place in first]
    assert rows.prefix[slots == 0].tolist() == seen


def test_the_rule_is_the_one_of_public_data_sets(tmp_path: Path) -> None:
    dataset = prepared(tmp_path, log(1), {"negatives": 3, "seed": 5})
    rows = all_rows(dataset)
    positive = rows.label == 1
    expected = sample_negatives(rows.user[positive], rows.item[positive], rows.time[positive], 3, seed=5)
    assert np.array_equal(rows.item[~positive].reshape(-1, 3), expected)


def test_a_row_has_the_shelf_of_its_own_item_and_the_scenario_of_its_event(tmp_path: Path) -> None:
    events = log(2)
    dataset = prepared(tmp_path, events, {"negatives": 2})
    rows, fields = all_rows(dataset), dataset.vocabularies("condition")
    shelf = dict(zip(events["item"], events["shelf"], strict=True))
    names = dataset.vocabulary("items").decode(rows.item)
    in_vocabulary = rows.condition["shelf"] > 0
    expected = fields["shelf"].encode([shelf[name] for name in names])
    assert np.array_equal(rows.condition["shelf"], expected)
    assert in_vocabulary.any()
    event = rows.row // 3
    assert np.array_equal(rows.condition["scenario"], fields["scenario"].encode([events["scenario"][e] for e in event]))
    assert dataset.info.label_rule.endswith("shelf: of the row's own item)")


def test_the_seed_decides_the_negatives(tmp_path: Path) -> None:
    items = [
        all_rows(prepared(tmp_path / str(number), log(3), {"negatives": 2, "seed": seed})).item
        for number, seed in enumerate((0, 0, 1))
    ]
    assert np.array_equal(items[0], items[1])
    assert not np.array_equal(items[0], items[2])


def test_an_appended_log_has_the_negatives_of_one_prepared_at_once(tmp_path: Path) -> None:
    events = log(4)
    order = np.argsort(events["time"], kind="stable")
    events = {name: [values[index] for index in order] for name, values in events.items()}
    rule = {"negatives": 2}
    whole = all_rows(prepared(tmp_path / "whole", events, rule))
    cut = int(np.searchsorted(events["time"], events["time"][200]))
    prepared(tmp_path / "part", {name: values[:cut] for name, values in events.items()}, rule)
    write_log(tmp_path / "new", {"events": {name: values[cut:] for name, values in events.items()}})
    append(tmp_path / "part" / "dataset", events=tmp_path / "new" / "events.parquet")
    appended = all_rows(Dataset(tmp_path / "part" / "dataset"))
    for name in ("row", "label", "time", "prefix", "request", "item", "user"):
        assert np.array_equal(getattr(appended, name), getattr(whole, name)), name


def test_repeated_events_give_one_impression_and_a_note(tmp_path: Path) -> None:
    events = {name: [*values, values[0]] for name, values in log(5).items()}
    events["rating"][-1] = 6 - events["rating"][0] if events["rating"][0] != 3 else 1
    before = len(events["user"]) - 1
    dataset = prepared(tmp_path, events, {"negatives": 1})
    distinct = len(set(zip(events["user"], events["item"], events["time"], strict=True)))
    assert dataset.impression_count == 2 * distinct
    note = "events at the same time as another event of the same user and item (one impression for both)"
    assert dataset.info.notes[note] == before + 1 - distinct


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"negatives": 0}, r"impressions_from_events\.negatives"),
        ({"negatives": 2.5}, r"impressions_from_events\.negatives"),
        ({"negatives": 4, "how": "random"}, r"impressions_from_events\.how"),
        ({"negatives": 4, "seed": -1}, r"impressions_from_events\.seed"),
        ({"negatives": 4, "field": "rating", "at_least": 4}, "'negatives' and 'field' exclude each other"),
        ({"field": "rating"}, "impressions_from_events.*name 'field' and 'at_least'"),
        ({"field": "rating", "at_least": 4, "how": "uniform"}, "'how' applies only to sampled negatives"),
        ({}, "impressions_from_events.*or 'negatives'"),
        ({"negatives": 58}, r"key 'impressions_from_events\.negatives': a user has \d+ of the 60 items"),
    ],
)
def test_a_wrong_rule_is_explained(tmp_path: Path, rule: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, log(6), rule)
    assert not (tmp_path / "dataset").exists()


def test_ranking_a_log_without_impressions_names_the_rule(tmp_path: Path) -> None:
    prepare(write_log(tmp_path, {"events": log(7)}, events=EVENTS), tmp_path / "dataset")
    with pytest.raises(InputError, match=r"no impressions.*'impressions_from_events: \{negatives: 4\}'"):
        check_rows(Dataset(tmp_path / "dataset"))


def requests() -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Return events and an impression log with requests of five rows of one user, numbered anew for every user."""
    events = log(8)
    rng = np.random.default_rng(0)
    users = np.repeat(sorted(set(events["user"])), 50)
    shown = {
        "user": users.tolist(),
        "item": [f"i{number}" for number in rng.integers(60, size=len(users))],
        "time": np.tile(np.repeat(START + 8 * np.arange(10), 5), 8).tolist(),
        "scenario": ["home"] * len(users),
        "shelf": ["s0"] * len(users),
        "click": rng.integers(2, size=len(users)).tolist(),
        "page": np.tile(np.repeat([f"page {number}" for number in range(10)], 5), 8).tolist(),
        "number": list(range(len(users))),
    }
    return events, {name: [values[index] for index in rng.permutation(len(users))] for name, values in shown.items()}


IMPRESSIONS = {"path": "shown.parquet", "user": "user", "item": "item", "time": "time", "label": "click"}


@pytest.mark.parametrize("row", [{}, {"row": "number"}])
def test_rows_of_a_user_with_the_same_value_are_one_request(tmp_path: Path, row: dict[str, str]) -> None:
    events, shown = requests()
    shown["page"][:3] = [None, "", None]
    source = IMPRESSIONS | row | {"request": "page"}
    tables = {"events": events, "shown": shown}
    engine = {"events_per_part": 100}
    prepare(write_log(tmp_path, tables, events=EVENTS, impressions=source, engine=engine), tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    rows = all_rows(dataset)
    assert rows.request is not None
    index = {number: place for place, number in enumerate(shown["number"])} if row else range(len(shown["user"]))
    places = [index[number] for number in rows.row.tolist()]
    keys = [(shown["user"][p], shown["page"][p] or p) for p in places]
    assert len(set(zip(rows.request.tolist(), keys, strict=True))) == len(set(rows.request.tolist())) == len(set(keys))
    assert rows.take(slice(0, 2)).request.tolist() == rows.request[:2].tolist()  # type: ignore[union-attr]


def test_a_log_without_requests_has_none(tmp_path: Path) -> None:
    events, shown = requests()
    prepare(
        write_log(tmp_path, {"events": events, "shown": shown}, events=EVENTS, impressions=IMPRESSIONS), tmp_path / "d"
    )
    assert all_rows(Dataset(tmp_path / "d")).request is None


def test_the_label_is_no_request(tmp_path: Path) -> None:
    events, shown = requests()
    source = IMPRESSIONS | {"request": "click"}
    with pytest.raises(InputError, match=r"'impressions\.request' names 'click', the label"):
        prepare(
            write_log(tmp_path, {"events": events, "shown": shown}, events=EVENTS, impressions=source), tmp_path / "d"
        )
