"""`lum schema` on whole logs: the proposed schemas are right, and `lum prepare` accepts them."""

from pathlib import Path

import numpy as np
import pytest

from openlum.config import load_settings
from openlum.prepare.run import prepare
from openlum.schema import ImpressionRule, Schema
from openlum.schema_wizard import propose

from .tables import ROWS, find_line, market_tables, read_schema, unused_field_comment, write_events

SHARED = Path(__file__).parents[3] / "shared" / "data"
KUAIRAND = [
    SHARED / "kuairand-pure" / f"{name}.parquet"
    for name in ("log_standard_20220425_20220508", "video_features_basic_pure", "user_features_pure")
]


def test_the_proposal_for_the_market_matches_its_own_schema(market: Path) -> None:
    schema, truth = read_schema(propose(*market_tables(market))), load_settings(market / "schema.yaml", Schema)
    assert schema.items and schema.users and schema.impressions and truth.items and truth.impressions  # noqa: PT018
    assert (schema.events.user, schema.events.item, schema.events.time) == ("user_id", "item_id", "time")
    assert schema.events.condition == truth.events.condition
    assert (schema.items.id, schema.items.title, schema.items.complete) == ("item_id", "title", True)
    assert schema.items.features.keys() == truth.items.features.keys()
    assert schema.items.features["category"].type == "categorical"
    assert (schema.items.features["price"].type, schema.items.features["price"].buckets) == ("numeric", 20)
    assert schema.users.features.keys() == {"age_group", "city"}
    assert (schema.impressions.label, schema.impressions.row) == ("label", "row")
    assert schema.impressions.context == truth.impressions.context
    assert schema.impressions_from_events is None


def test_the_proposal_for_a_movielens_csv(movielens: Path) -> None:
    proposal = propose(str(movielens / "ratings.csv"), items=str(movielens / "movies.csv"))
    schema = read_schema(proposal)
    assert (schema.events.user, schema.events.item, schema.events.time) == ("userId", "movieId", "timestamp")
    assert schema.events.time_unit == "s"
    assert schema.events.condition["rating"].type == "categorical"
    assert schema.events.condition["rating"].feedback
    assert schema.impressions_from_events == ImpressionRule(field="rating", at_least=4)
    assert schema.items is not None
    assert (schema.items.id, schema.items.title) == ("movieId", "title")
    assert (schema.items.features["genres"].type, schema.items.features["genres"].max_values) == ("multi", 3)
    assert not schema.items.complete, "movies 190 to 200 are not in the table"
    assert "true rejects them" in find_line(proposal, "complete:")


def test_the_proposal_for_a_messy_csv(messy: str) -> None:
    proposal = propose(messy)
    schema = read_schema(proposal)
    assert (schema.events.user, schema.events.item, schema.events.time) == ("Customer ID", "SKU", "Created At")
    fields = schema.events.condition
    assert fields.keys() == {"Price _EUR_", "Event Type", "qty", "yes", "discount", "gap_column"}
    assert (fields["Price _EUR_"].column, fields["Price _EUR_"].type) == ("Price (EUR)", "numeric")
    assert fields["Event Type"].feedback
    assert fields["qty"].type == "categorical"  # 1.0 to 5.0
    assert fields["gap_column"].column == "gap"  # a time field has the name
    assert "the only value is 'web'" in unused_field_comment(proposal, "const")
    assert "free text" in unused_field_comment(proposal, "Note")
    assert "the number of the row" in unused_field_comment(proposal, "unnamed 1")
    assert "nearly every row has a different value" in unused_field_comment(proposal, "Session ID")
    assert "missing" in find_line(proposal, "Price _EUR_:")
    assert "#   values: [purchase]" in proposal.text


def test_prepare_accepts_the_proposals(market: Path, movielens: Path, messy: str, tmp_path: Path) -> None:
    with_pandas_index = tmp_path / "messy.csv"
    with_pandas_index.write_bytes(Path(messy).read_bytes().replace(b"\xef\xbb\xbf,", b"Unnamed: 0,", 1))
    tables: dict[str, tuple[str, ...]] = {
        "market": market_tables(market),
        "movielens": (str(movielens / "ratings.csv"), str(movielens / "movies.csv")),
        "messy": (str(with_pandas_index),),
    }
    if KUAIRAND[0].is_file():
        tables["kuairand"] = tuple(map(str, KUAIRAND))
    for name, paths in tables.items():
        (tmp_path / f"{name}.yaml").write_text(propose(*paths, root=tmp_path).text)
        info = prepare(tmp_path / f"{name}.yaml", tmp_path / name)
        assert info.counts["events"] > 0.95 * info.counts["events_in"], name
        assert (sum(info.impressions.values()) > 0) == (name != "messy"), name


def test_kuairand_log_is_its_own_impressions() -> None:
    if not KUAIRAND[0].is_file():
        pytest.skip("needs KuaiRand-Pure in ../shared/data")
    events, items, users = map(str, KUAIRAND)
    schema = read_schema(propose(events, items, users))
    assert (schema.events.user, schema.events.item, schema.events.time) == ("user_id", "video_id", "time_ms")
    assert schema.events.time_unit == "ms"
    feedback = {name for name, field in schema.events.condition.items() if field.feedback}
    assert feedback >= {"is_click", "is_like", "is_hate", "long_view", "play_time_ms"}
    assert schema.events.condition.keys() - feedback == {"duration_ms", "tab"}
    assert schema.impressions_from_events == ImpressionRule(field="is_click", at_least=1)
    assert schema.items is not None
    assert schema.items.id == "video_id"
    assert schema.items.features["upload_dt"].type == "time"
    assert schema.users is not None
    assert schema.users.features["fans_user_num"].buckets == 20
    schema = read_schema(propose(events, items, users, impressions=events))
    assert schema.impressions is not None
    assert schema.impressions.label == "is_click"
    assert schema.impressions.context == {}


def test_repeated_rows_raise_max_rejected(tmp_path: Path) -> None:
    ten_times = 1_700_000_000 + np.arange(ROWS) // 60 * 60
    assert read_schema(propose(write_events(tmp_path / "log.parquet", user_id=np.arange(ROWS)))).max_rejected == 0.01
    proposal = propose(
        write_events(tmp_path / "log.parquet", user_id=["a", "b"] * 300, item_id=["x"] * ROWS, timestamp=ten_times)
    )
    assert read_schema(proposal).max_rejected == 1
    text = " ".join(proposal.text.replace("# ", "").split())
    assert "580 of 600 sampled rows (96.7%) repeat another row in every column" in text
    assert "such as user_id a, item_id x, timestamp 1700000000, which occurs 30 times" in text
    assert (
        "equal actions within a minute look the same" in text or "equal actions within a second look the same" in text
    )
    assert "tells them apart" in text
