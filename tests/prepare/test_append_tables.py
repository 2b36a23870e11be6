"""Each table of a dataset can be appended alone, and the counts include tables without any usable row."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from openlum.cli import app
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.prepare.run import append, prepare
from tests.prepare.logs import random_events, write_log
from tests.prepare.test_unlabelled import SHOWN, check_counts, impressions_of

ITEMS = {"path": "items.parquet", "id": "id", "complete": False, "features": {"price": {"type": "numeric"}, "kind": {}}}
USERS = {"path": "users.parquet", "id": "id", "features": {"city": {}}}


def tables() -> dict[str, dict[str, list[Any]]]:
    """Return a log of all four tables; every impression in it is rejected."""
    events = random_events(0)
    items, users = sorted(set(events["item"])), sorted(set(events["user"]))
    return {
        "events": events,
        "shown": impressions_of(events, [2] * 10),
        "items": {"id": items, "price": [float(n) for n in range(len(items))], "kind": ["a"] * len(items)},
        "users": {"id": users, "city": ["c"] * len(users)},
    }


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the dataset of `tables`; tests work on copies."""
    directory = tmp_path_factory.mktemp("tables")
    check_counts(
        prepare(write_log(directory, tables(), impressions=SHOWN, items=ITEMS, users=USERS), directory / "dataset")
    )
    return directory / "dataset"


@pytest.fixture
def dataset(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "dataset"))


def test_items_and_users_are_appended_alone(dataset: Path, tmp_path: Path) -> None:
    events, one = Dataset(dataset).sequences, tables()["items"]["id"][0]
    items = {"id": [one, "new", "odd"], "price": [100.0, 1.0, float("nan")], "kind": ["b", "late", "a"]}
    users = {"id": [tables()["users"]["id"][0], "new"], "city": ["d", "late"]}
    write_log(tmp_path, {"items": items, "users": users})
    check_counts(append(dataset, items=tmp_path / "items.parquet"))
    info = check_counts(append(dataset, users=tmp_path / "users.parquet"))
    assert info.preparations == 3
    assert info.counts["items_table_rejected"] == 1
    for name in ("items_table", "users_table"):  # a later append forgets no note of an earlier one
        assert info.notes[f"{name}: rows replaced by a later row of the same id"] == 1
    after = Dataset(dataset)
    for column in ("user", "offsets", "time", "item"):
        np.testing.assert_array_equal(getattr(after.sequences, column), getattr(events, column))
    assert after.vocabulary("items").values[-1] == after.vocabulary("users").values[-1] == "new"
    assert after.vocabulary("item.kind").values == ["a", "b"]
    assert after.vocabulary("user.city").values == ["c", "d"]


def test_the_command_line_can_append_impressions_alone(dataset: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["prepare", *arguments])

    schema = str(write_log(tmp_path / "new", {"shown": impressions_of(tables()["events"], [None] * 20)}))
    new = str(tmp_path / "new" / "shown.parquet")
    done = run("--out", str(dataset), "--impressions", new)
    assert done.exit_code == 0
    assert check_counts(Dataset(dataset).info).counts["impressions_in"] == 30
    assert "20 unlabelled" in done.output
    assert Dataset(dataset).info.counts["impressions_unlabelled"] == 20
    for wrong in (
        ["--impressions", new],
        ["--impressions", new, "--check"],
        ["--items", new, schema, "--out", str(dataset)],
        ["--users", new, "--check", "--out", str(dataset)],
        ["--out", str(dataset)],
        ["--check"],
        [],
    ):
        assert isinstance(run(*wrong).exception, InputError), wrong
    with pytest.raises(InputError, match="nothing to append; name new files of events, impressions, items or users"):
        append(dataset)


def test_the_rows_of_tables_without_usable_rows_are_counted(tmp_path: Path) -> None:
    written: dict[str, Any] = tables()
    written["items"]["price"] = [float("nan")] * len(written["items"]["id"])
    written["users"]["id"] = pa.array([None] * len(written["users"]["id"]), pa.string())
    schema = write_log(tmp_path, written, impressions=SHOWN, items=ITEMS, users=USERS)
    info = check_counts(prepare(schema, tmp_path / "dataset"))
    assert info.counts["events"] == len(written["events"]["user"])
    for table in ("items_table", "users_table", "impressions"):
        assert (info.counts[table], info.counts[f"{table}_in"] > 0) == (0, True)
    written["events"]["time"] = pa.array([None] * len(written["events"]["user"]), pa.int64())
    write_log(tmp_path, written)
    schema = write_log(tmp_path, {}, impressions=SHOWN, items=ITEMS, users=USERS)
    with pytest.raises(InputError, match=r"0 usable events of .*no time"):
        prepare(schema, tmp_path / "dataset")


@pytest.mark.parametrize("table", ["shown", "items", "users"])
def test_a_table_without_rows_is_named(tmp_path: Path, table: str) -> None:
    written = tables() | {table: {name: column[:0] for name, column in tables()[table].items()}}
    schema = write_log(tmp_path, written, impressions=SHOWN, items=ITEMS, users=USERS)
    with pytest.raises(InputError, match=rf"{table}\.parquet: has no rows; expected at least one row"):
        prepare(schema, tmp_path / "dataset")


def test_a_wrong_path_of_a_new_file_is_an_error_that_does_not_name_the_schema(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nope\.parquet: no such file; check the path of the new items$"):
        append(dataset, items=tmp_path / "nope.parquet")
