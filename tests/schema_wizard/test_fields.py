"""The proposal for single columns; every proposal that lacks no column is a valid schema."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from openlum.config import parse_settings
from openlum.schema import Schema
from openlum.schema_wizard import propose
from openlum.schema_wizard.name_hints import ITEM, USER, reaction_of_name

from .tables import ROWS, find_line, read_schema, unused_field_comment, write_events, write_table


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (1_700_000_000 + np.arange(ROWS), "s"),
        ((1_700_000_000 + np.arange(ROWS)) * 10**3, "ms"),
        ((1_700_000_000 + np.arange(ROWS)) * 10**6, "us"),
        (1.7e9 + np.arange(ROWS) / 3, "s"),
        ((1_700_000_000 + np.arange(ROWS)) * 10**9, "ns"),
        (np.full(ROWS, 20_240_101), "yyyymmdd"),
        (20_240_101_000_000 + np.arange(ROWS) % 60, "yyyymmdd"),
    ],
)
def test_time_unit_is_guessed_from_the_size_of_the_numbers(tmp_path: Path, values: np.ndarray, expected: str) -> None:
    schema = read_schema(propose(write_events(tmp_path / "log.parquet", timestamp=values)))
    assert schema.events.time_unit == expected


@pytest.mark.parametrize(
    "values",
    [
        np.full(ROWS, 20_241_301),  # there is no month 13
        [f"{day % 28 + 1}/02/24" for day in range(ROWS)],
        [f"{day % 28 + 1}/02/2024" if day % 2 else f"02/{day % 28 + 1}/2024" for day in range(ROWS)],
    ],
)
def test_a_time_that_prepare_cannot_read_is_left_open(tmp_path: Path, values: Any) -> None:
    proposal = propose(write_events(tmp_path / "log.parquet", timestamp=values))
    assert proposal.missing == ["events.time"]
    assert find_line(proposal, "time:").startswith("time: ???")
    assert "choose one of: timestamp" in find_line(proposal, "time:")


def test_dates_have_no_hour_field(tmp_path: Path) -> None:
    days = pa.array(np.arange(ROWS) % 50 + 19_000, pa.int32()).cast(pa.date32())
    schema = read_schema(propose(write_events(tmp_path / "log.parquet", timestamp=days)))
    assert (schema.time_fields, schema.gap_unit) == (["weekday", "gap"], "d")


def test_roles_without_typical_names_are_left_open(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = "".join(f"{row % 50};{'xyzwv'[row % 5]};{row / 7}\n" for row in range(300))
    path.write_text("a;b;c\n" + rows)
    proposal = propose(str(path))
    assert proposal.missing == ["events.user", "events.item", "events.time"]
    assert find_line(proposal, "user:").startswith("user: ???")
    assert find_line(proposal, "user:").endswith("choose one of: a, b")
    yaml.safe_load(proposal.text)


def test_the_id_of_a_table_decides_the_column_of_the_log(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    events = write_events(tmp_path / "log.parquet", content=rng.integers(1, 30, ROWS))  # `item_id` is not the item here
    items = write_table(tmp_path / "items.parquet", content=np.arange(1, 31), genre=["a", "b", "c"] * 10)
    schema = read_schema(propose(events, items=items))
    assert schema.items is not None
    assert (schema.events.item, schema.items.id) == ("content", "content")
    write_table(
        tmp_path / "log2.parquet",
        who=rng.integers(1, 9, ROWS),
        what=rng.integers(1, 9, ROWS),
        ts=1.7e9 + np.arange(ROWS),
    )
    users = write_table(tmp_path / "users.parquet", who=np.arange(1, 10))
    items = write_table(tmp_path / "items2.parquet", what=np.arange(1, 10))
    schema = read_schema(propose(str(tmp_path / "log2.parquet"), items=items, users=users))
    assert (schema.events.user, schema.events.item) == ("who", "what")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([[0.1, 0.2, 0.3, 0.4]] * ROWS), {"type": "vector", "width": 4}),
        (pa.array([[0.5, 0.25]] * ROWS, pa.list_(pa.float32(), 2)), {"type": "vector", "width": 2}),
        (["0.1|0.2|0.3"] * ROWS, {"type": "vector", "width": 3}),
        ([["a", "b"], ["c"], []] * (ROWS // 3), {"type": "multi", "max_values": 2}),
        ([[1, 2, 3], [4]] * (ROWS // 2), {"type": "multi", "max_values": 3}),
        (["red|blue", "red"] * (ROWS // 2), {"type": "multi", "max_values": 2}),
        (np.arange(ROWS) % 7, {"type": "categorical"}),
        (np.arange(ROWS) % 7 + 0.0, {"type": "categorical"}),
        ([str(n % 90) + ".5" for n in range(ROWS)], {"type": "numeric"}),
        (np.random.default_rng(0).lognormal(3, 2, ROWS), {"type": "numeric", "buckets": 20}),
        (np.random.default_rng(0).normal(size=ROWS), {"type": "numeric"}),
        ([True, False] * (ROWS // 2), {"type": "categorical"}),
        (["02139", "00501", "10001"] * (ROWS // 3), {"type": "categorical"}),
        (["2024-02-01", "2024-03-05 12:00:01"] * (ROWS // 2), {"type": "time"}),
        (pa.array(np.arange(ROWS) * 86_400, pa.timestamp("ms", "UTC")), {"type": "time"}),
        (pa.array(["a", "b", None] * (ROWS // 3)).dictionary_encode(), {"type": "categorical"}),
    ],
)
def test_types_of_features(tmp_path: Path, column: Any, expected: dict[str, Any]) -> None:
    items = write_table(tmp_path / "items.parquet", item_id=np.arange(ROWS), feature=column)
    schema = read_schema(propose(write_events(tmp_path / "log.parquet"), items=items))
    assert schema.items is not None
    assert schema.items.features["feature"].model_dump(exclude_unset=True) == expected


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (
            np.where(np.arange(ROWS) % 2, np.random.default_rng(0).normal(size=ROWS), np.nan),
            "rows with 'nan' are rejected",
        ),
        ([None] * ROWS, "the column has no value"),
        (["same"] * ROWS, "the only value is 'same'"),
        ([f"row {n}" for n in range(ROWS)], "every row has a different value"),
        ([{"a": 1}] * ROWS, "does not read nested types"),
        ([[0.5] * (n % 3) for n in range(ROWS)], "vectors need lists of one length"),
        ([f"word {n} and many more words" for n in range(ROWS)], "free text"),
    ],
)
def test_useless_columns_are_commented_out(tmp_path: Path, column: Any, reason: str) -> None:
    other = np.random.default_rng(0).normal(size=ROWS)
    items = write_table(tmp_path / "items.parquet", item_id=np.arange(ROWS), feature=column, other=other)
    proposal = propose(write_events(tmp_path / "log.parquet"), items=items)
    schema = read_schema(proposal)
    assert schema.items is not None
    assert schema.items.features.keys() == {"other"}
    assert reason in unused_field_comment(proposal, "feature")


def test_a_table_without_useful_columns_gives_a_valid_schema(tmp_path: Path) -> None:
    items = write_table(tmp_path / "items.parquet", item_id=np.arange(ROWS), source=["x"] * ROWS)
    schema = read_schema(propose(write_events(tmp_path / "log.parquet", note=["x"] * ROWS), items=items))
    assert schema.items is not None
    assert schema.items.features == schema.events.condition == {}


def test_a_column_of_many_values_gets_hints_at_rare_ones(tmp_path: Path) -> None:
    brand = [f"brand {n % 1500}" for n in range(3000)]
    items = write_table(tmp_path / "items.parquet", item_id=np.arange(3000), brand=brand)
    proposal = propose(write_events(tmp_path / "log.parquet"), items=items)
    assert find_line(proposal, "# min_count: 5")
    assert find_line(proposal, "# hash_rows: 16384")
    uncommented = proposal.text.replace("# hash_rows", "hash_rows")
    schema = parse_settings(yaml.safe_load(uncommented), Schema, where="proposal")
    assert schema.items is not None
    assert schema.items.features["brand"].hash_rows == 16384


def test_a_line_that_is_commented_out_is_valid_without_its_mark(tmp_path: Path) -> None:
    """The head of the file says so."""
    events = write_events(
        tmp_path / "log.parquet", watch_time=np.random.default_rng(0).exponential(9, ROWS), const=["x"] * ROWS
    )
    lines = []
    for text in propose(events).text.splitlines():
        body = text.lstrip()
        keep = (
            not body.startswith("# ") or ":" not in body.split("  #")[0] or body.startswith(("# Proposed", "# To use"))
        )
        lines.append(text if keep else text.replace("# ", "", 1))
    schema = parse_settings(yaml.safe_load("\n".join(lines)), Schema, where="proposal")
    assert schema.events.condition.keys() == {"watch_time", "const"}
    assert schema.impressions_from_events is not None
    assert schema.impressions_from_events.field == "watch_time"
    assert schema.max_user_events


def test_impressions_have_no_feedback_and_every_other_condition_field(tmp_path: Path) -> None:
    flag, page = np.arange(ROWS) % 2, ["home", "search"] * (ROWS // 2)
    events = write_events(tmp_path / "log.parquet", page=page, channel=page, rating=flag + 1)
    impressions = write_events(
        tmp_path / "impressions.parquet", page=page, clicked=flag, dwell_time=flag * 7 + 1, slot=np.arange(ROWS) % 4
    )
    proposal = propose(events, impressions=impressions)
    schema = read_schema(proposal)
    assert schema.impressions is not None
    assert schema.impressions.label == "clicked"
    assert schema.impressions.context.keys() == {"slot"}
    assert "would leak the label" in unused_field_comment(proposal, "dwell_time")
    assert schema.events.condition.keys() == {"page", "rating"}
    assert "not a column of the impressions" in unused_field_comment(proposal, "channel")


@pytest.mark.parametrize(
    "name",
    ["rating", "is_click", "Clicked", "liked", "watch_time", "playTimeMs", "event_type", "behavior", "purchased"],
)
def test_feedback_is_recognised_by_name(name: str) -> None:
    assert reaction_of_name(name)


@pytest.mark.parametrize(
    "name", ["price", "position", "query", "category", "event_id", "device", "user_age", "scenario"]
)
def test_names_of_other_columns_are_no_feedback(name: str) -> None:
    assert reaction_of_name(name) is None


def test_actions_are_recognised_by_their_values(tmp_path: Path) -> None:
    kind = ["clicks", "carts", "orders", "clicks"] * (ROWS // 4)
    assert read_schema(propose(write_events(tmp_path / "log.parquet", type=kind))).events.condition["type"].feedback


def test_columns_with_similar_names_get_different_field_names(tmp_path: Path) -> None:
    schema = read_schema(
        propose(write_events(tmp_path / "log.parquet", **{"a?": ["x", "y"] * 300, "a!": ["u", "v"] * 300}))
    )
    assert {field.column for field in schema.events.condition.values()} == {"a?", "a!"}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12), max_size=4, unique=True),
    st.lists(
        st.one_of(st.none(), st.text(max_size=8), st.sampled_from(["1", "2.5", "a|b", "2024-02-31"])),
        min_size=3,
        max_size=30,
    ),
)
@example([".0"], [None, "0", "00"])
def test_any_names_and_values_give_a_valid_schema(names: list[str], values: list[str | None]) -> None:
    rows = len(values)
    columns: dict[str, Any] = {
        "user_id": list(range(rows)),
        "item_id": ["i"] * rows,
        "timestamp": [1_700_000_000] * rows,
    }
    with tempfile.TemporaryDirectory() as folder:
        names = [name for name in names if name != "."]  # pyarrow cannot have this name
        path = write_table(
            Path(folder) / "log.parquet", **(dict.fromkeys(names, pa.array(values, pa.string())) | columns)
        )
        proposal = propose(path)
    if not proposal.missing:
        schema = read_schema(proposal)
        assert all((field.column or name) in names for name, field in schema.events.condition.items())


def test_typical_names_of_users_and_items_differ() -> None:
    assert not set(USER) & set(ITEM)
