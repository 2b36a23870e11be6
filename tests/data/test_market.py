"""The simulated marketplace: reproducible, calibrated to its own truth, and consistent with its schema."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from openlum.config import load_settings
from openlum.data.dataset import SPLITS, Dataset
from openlum.data.market import MarketSettings, write_market
from openlum.schema import Schema

FILES = {
    "events.parquet",
    "impressions.parquet",
    "items.parquet",
    "users.parquet",
    "truth.parquet",
    "schema.yaml",
    ".openlum",
}
SMALL = MarketSettings(users=300, items=300, sessions=10, seed=3)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(SMALL, tmp_path_factory.mktemp("market") / "log").parent


@pytest.fixture(scope="module")
def shown(market: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(market / "impressions.parquet").append_column(
        "probability", pq.read_table(market / "truth.parquet")["probability"]
    )
    columns = {name: table[name].to_numpy() for name in table.column_names if name != "time"}
    return columns | {"time": table["time"].cast(pa.int64()).to_numpy()}


def test_same_settings_write_identical_files(market: Path, tmp_path: Path) -> None:
    again = write_market(SMALL, tmp_path / "again").parent
    assert {file.name for file in again.iterdir()} == FILES
    for name in FILES:
        assert (again / name).read_bytes() == (market / name).read_bytes(), name


def test_another_seed_writes_another_log(market: Path, tmp_path: Path) -> None:
    other = write_market(SMALL.model_copy(update={"seed": 4}), tmp_path / "other").parent
    assert not pq.read_table(other / "items.parquet").equals(pq.read_table(market / "items.parquet"))
    assert not pq.read_table(other / "events.parquet").equals(pq.read_table(market / "events.parquet"))


def test_labels_follow_the_true_probabilities_in_every_decile(shown: dict[str, np.ndarray]) -> None:
    order = np.argsort(shown["probability"])
    for part in np.array_split(order, 10):
        p = shown["probability"][part]
        error = (shown["label"][part] - p).sum() / np.sqrt((p * (1 - p)).sum())
        assert abs(error) < 4.5, "more than 4.5 standard errors off"


def test_click_rate_and_oracle_leave_something_to_learn(shown: dict[str, np.ndarray]) -> None:
    assert 0.1 < shown["label"].mean() < 0.3
    oracle = roc_auc_score(shown["label"], shown["probability"])
    assert 0.78 < oracle < 0.9
    clicks = np.bincount(shown["item_id"], shown["label"])
    count = np.bincount(shown["item_id"])
    rate = (clicks / np.maximum(count, 1))[shown["item_id"]]
    assert roc_auc_score(shown["label"], rate) < oracle - 0.08, "the item alone nearly decides"


def test_a_slate_has_one_time_and_different_items(shown: dict[str, np.ndarray]) -> None:
    starts = np.flatnonzero(shown["position"] == 1)
    slate = np.cumsum(shown["position"] == 1)
    for name in ("user_id", "time", "scenario", "query"):
        same = (shown[name] == shown[name][starts][slate - 1]) | (shown[name] == None)  # noqa: E711
        assert same.all(), name
    keys = np.stack([slate, shown["item_id"]])
    assert np.unique(keys, axis=1).shape[1] == keys.shape[1]
    sessions = np.stack([shown["user_id"], shown["time"]])[:, starts]
    assert np.unique(sessions, axis=1).shape[1] == sessions.shape[1], "two sessions of a user at one time"
    assert (np.diff(shown["time"])[np.diff(shown["user_id"]) == 0] >= 0).all()


def test_only_searches_have_a_query(shown: dict[str, np.ndarray]) -> None:
    has_query = shown["query"] != None  # noqa: E711
    np.testing.assert_array_equal(has_query, shown["scenario"] == "search")
    assert set(shown["scenario"]) == {"home", "search", "cart"}


def test_every_impression_is_an_event(market: Path) -> None:
    events, impressions = (pq.read_table(market / f"{name}.parquet") for name in ("events", "impressions"))
    for name in ("user_id", "item_id", "time", "scenario", "query"):
        assert events[name].equals(impressions[name]), name
    clicked = np.asarray(events["feedback"].to_pylist()) == "click"
    np.testing.assert_array_equal(clicked, impressions["label"].to_numpy() == 1)


def test_schema_names_the_columns_and_never_the_truth(market: Path) -> None:
    schema = load_settings(market / "schema.yaml", Schema)
    tables = (schema.events, schema.items, schema.users, schema.impressions)
    assert "truth.parquet" not in {table.path for table in tables if table}
    for table in tables:
        assert table
        columns = pq.read_schema(market / table.path).names
        assert "probability" not in columns
        named = [
            getattr(table, key)
            for key in ("user", "item", "time", "id", "title", "label", "row")
            if hasattr(table, key)
        ]
        features = [*getattr(table, "condition", {}), *getattr(table, "features", {}), *getattr(table, "context", {})]
        assert set(named + features) <= set(columns)


def test_schema_comments_every_key(market: Path) -> None:
    text = (market / "schema.yaml").read_text()
    told = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    obvious = ("type:", "features:")
    assert [line for line in told if "#" not in line and not line.strip().startswith(obvious)] == []


def test_the_log_is_written_in_pieces(market: Path, tmp_path: Path) -> None:
    pieces = write_market(SMALL.model_copy(update={"users_per_chunk": 70}), tmp_path / "pieces").parent
    for name in ("events", "impressions", "truth", "users"):
        assert pq.ParquetFile(pieces / f"{name}.parquet").num_row_groups == 5  # 300 users by 70
    row = pq.read_table(pieces / "impressions.parquet")["row"].to_numpy()
    np.testing.assert_array_equal(row, np.arange(len(row)))
    assert pq.read_table(pieces / "users.parquet")["user_id"].to_pylist() == list(range(1, 301))
    assert set(pq.read_table(pieces / "events.parquet")["user_id"].to_pylist()) == set(range(1, 301))


def test_the_market_prepares(market: Path, tmp_path: Path) -> None:
    prepare = pytest.importorskip("openlum.data.prepare")
    prepare.prepare(market / "schema.yaml", tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    rows = pq.read_metadata(market / "impressions.parquet").num_rows
    assert sum(len(dataset.impressions(split).row) for split in SPLITS) == rows
    assert len(dataset.sequences.item) == rows
    assert sum(dataset.info.rejected.values()) == 0
