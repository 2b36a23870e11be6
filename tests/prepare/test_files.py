"""Files of a table are read together if no value changes, and every row of every file is read, whatever its path."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openlum.errors import InputError
from openlum.prepare.conversion import Column, Kind
from openlum.prepare.engines.engine import FILE_NUMBER, ROW_NUMBER, Engine
from openlum.prepare.engines.opening import open_engine
from openlum.prepare.inputs.csv_rows import LINE_NUMBER
from openlum.prepare.inputs.files import find_table_files
from openlum.prepare.inputs.raw_table import POSITION, raw_table
from openlum.prepare.row_checks import RowChecker
from openlum.schema import EngineSettings, Schema

BIG = 2**53 + 1
STRANGE = ["a[1]", "b*", "b?", "c d", "d'e", 'f"g', "g%20h", "h#i", "ü", "{i,j}", "k:l", "~m", "n\\o", "+", "dt=1&2"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with open_engine(EngineSettings(), tmp_path_factory.mktemp("it's [scratch]")) as opened:
        yield opened


def write(directory: Path, files: dict[str, dict[str, Any]]) -> None:
    for name, columns in files.items():
        path = directory / "log" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)


def rows(engine: Engine, directory: Path, **kinds: Kind) -> list[dict[str, Any]]:
    """Return the rows of `log` in their order, with columns of these kinds."""
    columns = [Column(name, name, kind) for name, kind in kinds.items()]
    files = find_table_files(directory, "log", list(kinds), directory / "scratch")
    found = engine.fetch_rows(raw_table(engine, "t", files, columns, earlier_rows=100))
    assert sorted(row[POSITION] for row in found) == list(range(100, 100 + files.rows))
    names = [Path(file.path).name for file in files.files]
    return [row | {"file": names[row[FILE_NUMBER]]} for row in sorted(found, key=lambda row: row[POSITION])]


def test_rows_of_files_with_any_name_are_numbered(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {name: {"user": [name] * (number + 1)} for number, name in enumerate(STRANGE)})
    monkeypatch.chdir(tmp_path)
    found = rows(engine, Path(), user="identity")
    expected = [(name, row + 1) for name in sorted(STRANGE) for row in range(STRANGE.index(name) + 1)]
    assert [(row["user"], row[ROW_NUMBER]) for row in found] == expected
    assert all(row["file"] == f"{row['user']}.parquet" for row in found)


def test_a_path_with_a_pattern_character_and_a_backslash_is_refused(engine: Engine, tmp_path: Path) -> None:
    write(tmp_path, {"a\\b*": {"user": [1]}})
    with pytest.raises(InputError, match="rename it"):
        rows(engine, tmp_path, user="identity")


def write_compatible_types(directory: Path) -> None:
    """Write files that differ in the types of id, x, t and tags, but not in the meaning of the values."""
    moment = 1_700_000_000_123_456
    files: dict[str, dict[str, Any]] = {
        "a=1/0": {"id": pa.array([1, BIG]), "x": pa.array([1, 2]), "t": pa.array([moment] * 2, pa.timestamp("us"))},
        "a=1/_b=1/1[*]": {
            "id": pa.array([3], pa.int32()),
            "x": pa.array([2.5]),
            "t": pa.array([moment * 1000], pa.timestamp("ns")),
        },
        "a=2/2:2": {"id": pa.array([4.0, None]), "x": pa.array([3, 4], pa.int8()), "t": pa.nulls(2)},
        "a=__HIVE_DEFAULT_PARTITION__/3": {
            "id": pa.nulls(1),
            "x": pa.nulls(1, pa.string()),
            "t": pa.nulls(1, pa.float64()),
        },
        "4": {"other": pa.array([], pa.string())},
    }
    lists = [[["a"], []], pa.nulls(1, pa.list_(pa.null())), pa.array([[], []], pa.list_(pa.null())), pa.nulls(1)]
    for file, values in zip(files.values(), lists, strict=False):
        file["tags"] = values
    write(directory, files)


def test_types_of_files_are_combined_if_no_value_changes(engine: Engine, tmp_path: Path) -> None:
    write_compatible_types(tmp_path)
    found = rows(engine, tmp_path, id="identity", x="numeric", t="row_time", tags="multi")
    assert [row["id"] for row in found] == [1, BIG, 3, 4, None, None]
    assert all(isinstance(row["id"], int) for row in found if row["id"] is not None)
    assert [row["x"] for row in found] == [1, 2, 2.5, 3, 4, None]
    assert len({row["t"] for row in found if row["t"]}) == 1
    assert [row["tags"] for row in found] == [["a"], [], None, [], [], None]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([1]), pa.array(["1"])),
        (pa.array([BIG]), pa.array([0.5])),
        (pa.array([BIG]), pa.array([float(2**53)])),
        (pa.array([1]), pa.array([1.5], pa.float32())),
        (pa.array([0.1]), pa.array([0.1], pa.float32())),
        (pa.array([-1]), pa.array([2**63], pa.uint64())),
        (pa.array([1], pa.timestamp("us")), pa.array([1], pa.timestamp("us", "UTC"))),
        (pa.array([1], pa.timestamp("us")), pa.array([1], pa.timestamp("ns"))),
        (pa.array([True]), pa.array([1])),
        (pa.array([[1]]), pa.array([["1"]])),
        (pa.array([[1]]), pa.array([1])),
    ],
)
def test_types_that_would_change_a_value_are_refused(tmp_path: Path, one: pa.Array, other: pa.Array) -> None:
    write(tmp_path, {"0": {"x": one}, "1": {"x": other}})
    with pytest.raises(InputError, match=r"1\.parquet: column 'x' is .*, but .* in .*0\.parquet"):
        find_table_files(tmp_path, "log", ["x"], tmp_path)


def test_a_column_without_any_value_has_the_type_of_its_kind(engine: Engine, tmp_path: Path) -> None:
    kinds: dict[str, Kind] = {
        "a": "multi",
        "b": "vector",
        "c": "time",
        "d": "numeric",
        "e": "categorical",
        "f": "row_time",
    }
    write(tmp_path, {"0": {name: pa.nulls(2) for name in [*kinds, "user"]} | {"user": [1, 2]}})
    found = rows(engine, tmp_path, user="identity", **kinds)
    assert [row["user"] for row in found] == [1, 2]
    assert all(row[name] is None for row in found for name in kinds)


def test_directories_become_text_columns_and_malformed_lines_become_rows(engine: Engine, tmp_path: Path) -> None:
    files = {
        "year=2026/city=S%C3%A3o%20Tom%C3%A9/a": "user,x\n1,2\n",
        "year=2026/city=__HIVE_DEFAULT_PARTITION__/b": 'user,x\n1,2\nbroken\n"3\n",4\n',
        "year=2025/city=fr/c": "user,x,city\n4,5,in the file\n",
    }
    for name, text in files.items():
        file = tmp_path / "log" / f"{name}.csv"
        file.parent.mkdir(parents=True)
        file.write_text(text)
    found = rows(engine, tmp_path, user="identity", city="categorical", year="numeric")
    assert [(row["user"], row["city"], row["year"], row[ROW_NUMBER], row[LINE_NUMBER]) for row in found] == [
        ("4", "in the file", "2025", 1, None),
        ("1", "São Tomé", "2026", 1, None),
        ("1", None, "2026", 1, None),
        (None, None, "2026", 2, 3),
        ("3\n", None, "2026", 3, None),
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["user", "x", "user"], "column 'user' occurs 2 times"),
        (["user", "x", "User"], "'user' and 'User' differ only in case"),
        (["user", "x", "file_index"], "'file_index': this name is reserved"),
        (["x"], "no column 'user'"),
    ],
)
def test_an_ambiguous_or_missing_column_is_named_with_its_file(tmp_path: Path, names: list[str], message: str) -> None:
    write(tmp_path, {"0": {"user": [1]}})
    pq.write_table(pa.Table.from_arrays([pa.array([1])] * len(names), names=names), tmp_path / "log" / "1.parquet")
    with pytest.raises(InputError, match=rf"1\.parquet: .*{message}"):
        find_table_files(tmp_path, "log", ["user"], tmp_path, reserved=["file_index"])


def test_columns_that_are_not_read_may_repeat_or_differ(engine: Engine, tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([n]) for n in range(4)], names=["x", "x", "user", "X"])
    write(tmp_path, {"0": {"user": [7], "x": ["text"]}, "2": {"user": [8]}})
    pq.write_table(table, tmp_path / "log" / "1.parquet")
    assert [row["user"] for row in rows(engine, tmp_path, user="identity")] == [7, 2, 8]


def test_a_file_that_changes_while_it_is_read_is_a_mistake_of_the_user(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"0": {"user": [1, 2]}, "1": {"user": [3]}})
    schema = Schema.model_validate(
        {"name": "t", "events": {"path": "log", "user": "user", "item": "user", "time": "user"}}
    )
    scan = engine.scan
    monkeypatch.setattr(engine, "scan", lambda *arguments: scan(*arguments).filter(scan(*arguments)[ROW_NUMBER] == 1))
    checker = RowChecker(engine, schema, tmp_path, tmp_path, [], {})
    with pytest.raises(
        InputError, match=r"events: 2 rows were read, but the files have 3 rows; .* run the command again"
    ):
        checker.check_table("events", "log", [Column("user", "user", "identity")])
