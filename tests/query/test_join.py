"""Knowledge that is joined to rows of other tables: each row gets what was known at its time, and no row or column is lost."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import openlum as ol
from openlum.cli import app
from openlum.data.dataset import Dataset
from openlum.data.knowledge import Knowledge
from openlum.errors import InputError
from openlum.model import LargeUserModel
from openlum.prepare.outside_log import LogColumns
from openlum.query.bulk import query
from openlum.query.join import join
from openlum.query.settings import QuerySettings
from tests.prepare.logs import START
from tests.query.conftest import DAY

SETTINGS = QuerySettings(questions={"any": {}, "here": {"rating": 5, "*": "$row"}}, batch_events=60)
COLUMNS = LogColumns(user="user", time="time", item="item")
MIDNIGHT = (START // DAY + 7) * DAY


@pytest.fixture(scope="module")
def log(dataset: Dataset) -> Path:
    """The event log that the dataset was made of; every event is also an impression."""
    return dataset.path.parent / "events.parquet"


@pytest.fixture(scope="module")
def knowledge(dataset: Dataset, model_dir: Path) -> pa.Table:
    """Knowledge per impression of the same rows, in the order of the log."""
    query(dataset.path, model_dir, model_dir.parent / "per-row", SETTINGS)
    return Knowledge(model_dir.parent / "per-row").to_arrow()


@pytest.fixture(scope="module")
def publish(dataset: Dataset, model_dir: Path) -> Callable[..., Path]:
    """Return a function that publishes knowledge per user as of a second."""

    def published(as_of: int, **settings: Any) -> Path:
        out = model_dir.parent / f"users-{as_of}-{len(settings)}"
        if not out.exists():
            query(dataset.path, model_dir, out, QuerySettings(questions={"any": {}}, **settings), "all", as_of)
        return out

    return published


def write(directory: Path, rows: dict[str, Any], name: str = "rows.parquet") -> str:
    pq.write_table(pa.table(rows), directory / name)
    return str(directory / name)


def joined(out: Path) -> dict[str, Any]:
    """Return columns by name; vectors and numbers are arrays."""
    table = pq.read_table(out)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    return {
        name: np.array(values, np.float32)
        if pa.types.is_fixed_size_list(table.schema.field(name).type) and None not in values
        else values
        for name, values in columns.items()
    }


def test_replayed_rows_have_what_lum_query_answers(
    dataset: Dataset, model_dir: Path, log: Path, knowledge: pa.Table, tmp_path: Path
) -> None:
    figures = join(str(log), tmp_path / "out.parquet", COLUMNS, (), dataset.path, model_dir, SETTINGS)
    own, result = pq.read_table(log), pq.read_table(tmp_path / "out.parquet")
    assert result.select(own.column_names).equals(own)
    assert result.column_names == own.column_names + knowledge.column_names[3:]
    for name in knowledge.column_names[3:]:
        mine, expected = (np.array(table[name].to_pylist(), np.float32) for table in (result, knowledge))
        np.testing.assert_allclose(mine, expected, atol=1e-3, err_msg=name)
    assert figures["rows"] == len(own)
    assert figures["rows_of_unknown_users"] == figures["rows_of_unknown_items"] == 0


def test_rows_keep_order_and_columns_whatever_files_they_come_from(
    dataset: Dataset, model_dir: Path, log: Path, knowledge: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openlum.query.join.ROWS", 70)
    order = np.random.default_rng(0).permutation(len(knowledge))
    table = pq.read_table(log).take(order).append_column("note", pa.array([{"n": int(row)} for row in order]))
    for number, part in enumerate((table[:100], table[100:])):
        pq.write_table(part, tmp_path / f"{number}.parquet")
    join(f"{tmp_path}/*.parquet", tmp_path / "out" / "all.parquet", COLUMNS, (), dataset.path, model_dir, SETTINGS)
    result = pq.read_table(tmp_path / "out" / "all.parquet")
    assert result.select(table.column_names).equals(table.combine_chunks())
    expected = np.array(knowledge["feedback.rating=5"].to_pylist())[order]
    np.testing.assert_allclose(result["feedback.rating=5"].to_numpy(), expected, atol=1e-4)


def test_unknown_users_and_items_keep_their_rows_with_missing_values(
    dataset: Dataset, model_dir: Path, publish: Callable[..., Path], tmp_path: Path
) -> None:
    rows = {"user": ["u1", "new", "u1", "idle"], "item": ["i1", "i1", "new", "i1"], "time": [MIDNIGHT + 5] * 4}
    log = write(tmp_path, rows)
    inputs: tuple[Any, ...] = ((), dataset.path, model_dir, SETTINGS)
    for arguments in (inputs, ([publish(MIDNIGHT)], dataset.path, model_dir)):
        figures = join(log, tmp_path / "out.parquet", COLUMNS, *arguments)
        result = joined(tmp_path / "out.parquet")
        assert [result[name] for name in rows] == list(rows.values())
        assert [figures[f"{kind}_{role}s"] for role in ("user", "item") for kind in ("unknown", "rows_of_unknown")] == [
            1
        ] * 4
        assert figures["conditions_without_column"] == "scenario"
        for name, values in result.items():
            if name.startswith(("similarity.", "feedback.", "fresh.", "nightly.")):
                assert [value is None for value in values] == [False, True, True, False], name
            if name.startswith(("answer.", "vectors")):
                assert [value is None for value in values] == [False, True, False, False], name


def test_a_row_gets_the_newest_snapshot_that_is_not_later(publish: Callable[..., Path], tmp_path: Path) -> None:
    nights = [MIDNIGHT, MIDNIGHT + DAY, MIDNIGHT + 2 * DAY]
    moments = [-1, 0, 1, DAY - 1, DAY, DAY + 0.5, 2 * DAY, 9 * DAY]
    expected = [None, 0, 0, 0, 1, 1, 2, 2]
    times = pa.array([int((MIDNIGHT + moment) * 1000) for moment in moments], pa.timestamp("ms"))
    log = write(tmp_path, {"user": ["u3"] * len(moments), "time": times})
    columns = LogColumns(user="user", time="time")
    figures = join(log, tmp_path / "out.parquet", columns, [publish(night) for night in reversed(nights)])
    assert (figures["snapshots"], figures["rows_without_snapshot"]) == (3, 1)
    result = pq.read_table(tmp_path / "out.parquet").to_pylist()
    stored = [{row["user"]: row for row in Knowledge(publish(night)).to_arrow().to_pylist()} for night in nights]
    for row, night in zip(result, expected, strict=True):
        other = dict.fromkeys(stored[0]["u3"]) if night is None else stored[night]["u3"]
        assert {name: row[name] for name in other if name != "user"} == {k: v for k, v in other.items() if k != "user"}


def test_an_event_at_the_second_of_a_row_is_never_in_its_knowledge(
    dataset: Dataset, model: LargeUserModel, model_dir: Path, publish: Callable[..., Path], tmp_path: Path
) -> None:
    sequences, names = dataset.sequences, dataset.raw_ids("users")
    for place in (60, 180):
        second = int(sequences.time[place])
        user = names[int(sequences.user[np.searchsorted(sequences.offsets, place, "right") - 1])].as_py()
        history = [event for event in dataset.histories([user])[user] if event["time"] < second]
        log = write(tmp_path, {"user": [user], "time": [second]})
        columns = LogColumns(user="user", time="time")
        (answer,) = model.ask(history, [{}]).numpy()
        for arguments in (([publish(second)],), ((), dataset.path, model_dir, QuerySettings())):
            join(log, tmp_path / "out.parquet", columns, *arguments)
            result = joined(tmp_path / "out.parquet")
            np.testing.assert_allclose(result["answer.any"][0], answer, atol=2e-3)
            assert result.get("events", [len(history)]) == [len(history)]


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_predictions_from_a_night_are_those_of_the_tier_nightly(
    dataset: Dataset,
    model_dir: Path,
    log: Path,
    knowledge: pa.Table,
    publish: Callable[..., Path],
    tmp_path: Path,
    dtype: str,
) -> None:
    time = pq.read_table(log)["time"].to_numpy()
    of_day = np.flatnonzero((time >= MIDNIGHT) & (time < MIDNIGHT + DAY))
    assert len(of_day) > 10
    pq.write_table(pq.read_table(log).take(of_day), tmp_path / "day.parquet")
    settings = {} if dtype == "float16" else {"dtype": dtype}
    night = publish(MIDNIGHT, **settings)
    join(str(tmp_path / "day.parquet"), tmp_path / "out.parquet", COLUMNS, [night], dataset.path, model_dir)
    result, expected = pq.read_table(tmp_path / "out.parquet"), knowledge.take(of_day)
    names = [name for name in knowledge.column_names if name.startswith("nightly.")]
    assert [name for name in result.column_names if name.startswith("nightly.")] == names != []
    tolerance = 5e-3 if dtype == "float16" else 0.1
    for name in names:
        np.testing.assert_allclose(result[name].to_numpy(), expected[name].to_numpy(), atol=tolerance)
    items = {row["item"]: np.array(row["embedding"], np.float32) for row in Knowledge(night).items().to_pylist()}
    for row in result.to_pylist():
        answer, item = np.array(row["answer.any"], np.float32), items[row["item"]]
        cosine = answer @ item / np.linalg.norm(answer) / np.linalg.norm(item)
        assert row["similarity.any"] == pytest.approx(cosine, abs=1e-5)


def test_units_and_time_zones_of_times_follow_the_rules_of_prepare(
    publish: Callable[..., Path], tmp_path: Path
) -> None:
    seconds = [MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + 3600]
    zoned = pa.array([s * 1000 for s in seconds], pa.timestamp("ms", "+02:00"))  # the same instants
    spellings: list[tuple[Any, dict[str, str]]] = [
        (seconds, {}),
        ([second * 1000 for second in seconds], {"time_unit": "ms"}),
        (zoned, {}),
        ([f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}" for second in seconds], {}),
        ([f"{datetime.fromtimestamp(s + 7200, UTC):%Y-%m-%dT%H:%M:%S}+02:00" for s in seconds], {}),
        ([f"{datetime.fromtimestamp(s, UTC):%d/%m/%Y %H:%M:%S}" for s in seconds], {"date_order": "dmy"}),
    ]
    for times, options in spellings:
        log = write(tmp_path, {"user": ["u1"] * 3, "when": times})
        columns = LogColumns(user="user", time="when", **options)
        join(log, tmp_path / "out.parquet", columns, [publish(MIDNIGHT)])
        assert [row is None for row in joined(tmp_path / "out.parquet")["as_of"]] == [True, False, False]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"user": ["u1", None], "time": [MIDNIGHT] * 2}, r"rows.parquet: row 2 \(user None, time \d+\): no user"),
        ({"user": ["u1", "u2"], "time": ["2020-09-20", "soon"]}, "row 2 .*time: not a timestamp.* 1 of 2 rows"),
        ({"user": ["u1"], "time": [MIDNIGHT * 1000]}, "more than a year in the future.*--time-unit"),
        ({"user": ["u1"], "time": ["20/09/2020"]}, "day and month need their order.*--date-order"),
        ({"id": ["u1"], "time": [MIDNIGHT]}, "no column 'user'"),
        ({"user": ["u1"], "time": [MIDNIGHT], "events": [1], "as_of": [1]}, "has the columns as_of, events.*--prefix"),
    ],
)
def test_a_row_or_a_name_that_cannot_be_used_is_an_error(
    publish: Callable[..., Path], tmp_path: Path, rows: dict[str, Any], message: str
) -> None:
    log, out = write(tmp_path, rows), tmp_path / "out.parquet"
    with pytest.raises(InputError, match=message):
        join(log, out, LogColumns(user="user", time="time"), [publish(MIDNIGHT)])
    assert not out.exists()
    if "events" in rows:
        join(log, out, LogColumns(user="user", time="time"), [publish(MIDNIGHT)], prefix="lum_")
        assert joined(out)["events"] == [1]
        assert joined(out)["lum_events"][0] > 1


def test_inputs_that_do_not_fit_are_errors(
    dataset: Dataset, model_dir: Path, knowledge: pa.Table, publish: Callable[..., Path], tmp_path: Path
) -> None:
    log, out, night = write(tmp_path, {"user": ["u1"], "time": [MIDNIGHT]}), tmp_path / "out.parquet", publish(MIDNIGHT)
    columns = LogColumns(user="user", time="time")
    cases: list[tuple[str, tuple[Any, ...], Path]] = [
        ("name knowledge per user, or a dataset and a model", (), out),
        ("name knowledge per user, or a dataset and a model", ((), dataset.path), out),
        ("name the column of the item", ([night], dataset.path, model_dir), out),
        ("the questions are those of the knowledge", ([night], None, None, SETTINGS), out),
        ("holds knowledge per impression", ([model_dir.parent / "per-row"],), out),
        ("occurs twice as of the same time", ([night, night],), out),
        ("differs from .* in 'dtype'", ([night, publish(MIDNIGHT + DAY, dtype="int8")],), out),
        ("is a file of the log", ([night],), Path(log)),
        ("is a directory", ([night],), tmp_path),
    ]
    for message, arguments, target in cases:
        with pytest.raises(InputError, match=message):
            join(log, target, columns, *arguments)
    assert pq.read_table(log).num_rows == 1


def test_command_and_function_write_the_same(
    dataset: Dataset, model_dir: Path, publish: Callable[..., Path], log: Path, tmp_path: Path
) -> None:
    pyarrow.csv.write_csv(pq.read_table(log)[:40], tmp_path / "rows.csv")
    options = ["--user", "user", "--time", "time", "--item", "item", "-d", dataset.path, "-m", model_dir, "-o"]
    arguments = ["knowledge", "join", tmp_path / "rows.csv", "-k", publish(MIDNIGHT), *options, tmp_path / "c.parquet"]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    assert "rows 40" in " ".join(done.output.split())
    frame = pd.read_csv(tmp_path / "rows.csv", dtype=str)
    figures = ol.join_knowledge(
        frame,
        tmp_path / "f.parquet",
        user="user",
        time="time",
        item="item",
        knowledge=ol.Knowledge(publish(MIDNIGHT)),
        dataset=dataset,
        model=model_dir,
        progress=False,
    )
    assert figures["rows"] == 40
    first, second = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("c", "f"))
    assert first.column_names[:5] == ["user", "item", "time", "rating", "scenario"]
    assert first.equals(second.cast(first.schema))
    frame.loc[3, "user"] = None
    with pytest.raises(InputError, match=r"^frame 'log': row 4"):
        ol.join_knowledge(frame, tmp_path / "f.parquet", user="user", time="time", knowledge=publish(MIDNIGHT))
