"""Columns that are called like a reaction but are known beforehand; the column of the request."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openlum.schema import ImpressionTable
from openlum.schema_wizard import propose
from openlum.schema_wizard.name_hints import reaction_of_name
from openlum.schema_wizard.requests import request_column
from openlum.schema_wizard.roles import Role
from openlum.schema_wizard.table_profile import profile_table

from .tables import ROWS, find_line, read_schema, unused_field_comment, write_events

RNG = np.random.default_rng(3)
CIRCUMSTANCES = [
    *("click_environment", "click_deviceGroup", "click_os", "click_country", "click_region", "click_referrer_type"),
    *("watch_device", "PlayPosition", "event_source", "view_page"),
]
USERS = np.repeat(np.arange(ROWS // 12), 12)
TIMES = 1_700_000_000 + np.arange(ROWS) * 20
SESSION = np.arange(ROWS) // 6  # two sessions of each user


def write_news(path: Path, **columns: Any) -> str:
    """Write a log of sessions of six rows, in which every row has a time of its own."""
    return write_events(path, user_id=USERS, item_id=RNG.integers(1, 80, ROWS), timestamp=TIMES, **columns)


@pytest.mark.parametrize("name", CIRCUMSTANCES)
def test_a_word_for_circumstances_after_the_reaction_makes_it_no_reaction(name: str) -> None:
    assert reaction_of_name(name) is None


@pytest.mark.parametrize("name", ["page_view", "device_like", "search_click", "position_clicked", "event_type"])
def test_a_word_for_circumstances_before_the_reaction_does_not(name: str) -> None:
    assert reaction_of_name(name)


def test_a_value_that_lasts_for_a_session_is_no_reaction(tmp_path: Path) -> None:
    """Names alone say that each of these columns is a reaction."""
    kinds = {
        "click_kind": RNG.integers(1, 5, ROWS)[SESSION],
        "view_mode": np.array(["grid", "list", "map"])[RNG.integers(0, 3, ROWS)[SESSION]],
        "play_speed": RNG.normal(size=ROWS)[SESSION],
    }
    reactions = {"share_kind": RNG.integers(1, 5, ROWS), "watch_ms": RNG.exponential(9, ROWS), "liked": SESSION % 2}
    proposal = propose(write_news(tmp_path / "log.parquet", **kinds, **reactions))
    fields = read_schema(proposal).events.condition
    assert {name for name, field in fields.items() if not field.feedback} == kinds.keys()
    assert {name for name, field in fields.items() if field.feedback} == reactions.keys(), "'liked' is a certain name"
    assert "guess: no feedback, since" in proposal.text


def test_actions_that_repeat_stay_feedback(tmp_path: Path) -> None:
    actions = np.array(["view", "cart", "purchase"])[RNG.integers(0, 3, ROWS)[SESSION]]
    assert read_schema(propose(write_news(tmp_path / "log.parquet", event=actions))).events.condition["event"].feedback


def test_a_column_of_the_impressions_is_no_reaction_unless_it_tells_the_label(tmp_path: Path) -> None:
    label = RNG.integers(0, 2, ROWS)
    both = {"click_kind": RNG.integers(1, 5, ROWS), "dwell_time": RNG.exponential(9, ROWS), "watch_share": label * 1.5}
    impressions = both | {"dwell_time": np.where(label, both["dwell_time"], 0.0)}
    proposal = propose(
        write_news(tmp_path / "log.parquet", **both),
        impressions=write_news(tmp_path / "shown.parquet", label=label, **impressions),
    )
    schema = read_schema(proposal)
    assert {name for name, field in schema.events.condition.items() if field.feedback} == {"dwell_time", "watch_share"}
    assert "it is a column of the impressions too" in proposal.text
    assert schema.impressions is not None
    assert schema.impressions.context == {}


def test_a_reaction_of_very_many_texts_is_left_out(tmp_path: Path) -> None:
    texts = [f"t{n}" for n in RNG.integers(1, 90, ROWS)]
    proposal = propose(write_news(tmp_path / "log.parquet", reply_to=texts))
    assert read_schema(proposal).events.condition == {}
    assert "too many values to predict" in unused_field_comment(proposal, "reply_to")


ROLES = {
    key: Role(name)
    for key, name in (("user", "user_id"), ("item", "item_id"), ("time", "timestamp"), ("label", "label"))
}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"request_id": SESSION}, "request_id"),
        ({"srch_id": [f"s{n}" for n in SESSION], "page": SESSION % 3}, "srch_id"),
        ({"slate": SESSION, "timestamp": TIMES[0] + SESSION}, "slate"),
        ({"anything": SESSION, "timestamp": TIMES[0] + SESSION}, "anything"),
        ({"anything": SESSION}, None),  # a session lasts, a request does not
        ({"request_id": np.arange(ROWS)}, None),
        ({"request_id": np.arange(ROWS) % 7}, None),  # many users have the same value
        ({"city": USERS}, None),
    ],
)
def test_the_request_is_one_user_one_moment_and_several_items(
    tmp_path: Path, columns: dict[str, Any], expected: str | None
) -> None:
    items = np.arange(ROWS) % 80
    common = {"user_id": USERS, "item_id": items, "timestamp": TIMES, "label": np.arange(ROWS) % 2}
    path = write_events(tmp_path / "shown.parquet", **(common | columns))
    assert request_column(profile_table(path, 10_000, "impressions"), ROLES) == expected


def test_the_request_is_proposed(tmp_path: Path) -> None:
    if "request" not in ImpressionTable.model_fields:
        pytest.skip("this schema has no requests")
    common = {"user_id": USERS, "item_id": np.arange(ROWS) % 80, "timestamp": TIMES}
    impressions = write_events(tmp_path / "shown.parquet", **common, request_id=SESSION, label=np.arange(ROWS) % 2)
    proposal = propose(write_news(tmp_path / "log.parquet"), impressions=impressions)
    assert find_line(proposal, "request:").startswith("request: request_id")
