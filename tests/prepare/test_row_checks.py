"""Checks of dirty logs: every row is either accepted or stored as rejected, and damaged files are named in the error."""

import errno
import gzip
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openlum.cli import app
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.prepare.engines.duckdb import DuckDBEngine
from openlum.prepare.run import append, check, prepare
from tests.prepare.logs import START, random_events, write_log

NAN = float("nan")
CONDITION = {
    "scenario": {},
    "price": {"type": "numeric", "minimum": 0, "maximum": 50},
    "content": {"type": "vector", "width": 2},
    "seen": {"type": "time"},
}
SCHEMA: dict[str, Any] = {
    "events": {"path": "log", "user": "user", "item": "item", "time": "time", "condition": CONDITION},
    "items": {"path": "items.parquet", "id": "id"},
    "earliest": "2020-01-01",
    "latest": "2021-01-01",
    "max_user_events": 6,
}
GOOD = [(f"u{n}", "a", str(START + n), "home", 1.0, [0.0, 1.0], "2020-05-05") for n in range(4)]

row = st.tuples(
    st.sampled_from(["u0", "u1", "robot", None, ""]),
    st.sampled_from(["a", "b", "unheard of", None]),
    st.sampled_from([str(START), str(START + 1), "2020-09-13T12:00:00", "soon", "-5", "99999999999", "nan", None]),
    st.sampled_from(["home", None]),
    st.sampled_from([1.0, 50.0, 51.0, -1.0, NAN, float("inf"), None]),
    st.sampled_from([[0.0, 1.0], [0.0], [0.0, NAN], None]),
    st.sampled_from(["2020-05-05", "yesterday", None]),
)
NAMES = ("user", "item", "time", "scenario", "price", "content", "seen")


def write_files(directory: Path, files: list[list[tuple[Any, ...]]], **changes: Any) -> Path:
    """Write a log in several files, an item table and the schema."""
    schema = write_log(directory, {"items": {"id": ["a", "b"]}}, **SCHEMA | changes)
    (directory / "log").mkdir(exist_ok=True)
    types = [pa.string()] * 4 + [pa.float64(), pa.list_(pa.float64()), pa.string()]
    for number, rows in enumerate(files):
        columns = list(zip(*rows, strict=True)) or [()] * len(NAMES)
        arrays = [pa.array(column, of, from_pandas=False) for column, of in zip(columns, types, strict=True)]
        pq.write_table(pa.table(dict(zip(NAMES, arrays, strict=True))), directory / "log" / f"{number}.parquet")
    return schema


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(st.lists(row, max_size=25), min_size=1, max_size=3))
def test_accepted_and_rejected_rows_add_up_to_the_input(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[tuple[Any, ...]]]
) -> None:
    directory = tmp_path_factory.mktemp("dirty")
    files[0] = files[0] + GOOD
    info = prepare(write_files(directory, files), directory / "dataset")
    total = sum(map(len, files))
    rejected = sum(number for reason, number in info.rejected.items() if reason.startswith("events: "))
    assert info.counts["events_in"] == total
    assert info.counts["events_rejected"] == rejected
    assert info.counts["events"] + rejected == total
    assert len(Dataset(directory / "dataset").sequences.item) == info.counts["events"]
    if rejected:
        stored = pq.read_table(directory / "dataset" / "rejected" / "events.parquet").to_pylist()
        assert len({(row["file"], row["row_number"]) for row in stored}) == len(stored) == rejected
        for row in stored:
            original = files[int(Path(row["file"]).stem)][row["row_number"] - 1]
            assert str([row[name] for name in NAMES if name in row]) == str(list(original[:3]))[:-1] + "]" or (
                [row["user"], row["item"], row["time"]] == list(original[:3])
            )


def test_each_fault_has_its_reason(tmp_path: Path) -> None:
    user, item, time, scenario, price, content, seen = GOOD[0]
    faults = {
        "no user": (None, item, time, scenario, price, content, seen),
        "no item": (user, "", time, scenario, price, content, seen),
        "no time": (user, item, None, scenario, price, content, seen),
        "time: not a timestamp, or a number of the schema's 'time_unit' since 1970": (
            user,
            item,
            "soon",
            scenario,
            price,
            content,
            seen,
        ),
        "before 2020-01-01": (user, item, "-5", scenario, price, content, seen),
        "after 2021-01-01": (user, item, "2021-01-02", scenario, price, content, seen),
        "price: not a finite number": (user, item, time, scenario, NAN, content, seen),
        "price: less than 0": (user, item, time, scenario, -0.5, content, seen),
        "price: more than 50": (user, item, time, scenario, 50.5, content, seen),
        "content: not a list of 2 finite numbers": (user, item, time, scenario, price, [1.0], seen),
        "seen: not a timestamp": (user, item, time, scenario, price, content, "yesterday"),
        "item not in the item table": (user, "unheard of", time, scenario, price, content, seen),
        "duplicate": GOOD[2],
    }
    robot = [("robot", item, str(START + n), scenario, price, content, seen) for n in range(7)]
    info = prepare(write_files(tmp_path, [GOOD, [*faults.values(), *robot]]), tmp_path / "dataset")
    expected = {f"events: {reason}": 1 for reason in faults} | {"events: user with more than 6 events": 7}
    assert info.rejected == expected
    assert info.counts["events"] == len(GOOD)
    stored = pq.read_table(tmp_path / "dataset" / "rejected" / "events.parquet").to_pylist()
    assert [(Path(row["file"]).name, row["row_number"]) for row in stored] == [("1.parquet", n) for n in range(1, 21)]
    assert [row["reason"] for row in stored[:13]] == list(faults)


def test_too_many_rejected_rows_raise_an_error_with_the_top_reasons(tmp_path: Path) -> None:
    bad = [(None, "a", str(START), "home", 1.0, None, None)] * 2 + [("u", "a", "soon", "home", 1.0, None, None)] * 3
    schema = write_files(tmp_path, [GOOD * 25, bad], max_rejected="4.7%", items=None)
    with pytest.raises(InputError) as error:
        prepare(schema, tmp_path / "dataset")
    assert "5 of 105 rows cannot be used, more than 'max_rejected' (0.047 of the rows) allows" in str(error.value)
    assert "(3, first in " in str(error.value)
    assert "1.parquet: row 3: 'soon'); no user (2, first in " in str(error.value)
    assert not (tmp_path / "dataset").exists()


def test_duplicates_count_towards_max_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"4 of 8 rows cannot be used.*duplicate"):
        prepare(write_files(tmp_path, [GOOD, GOOD], max_rejected=0.49), tmp_path / "dataset")
    assert prepare(write_files(tmp_path, [GOOD, GOOD], max_rejected=0.5), tmp_path / "dataset").counts["events"] == 4


def test_check_returns_the_counts_and_writes_nothing(tmp_path: Path) -> None:
    schema = write_files(tmp_path, [[*GOOD, ("u", None, str(START), None, None, None, None)]])
    before = sorted(tmp_path.rglob("*"))
    info = check(schema)
    assert (info.counts["events"], info.rejected) == (4, {"events: no item": 1})
    assert sorted(tmp_path.rglob("*")) == before


def damage(directory: Path, case: str) -> str:
    """Damage a log of several files; return the name of the damaged file."""
    log = directory / "log"
    second = log / "1.parquet"
    content = second.read_bytes()
    header = ",".join(NAMES)
    match case:
        case "cut":
            second.write_bytes(content[: len(content) // 2])
        case "garbage in the middle":
            second.write_bytes(content[:30] + b"\xff" * 300 + content[330:])
        case "other type":
            table = pq.read_table(second)
            pq.write_table(table.set_column(2, "time", pa.array(range(len(table)))), second)
        case "column missing":
            pq.write_table(pq.read_table(second).drop_columns("price"), second)
        case "latin-1":
            (log / "2.csv").write_bytes(f"{header}\n".encode() + "u,é,5,home,1,0|1,\n".encode("latin-1"))
            return "2.csv"
        case "truncated gzip":
            (log / "2.csv.gz").write_bytes(gzip.compress((header + "\n" + "u,a,5,home,1,0|1,\n" * 5000).encode())[:-20])
            return "2.csv.gz"
    return "1.parquet"


CASES = {
    "cut": "cannot be read",
    "garbage in the middle": "cannot be read",
    "other type": r"column 'time' is int64, but string in .*0\.parquet",
    "column missing": "no column 'price'",
    "latin-1": "is not UTF-8",
    "truncated gzip": "cannot be read",
}


@pytest.mark.parametrize("case", CASES)
def test_damaged_file_is_named(tmp_path: Path, case: str) -> None:
    schema = write_files(tmp_path, [GOOD, GOOD * 60], max_rejected=1)
    if "csv" in (name := damage(tmp_path, case)):
        for file in (tmp_path / "log").glob("*.parquet"):
            file.unlink()
    with pytest.raises(InputError, match=rf"{name}: .*{CASES[case]}"):
        prepare(schema, tmp_path / "dataset")
    assert not list(tmp_path.glob(".dataset*"))


def test_malformed_lines_are_rejected_and_the_other_rows_are_kept(tmp_path: Path) -> None:
    events = random_events(5, 60)
    rows = [",".join(map(str, row)) for row in zip(*events.values(), strict=True)]
    rows[10:10], rows[30:30] = ["u1,i1,5"], ['u1,"i1,5,6,7']
    schema = write_log(tmp_path, {}, events={**yaml_events(), "path": "events.csv"}, max_rejected=0.1)
    (tmp_path / "events.csv").write_text("\r".join([",".join(events), *rows]))
    info = prepare(schema, tmp_path / "dataset")
    assert (info.counts["events_in"], info.counts["events"]) == (len(rows), len(rows) - 2)
    assert info.rejected == {
        "events: malformed line: 3 fields instead of 5": 1,
        "events: malformed line: a quote that is not closed": 1,
    }
    stored = pq.read_table(tmp_path / "dataset" / "rejected" / "events.parquet")
    assert stored.select(["row_number", "line_number", "line"]).to_pylist() == [
        {"row_number": place + 1, "line_number": place + 2, "line": rows[place]} for place in (10, 30)
    ]
    write_log(tmp_path, {}, events={**yaml_events(), "path": "events.csv"}, max_rejected=0.01)
    with pytest.raises(InputError, match=r"3 fields instead of 5 \(1, first in .*events.csv: line 12: 'u1,i1,5'\)"):
        check(schema)


def test_partitioned_tables_are_prepared_and_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    events = random_events(6)
    for half, day in enumerate(("2026-01-01", "2026-01-02")):
        directory = tmp_path / "log" / f"dt={day}"
        directory.mkdir(parents=True)
        pq.write_table(pa.table({k: v[half::3] for k, v in events.items()}), directory / "part[0].parquet")
    (tmp_path / "log" / "_delta_log").mkdir()
    pq.write_table(pa.table(events), tmp_path / "log" / "_delta_log" / "0.parquet")
    for name, kind in (("new", "a"), ("old", "b")):
        items = sorted(set(events["item"]))[:: 1 if name == "new" else -1][: 12 if name == "new" else 8]
        (tmp_path / "items" / f"kind={kind}").mkdir(parents=True)
        pq.write_table(pa.table({"id": items}), tmp_path / "items" / f"kind={kind}" / "0.parquet")
    condition = yaml_events()["condition"] | {"dt": {}}
    write_log(
        tmp_path,
        {},
        events={**yaml_events(), "path": "log", "condition": condition},
        items={"path": "items", "id": "id", "features": {"kind": {}}, "complete": False},
    )
    info = prepare(Path("schema.yaml"), Path("dataset"))
    total = len(events["user"][0::3]) + len(events["user"][1::3])
    assert (info.counts["events_in"], info.counts["events"]) == (total, total)
    assert info.counts["items_table"] == len(set(events["item"]))
    assert info.profile.conditions["dt"].distinct == 2
    kinds = pq.read_table("dataset/items.parquet")
    assert sorted(kinds["item.kind"].to_pylist()) == [0] + [1] * 12 + [2] * (len(kinds) - 13)
    (tmp_path / "log" / "dt=2026-01-03").mkdir()
    pq.write_table(pa.table({k: v[2::3] for k, v in events.items()}), tmp_path / "log" / "dt=2026-01-03" / "0.parquet")
    added = append(Path("dataset"), Path("log/dt=2026-01-03"))
    assert added.counts["events"] == len(events["user"])
    assert added.profile.conditions["dt"].distinct == 3


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (duckdb.IOException("IO Error: Could not write file: No space left on device"), "dataset: no space left"),
        (OSError(errno.ENOSPC, "No space left on device"), "dataset: no space left.*'engine.scratch'"),
        (duckdb.OutOfMemoryException("Out of Memory Error: failed"), "memory ran out.*'engine.memory'"),
        (pa.ArrowMemoryError("malloc of size 64 failed"), "memory ran out"),
    ],
)
def test_a_full_disk_or_memory_is_not_blamed_on_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(DuckDBEngine, "materialize", fail)
    schema = write_log(tmp_path, {"events": random_events(6)})
    with pytest.raises(InputError, match=message) as raised:
        prepare(schema, tmp_path / "dataset")
    assert "events.parquet" not in str(raised.value)


def test_a_file_that_only_the_engine_cannot_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = DuckDBEngine.scan

    def odd(self: DuckDBEngine, name: str, files: list[str], columns: list[str]) -> Any:
        if any(file.endswith("1.parquet") for file in files):
            raise duckdb.InvalidInputException("Payload value bigger than allowed")
        return scan(self, name, files, columns)

    monkeypatch.setattr(DuckDBEngine, "scan", odd)
    schema = write_files(tmp_path, [GOOD, GOOD])
    with pytest.raises(InputError, match=r"1\.parquet: cannot be read \(Payload"):
        prepare(schema, tmp_path / "dataset")


@pytest.mark.parametrize("path", ["log", "log/*.parquet", "log/[01].parquet"])
def test_directories_and_patterns_are_read_in_the_order_of_names(tmp_path: Path, path: str) -> None:
    events = random_events(5)
    halves = [{name: column[part] for name, column in events.items()} for part in (slice(None, 90), slice(90, None))]
    whole = prepare(write_log(tmp_path / "a", {"events": events}), tmp_path / "one")
    schema = write_log(tmp_path / "b", {}, events={**yaml_events(), "path": path})
    (tmp_path / "b" / "log").mkdir()
    for number, half in enumerate(halves):
        pq.write_table(pa.table(half), tmp_path / "b" / "log" / f"{number}.parquet")
    (tmp_path / "b" / "log" / "_SUCCESS").touch()
    info = prepare(schema, tmp_path / "two")
    assert info.counts == whole.counts
    assert Dataset(tmp_path / "two").sequences.item.tolist() == Dataset(tmp_path / "one").sequences.item.tolist()


def yaml_events() -> dict[str, Any]:
    return {"user": "user", "item": "item", "time": "time", "condition": {"rating": {"feedback": True}, "scenario": {}}}


def test_command_line_of_prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["prepare", *arguments])

    schema = str(write_log(tmp_path, {"events": random_events(6)}))
    assert "nothing was written" in run(schema, "--check").output
    assert "report.html" in run(schema, "--out", str(tmp_path / "dataset")).output
    write_log(tmp_path / "new", {"events": random_events(7)})
    added = run("--append", str(tmp_path / "new" / "events.parquet"), "--out", str(tmp_path / "dataset"))
    assert added.exit_code == 0
    assert Dataset(tmp_path / "dataset").info.preparations == 2
    for wrong in (
        [schema],
        ["--append", schema],
        [schema, "--check", "--out", "x"],
        [schema, "--out", "x", "--items", "y"],
    ):
        assert isinstance(run(*wrong).exception, InputError), wrong
