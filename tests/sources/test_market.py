"""The simulated marketplace is reproducible, calibrated to its true click probabilities and consistent with its schema."""

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
    """Return the directory of a small market."""
    return write_market(SMALL, tmp_path_factory.mktemp("market") / "log").parent


@pytest.fixture(scope="module")
def impressions(market: Path) -> dict[str, np.ndarray]:
    """Return the columns of the impression log and the true click probabilities."""
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


def test_labels_agree_with_the_true_probabilities_in_every_decile(impressions: dict[str, np.ndarray]) -> None:
    order = np.argsort(impressions["probability"])
    for part in np.array_split(order, 10):
        p = impressions["probability"][part]
        error = (impressions["label"][part] - p).sum() / np.sqrt((p * (1 - p)).sum())
        assert abs(error) < 4.5, "more than 4.5 standard errors off"


def test_click_rate_and_oracle_leave_room_for_a_model(impressions: dict[str, np.ndarray]) -> None:
    assert 0.1 < impressions["label"].mean() < 0.3
    oracle = roc_auc_score(impressions["label"], impressions["probability"])
    assert 0.78 < oracle < 0.9
    clicks = np.bincount(impressions["item_id"], impressions["label"])
    count = np.bincount(impressions["item_id"])
    rate = (clicks / np.maximum(count, 1))[impressions["item_id"]]
    assert roc_auc_score(impressions["label"], rate) < oracle - 0.08, (
        "the click rate of the item alone is nearly as good as the oracle"
    )


def test_a_slate_has_one_time_and_different_items(impressions: dict[str, np.ndarray]) -> None:
    starts = np.flatnonzero(impressions["position"] == 1)
    slate = np.cumsum(impressions["position"] == 1)
    for name in ("user_id", "time", "scenario", "query"):
        is_same = (impressions[name] == impressions[name][starts][slate - 1]) | (impressions[name] == None)  # noqa: E711
        assert is_same.all(), name
    keys = np.stack([slate, impressions["item_id"]])
    assert np.unique(keys, axis=1).shape[1] == keys.shape[1]
    sessions = np.stack([impressions["user_id"], impressions["time"]])[:, starts]
    assert np.unique(sessions, axis=1).shape[1] == sessions.shape[1], "a user has two sessions at one time"
    assert (np.diff(impressions["time"])[np.diff(impressions["user_id"]) == 0] >= 0).all()


def test_only_searches_have_a_query(impressions: dict[str, np.ndarray]) -> None:
    has_query = impressions["query"] != None  # noqa: E711
    np.testing.assert_array_equal(has_query, impressions["scenario"] == "search")
    assert set(impressions["scenario"]) == {"home", "search", "cart"}


def test_every_impression_is_an_event(market: Path) -> None:
    events, impressions = (pq.read_table(market / f"{name}.parquet") for name in ("events", "impressions"))
    for name in ("user_id", "item_id", "time", "scenario", "query"):
        assert events[name].equals(impressions[name]), name
    clicked = np.asarray(events["feedback"].to_pylist()) == "click"
    np.testing.assert_array_equal(clicked, impressions["label"].to_numpy() == 1)


def test_schema_names_existing_columns_and_no_true_probabilities(market: Path) -> None:
    schema = load_settings(market / "schema.yaml", Schema)
    tables = (schema.events, schema.items, schema.users, schema.impressions)
    assert "truth.parquet" not in {table.path for table in tables if table}
    for table in tables:
        assert table
        columns = pq.read_schema(market / table.path).names
        assert "probability" not in columns
        roles = [
            getattr(table, key)
            for key in ("user", "item", "time", "id", "title", "label", "row")
            if hasattr(table, key)
        ]
        features = [*getattr(table, "condition", {}), *getattr(table, "features", {}), *getattr(table, "context", {})]
        assert set(roles + features) <= set(columns)


def test_schema_has_a_comment_on_every_key(market: Path) -> None:
    text = (market / "schema.yaml").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    without_comment = ("type:", "features:")
    assert [line for line in lines if "#" not in line and not line.strip().startswith(without_comment)] == []


def test_each_chunk_is_a_row_group(market: Path, tmp_path: Path) -> None:
    chunked = write_market(SMALL.model_copy(update={"users_per_chunk": 70}), tmp_path / "chunked").parent
    for name in ("events", "impressions", "truth", "users"):
        assert pq.ParquetFile(chunked / f"{name}.parquet").num_row_groups == 5  # 300 users by 70
    row = pq.read_table(chunked / "impressions.parquet")["row"].to_numpy()
    np.testing.assert_array_equal(row, np.arange(len(row)))
    assert pq.read_table(chunked / "users.parquet")["user_id"].to_pylist() == list(range(1, 301))
    assert set(pq.read_table(chunked / "events.parquet")["user_id"].to_pylist()) == set(range(1, 301))


@pytest.mark.parametrize("processes", [2, 3])
def test_number_of_processes_does_not_change_the_files(tmp_path: Path, processes: int) -> None:
    settings = SMALL.model_copy(update={"users_per_chunk": 70})
    expected = write_market(settings, tmp_path / "one-process").parent
    market = write_market(settings, tmp_path / "several-processes", processes).parent
    assert {file.name for file in market.iterdir()} == FILES
    for name in FILES:
        assert (market / name).read_bytes() == (expected / name).read_bytes(), name


@pytest.mark.parametrize(("users", "events"), [(400, 400), (300, 1000), (200, 1600), (150, 12_345)])
def test_market_of_size_has_about_the_requested_number_of_events(tmp_path: Path, users: int, events: int) -> None:
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


def test_command_prints_the_number_of_events_it_wrote(tmp_path: Path) -> None:
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
def test_a_bad_number_gives_a_message_of_one_line(
    options: dict[str, str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"--users": "100", "--events": "1e3", "--out": str(tmp_path / "log")} | options
    monkeypatch.setattr(sys, "argv", ["lum", "market", *[word for pair in options.items() for word in pair]])
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("lum: ")
    assert message in error
    assert "\n" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs POSIX process groups")
def test_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    arguments = ["--users", "1e5", "--events", "1e7", "--processes", "2", "--out", str(tmp_path / "log")]
    # A background process of a shell script ignores Ctrl-C; this restores the default.
    handle_interrupt = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = lum_market(*arguments, start_new_session=True, preexec_fn=handle_interrupt)
    while not list(tmp_path.glob(".log.*/events.parquet")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # a terminal also sends the signal to every process of the command
    errors = process.communicate(timeout=60)[1]  # this also waits for the child processes, which share its output
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_ends_early_gives_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The spawned process calls `os._exit` with arguments that it does not accept, and so fails.
    monkeypatch.setattr("openlum.sources.market.write._send_chunks", os._exit)
    with pytest.raises(InputError, match="a simulation process ended with status"):
        write_market(SMALL.model_copy(update={"users_per_chunk": 70}), tmp_path / "log", processes=2)
    assert list(tmp_path.iterdir()) == []


def test_prepare_accepts_the_market(market: Path, tmp_path: Path) -> None:
    prepare = pytest.importorskip("openlum.prepare.run")
    prepare.prepare(market / "schema.yaml", tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    rows = pq.read_metadata(market / "impressions.parquet").num_rows
    assert sum(len(dataset.impressions(split).row) for split in SPLITS) == rows
    assert len(dataset.sequences.item) == rows
    assert sum(dataset.info.rejected.values()) == 0
