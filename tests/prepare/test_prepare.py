"""Preparation as a whole: which rows are rejected, which logs are refused, and what the dataset contains."""

import time
from datetime import UTC, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openlum.data.dataset import SPLITS, Dataset
from openlum.errors import InputError
from openlum.prepare.run import prepare
from tests.prepare.logs import EVENTS, START, random_events, write_log

RULE = {"field": "rating", "at_least": 4}
ITEMS = {"path": "items.parquet", "id": "id", "complete": False, "features": {"price": {"type": "numeric"}}}
SHOWN = {"path": "shown.parquet", "user": "user", "item": "item", "time": "time", "label": "click", "row": "row"}


def log(n: int = 10) -> dict[str, list[Any]]:
    """Return n events of two users, one minute apart."""
    return {
        "user": [f"u{k % 2}" for k in range(n)],
        "item": [f"i{k % 3}" for k in range(n)],
        "time": [START + 60 * k for k in range(n)],
        "rating": [k % 5 + 1 for k in range(n)],
        "scenario": ["home"] * n,
    }


def two_impressions(**columns: Any) -> dict[str, Any]:
    """Return two rows of an impression log."""
    rows = {"user": ["u0", "u9"], "item": ["i0", "i9"], "time": [START + 90] * 2, "click": [0, 1], "row": [5, 7]}
    return rows | {"scenario": ["home", "cart"]} | columns


BAD_TABLES = {
    "missing column": ({"events": {"rating": None}}, r"events\.parquet: no column 'rating'.* user, item, time"),
    "near miss": ({"events": {"time": None, "tiem": [START] * 10}}, r"no column 'time'; did you mean 'tiem'\?"),
    "text as time": (
        {"events": {"time": ["soon"] * 10}},
        r"10 of 10 rows cannot be used.*time: not a timestamp.*\(10, first in .*events\.parquet: row 1: 'soon'\)",
    ),
    "list as id": ({"events": {"item": [["a"]] * 10}}, r"column 'item': expected a single value.*type array"),
    "no rows": ({"events": {name: [] for name in log()}}, r"events\.parquet: has no rows"),
    "too few": ({"events": {name: column[:2] for name, column in log().items()}}, r"2 usable events of 2.*at least 3"),
    "all in one second": (
        {"events": {"time": [START] * 10}},
        r"schema\.yaml: the first 80% .* all happened in one second",
    ),
    "rule on words": (
        {"events": {"rating": ["good"] * 10}},
        r"impressions_from_events.*'rating' must hold numbers, but 10 rows hold other values, such as 'good'",
    ),
    "text as number": (
        {"items": {"price": ["cheap"]}},
        r"items\.parquet: 1 of 1 rows.*price: not a finite number.*'cheap'",
    ),
    "infinite number": ({"items": {"price": [float("inf")]}}, r"price: not a finite number .*inf"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_raises_one_readable_error_and_leaves_no_output(tmp_path: Path, case: str) -> None:
    changes, message = BAD_TABLES[case]
    tables: dict[str, Any] = {"events": log(), "items": {"id": ["i0"], "price": [1.0]}}
    for name, columns in changes.items():
        tables[name] = {key: column for key, column in (tables[name] | columns).items() if column is not None}
    schema = write_log(tmp_path / "log", tables, items=ITEMS, impressions_from_events=RULE, max_rejected="1%")
    with pytest.raises(InputError, match=message):
        prepare(schema, tmp_path / "dataset")
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


BAD_IMPRESSIONS = {
    "label of two": ({"click": [0, 2]}, r"click: not 0 or 1 \(1, first in .*shown\.parquet: row 2: 2\)"),
    "repeated row id": ({"row": [5, 5]}, r"column 'row': the row id 5 occurs 2 times"),
    "fraction as row id": ({"row": [5.0, 5.5]}, r"row: not a whole number .*5.5"),
    "no condition": ({"scenario": None}, r"shown\.parquet: no column 'scenario'"),
}


@pytest.mark.parametrize("case", BAD_IMPRESSIONS)
def test_a_bad_impression_log_raises_an_error(tmp_path: Path, case: str) -> None:
    changes, message = BAD_IMPRESSIONS[case]
    rows = {name: column for name, column in two_impressions(**changes).items() if column is not None}
    schema = write_log(tmp_path, {"events": log(), "shown": rows}, impressions=SHOWN, max_rejected=0.01)
    with pytest.raises(InputError, match=message):
        prepare(schema, tmp_path / "dataset")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "absent.csv: no such file"),
        ("empty.csv", "", "empty.csv: the file is empty; expected a first line with the names"),
        ("header.csv", "user,item,time,rating,scenario\n", "header.csv: has no rows"),
        (
            "ragged.csv",
            "user,item,time,rating,scenario\nu,i,1,2,home\nu,i\n",
            r"ragged.csv: 1 usable events of 2 \(rejected: 1 events: malformed line: 2 fields instead of 5\)",
        ),
        ("twice.csv", "user,user,time\nu,i,1\n", "several columns are named 'user'"),
        ("broken.parquet", "user,item\n", "broken.parquet: cannot be read"),
        ("events.json", "{}", "events.json: expected CSV, but the file is JSON"),
    ],
)
def test_an_unreadable_file_raises_an_error(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    schema = write_log(tmp_path, {}, events=EVENTS | {"path": name})
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        prepare(schema, tmp_path / "dataset")


def test_an_unknown_key_of_the_schema_names_the_most_similar_key(tmp_path: Path) -> None:
    schema = write_log(tmp_path, {"events": log()}, time_feilds=["hour"])
    with pytest.raises(InputError, match=r"unknown key 'time_feilds'; did you mean 'time_fields'\?"):
        prepare(schema, tmp_path / "dataset")


def test_rejected_rows_are_stored_with_reason_and_number(tmp_path: Path) -> None:
    events = log(12)
    events["user"][1] = None
    events["item"][2] = ""
    events["time"][3] = None
    events["time"][4] = -5
    events["time"][5] = START + 10**9
    for column in events.values():
        column[7] = column[6]
    info = prepare(write_log(tmp_path, {"events": events}), tmp_path / "dataset")
    reasons = ["no user", "no item", "no time", "before 1970", "in the future", "duplicate"]
    assert info.rejected == {f"events: {reason}": 1 for reason in reasons}
    assert {name: info.counts[name] for name in ("events_in", "events", "events_rejected")} == {
        "events_in": 12,
        "events": 6,
        "events_rejected": 6,
    }
    rows = pq.read_table(tmp_path / "dataset" / "rejected" / "events.parquet").to_pylist()
    assert [(row["row_number"], row["reason"]) for row in rows] == list(zip([2, 3, 4, 5, 6, 8], reasons, strict=True))
    assert rows[3]["time"] == -5
    assert rows[0]["item"] == "i1"


def test_events_after_the_day_of_latest_are_rejected(tmp_path: Path) -> None:
    day = START // 86400 * 86400
    events = log(4) | {"time": [day, day + 86399, day + 86400, day + 1]}
    info = prepare(write_log(tmp_path, {"events": events}, latest="2020-09-13"), tmp_path / "dataset")
    assert info.rejected == {"events: after 2020-09-13": 1}


def test_an_invalid_date_is_named_with_schema_and_key(tmp_path: Path) -> None:
    schema = write_log(tmp_path, {"events": log()}, latest="tomorrow")
    with pytest.raises(
        InputError, match=r"schema\.yaml: key 'latest': 'tomorrow' is not a date; expected a date such as 2025-12-31"
    ):
        prepare(schema, tmp_path / "dataset")


def test_unusual_data_is_accepted_and_counted_in_notes(tmp_path: Path) -> None:
    events = {name: [*column, column[0]] for name, column in log().items()}
    events["user"][-1], events["time"][-1] = "once", START + 1
    events["time"][0] += 3000  # u0's first event in the file is its last in time
    tables = {"events": events, "items": {"id": ["i0", "i0"], "price": [1.0, 2.0]}, "shown": two_impressions()}
    info = prepare(write_log(tmp_path, tables, items=ITEMS, impressions=SHOWN), tmp_path / "dataset")
    assert info.notes == {
        "users with one event (kept)": 1,
        "impressions of users without events (kept)": 1,
        "impressions of items without events (kept)": 1,
        "items without a row in the item table (features unknown)": 2,
        "no impressions in the valid period": 1,
        "no impressions in the test period": 1,
    }
    assert info.rejected == {"items_table: duplicate": 1}
    dataset = Dataset(tmp_path / "dataset")
    assert sorted(dataset.item_titles()[1:]) == ["i0", "i1", "i2", "i9"]
    sequences = dataset.sequences
    for start, end in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True):
        assert (np.diff(sequences.time[start:end]) >= 0).all()
    rows = dataset.impressions("train")
    assert rows.row.tolist() == [5, 7]
    assert rows.prefix.tolist() == [0, 0]
    assert rows.label.tolist() == [0.0, 1.0]
    assert dataset.vocabulary("condition.scenario").decode(rows.condition["scenario"]) == ["home", "(unknown)"]


keys = st.none() | st.sampled_from(["a", "b", "c", ""])
row = st.tuples(
    keys, keys, st.none() | st.sampled_from([-1, START, START + 1, START + 2, START + 10**9]), st.integers(1, 2)
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(row, max_size=30))
def test_accepted_and_rejected_events_add_up_to_the_input(tmp_path: Path, rows: list[tuple[Any, ...]]) -> None:
    good = [("a", "x", START, 1), ("b", "y", START + 1, 2), ("a", "z", START + 2, 2)]
    user, item, time, rating = zip(*[*rows, *good], strict=True)
    events = {"user": user, "item": item, "time": time, "rating": rating, "scenario": ["home"] * len(user)}
    info = prepare(write_log(tmp_path, {"events": events}), tmp_path / "dataset")
    assert info.counts["events_in"] == len(user)
    assert info.counts["events"] + sum(info.rejected.values()) == len(user)
    usable = {r for r in [*rows, *good] if r[0] and r[1] and r[2] is not None and 0 <= r[2] < START + 100}
    assert info.counts["events"] == len(usable) == len(Dataset(tmp_path / "dataset").sequences.item)


def test_csv_and_parquet_give_the_same_dataset(tmp_path: Path) -> None:
    events = random_events(1)
    first = prepare(write_log(tmp_path / "a", {"events": events}, impressions_from_events=RULE), tmp_path / "a" / "out")
    schema = write_log(
        tmp_path / "b",
        {"events.csv": events | {"rating": [float(value) for value in events["rating"]]}},
        events=EVENTS | {"path": "events.csv"},
        impressions_from_events=RULE,
    )
    second = prepare(schema, tmp_path / "b" / "out")
    assert first.counts == second.counts
    assert_same_content(tmp_path / "a" / "out", tmp_path / "b" / "out")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "timestamp", "text", "offset"])
def test_every_form_of_time_is_read(tmp_path: Path, unit: str) -> None:
    events = random_events(2)
    micro = pa.array([second * 1_000_000 + 250_000 for second in events["time"]])
    moments = micro.cast(pa.timestamp("us"))
    forms = {"s": events["time"], "ms": [m.as_py() // 1000 for m in micro], "us": micro, "timestamp": moments}
    forms["text"] = [moment.as_py().isoformat() for moment in moments]
    tokyo = timezone(timedelta(hours=9))
    forms["offset"] = [moment.as_py().replace(tzinfo=UTC).astimezone(tokyo).isoformat() for moment in moments]
    time_unit = {"time_unit": unit} if unit in ("ms", "us") else {}
    write = {"events": events | {"time": forms[unit]}}
    prepare(write_log(tmp_path, write, events=EVENTS | time_unit), tmp_path / "dataset")
    assert (
        np.bincount(Dataset(tmp_path / "dataset").sequences.time - START).tolist()
        == np.bincount(np.array(events["time"]) - START).tolist()
    )


def test_time_without_an_offset_is_utc_in_any_time_zone_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        test_every_form_of_time_is_read(tmp_path, "text")
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("column", "value", "features"),
    [
        ("price", 1e300, {"price": {"type": "numeric"}}),
        ("content", [1e39, 0.0], {"content": {"type": "vector", "width": 2}}),
    ],
)
def test_numbers_too_large_for_float32_are_named(
    tmp_path: Path, column: str, value: Any, features: dict[str, Any]
) -> None:
    items = {"id": ["i0", "i1"], column: [value, [0.0, 0.0] if column == "content" else 0.0]}
    schema = write_log(
        tmp_path, {"events": log(), "items": items}, items=ITEMS | {"features": features}, max_rejected=0
    )
    with pytest.raises(InputError, match=rf"1 of 2 rows cannot be used.*{column}: not .*finite number.*row 1"):
        prepare(schema, tmp_path / "dataset")


def test_condition_fields_cannot_be_called_item_or_time(tmp_path: Path) -> None:
    events = EVENTS | {"condition": {"time": {"column": "scenario"}}}
    with pytest.raises(InputError, match="rename the field"):
        prepare(write_log(tmp_path, {"events": log()}, events=events), tmp_path / "dataset")


def test_milliseconds_order_events_of_the_same_second(tmp_path: Path) -> None:
    events = log(6) | {"user": ["u"] * 6, "item": list("abcdef")}
    events["time"] = [START * 1000 + offset for offset in (5, 900, 4, 3, 70_000, 80_000)]
    schema = write_log(tmp_path, {"events": events}, events=EVENTS | {"time_unit": "ms"})
    prepare(schema, tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    assert dataset.vocabulary("items").decode(dataset.sequences.item) == ["d", "c", "a", "b", "e", "f"]
    assert dataset.sequences.time[:4].tolist() == [START] * 4


def test_the_same_input_gives_the_same_dataset(small_dataset: Dataset, tmp_path: Path) -> None:
    again = prepare(small_dataset.path.parent / "schema.yaml", tmp_path / "dataset")
    assert again == small_dataset.info
    assert_same_content(small_dataset.path, tmp_path / "dataset")


def test_fingerprint_changes_with_the_log_and_with_the_schema(tmp_path: Path) -> None:
    events = log()
    prints = {prepare(write_log(tmp_path, {"events": events}), tmp_path / "out").fingerprint}
    prints.add(prepare(write_log(tmp_path, {"events": events}, gap_unit="h"), tmp_path / "out").fingerprint)
    events["rating"][0] = 5
    prints.add(prepare(write_log(tmp_path, {"events": events}), tmp_path / "out").fingerprint)
    assert len(prints) == 3


def test_the_reader_returns_every_table(small_dataset: Dataset) -> None:
    info, sequences = small_dataset.info, small_dataset.sequences
    assert set(sequences.condition) == {"rating", "scenario"}
    assert set(sequences.fields(np.arange(3))) == {"rating", "scenario", "hour", "weekday", "gap"}
    assert len(sequences.time) == info.counts["events"]
    assert (sequences.condition["rating"] > 0).any()
    items, users = small_dataset.item_features(), small_dataset.user_features()
    assert items["tags"].shape == (21, 2)
    assert items["content"].shape == (21, 3)
    assert np.isnan(items["price"][0])
    assert not items["tags"][0].any()
    assert not items["content"][0].any()
    assert users["city"].shape == (9,)
    for split in SPLITS:
        rows = small_dataset.impressions(split)
        assert len(rows.row) == info.impressions[split]
        assert not rows.condition["rating"].any()
    assert [spec.name for spec in info.condition if spec.feedback] == ["rating"]


def assert_same_content(first: Path, second: Path) -> None:
    """Assert that both data sets have the same tables."""
    files = sorted(path.relative_to(first) for path in first.rglob("*.parquet"))
    assert files == sorted(path.relative_to(second) for path in second.rglob("*.parquet"))
    for file in files:
        assert pq.read_table(first / file).equals(pq.read_table(second / file)), file
