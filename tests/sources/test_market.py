"""The simulated marketplace: reproducible, calibrated to its own truth, and consistent with its schema."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from openlum.cli import main
from openlum.config import load_settings
from openlum.data.dataset import SPLITS, Dataset
from openlum.errors import InputError
from openlum.schema import Schema
from openlum.sources.market.settings import MarketSettings, market_of_size
from openlum.sources.market.write import market_figures, write_market

FILES = {
    "events.parquet",
    "impressions.parquet",
    "items.parquet",
    "users.parquet",
    "truth.parquet",
    "schema.yaml",
    "manifest.json",
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


@pytest.mark.parametrize("processes", [2, 3])
def test_number_of_processes_changes_no_byte(tmp_path: Path, processes: int) -> None:
    settings = SMALL.model_copy(update={"users_per_chunk": 70})
    one = write_market(settings, tmp_path / "one").parent
    more = write_market(settings, tmp_path / "more", processes).parent
    assert {file.name for file in more.iterdir()} == FILES
    for name in FILES:
        assert (more / name).read_bytes() == (one / name).read_bytes(), name


@pytest.mark.parametrize(("users", "events"), [(400, 400), (300, 1000), (200, 1600), (150, 12_345)])
def test_market_of_size_has_about_as_many_events(tmp_path: Path, users: int, events: int) -> None:
    figures = market_figures(write_market(market_of_size(users, events), tmp_path / "log").parent)
    assert (figures.users, figures.items) == (users, 1500)
    assert 0.85 * events < figures.events < 1.15 * events
    assert 0.05 < figures.click_rate < 0.4
    assert figures.sizes.keys() == FILES - {"manifest.json"}


def test_chunks_do_not_grow_with_the_log() -> None:
    for users, events in ((10**6, 10**8), (10**3, 10**8), (10**6, 10**6)):
        settings = market_of_size(users, events)
        assert settings.users_per_chunk * settings.sessions * settings.slate <= 200_000
    assert market_of_size(10**6, 10**8).items == 500_000


def lum_market(*arguments: str, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", "from openlum.cli import main; main()", "market", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_command_writes_what_it_prints(tmp_path: Path) -> None:
    process = lum_market("--users", "1.2e2", "--events", "2e3", "--items", "200", "--out", str(tmp_path / "log"))
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    events = pq.read_metadata(tmp_path / "log" / "events.parquet").num_rows
    assert f"{events:,}" in printed
    assert "events.parquet" in printed
    assert "schema.yaml" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"--users": "0"}, "'users'"),
        ({"--users": "-3"}, "'users'"),
        ({"--users": "1.5"}, "'1.5' is not a whole number"),
        ({"--users": "many"}, "'many' is not a whole number"),
        ({"--events": "nan"}, "'nan' is not a whole number"),
        ({"--events": "99"}, "at least 100"),
        ({"--items": "99"}, "'items'"),
        ({"--days": "1"}, "'days'"),
        ({"--processes": "0"}, "--processes 0"),
    ],
)
def test_bad_numbers_are_one_message(
    options: dict[str, str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {"--users": "100", "--events": "1e3", "--out": str(tmp_path / "log")} | options
    monkeypatch.setattr(sys, "argv", ["lum", "market", *[word for pair in given.items() for word in pair]])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("lum: ")
    assert message in error
    assert "\n" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs POSIX process groups")
def test_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    arguments = ["--users", "1e5", "--events", "1e7", "--processes", "2", "--out", str(tmp_path / "log")]
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what runs in the background of a script ignores it
    process = lum_market(*arguments, start_new_session=True, preexec_fn=heeds)
    while not list(tmp_path.glob(".log.*/events.parquet")):  # until it writes
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to every process of the command
    errors = process.communicate(timeout=60)[1]  # also waits for the processes that hold its output
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_a_lost_process_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "openlum.sources.market.write._send_chunks", os._exit
    )  # spawned with a status that it can't take
    with pytest.raises(InputError, match="a simulating process ended with status"):
        write_market(SMALL.model_copy(update={"users_per_chunk": 70}), tmp_path / "log", processes=2)
    assert list(tmp_path.iterdir()) == []


def test_the_market_prepares(market: Path, tmp_path: Path) -> None:
    prepare = pytest.importorskip("openlum.prepare.run")
    prepare.prepare(market / "schema.yaml", tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    rows = pq.read_metadata(market / "impressions.parquet").num_rows
    assert sum(len(dataset.impressions(split).row) for split in SPLITS) == rows
    assert len(dataset.sequences.item) == rows
    assert sum(dataset.info.rejected.values()) == 0
