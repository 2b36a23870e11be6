"""The users and the time of knowledge per user, in every form that callers give."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openlum.errors import InputError
from openlum.query.user_ids import as_of_second, read_user_ids, utc_text

IDS = ["7", "007", "u x"]
FIRST, LAST = 1_000, 1_800_000_000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.txt", "7\n007\n\n u x\n7\n"),
        ("ids.csv", 'city,user\nBonn,7\n"a, b",007\nUlm,u x\n'),
        ("ids.tsv", "user\tcity\n7\tBonn\n007\tUlm\nu x\tUlm\n"),
        ("one.csv", "user\n7\n007\nu x\n"),
        ("mark.csv", "\ufeffuser;city\n7;a\n007;b\nu x;c\n"),
    ],
)
def test_a_text_file_has_ids(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_user_ids(tmp_path / name) == read_user_ids(str(tmp_path / name)) == IDS


def test_a_parquet_file_a_frame_and_a_list_have_ids(tmp_path: Path) -> None:
    table = pa.table({"user": IDS, "city": ["a", "b", "c"]})
    pq.write_table(table, tmp_path / "ids.parquet")
    for users in (tmp_path / "ids.parquet", table, table.to_pandas(), IDS, np.array(IDS), pd.Series(IDS), tuple(IDS)):
        assert read_user_ids(users) == IDS
    assert read_user_ids([7, 7.0, "7", 8]) == ["7", "8"]
    assert read_user_ids("all") is None


@pytest.mark.parametrize(
    ("users", "message"),
    [
        (["a", None], "users: element 1 is None"),
        ([["a"]], "users: element 0 is"),
        ([], "users: there is no id"),
        (5, "users: expected 'all', a file"),
        (pa.table({"id": ["a"]}), "users: no column 'user'; the columns are id"),
        ("none.txt", "none.txt: cannot be read"),
    ],
)
def test_mistakes_of_users_are_explained(users: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_user_ids(users)


def test_a_file_without_the_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("id,city\n7,Bonn\n")
    with pytest.raises(InputError, match=r"ids.csv: no column 'user'; the columns are id, city"):
        read_user_ids(tmp_path / "ids.csv")


@pytest.mark.parametrize(
    "as_of",
    [
        "2026-01-03",
        "2026-01-03T00:00:00",
        "2026-01-03T01:00:00+01:00",
        "1767398400",
        "1767398400.7",
        1_767_398_400,
        1_767_398_400.5,
        date(2026, 1, 3),
        datetime(2026, 1, 3),
        datetime(2026, 1, 3, tzinfo=UTC),
        np.datetime64("2026-01-03"),
        pd.Timestamp("2026-01-03"),
    ],
)
def test_one_time_in_all_its_forms(as_of: Any) -> None:
    assert as_of_second(as_of, FIRST, LAST) == 1_767_398_400


def test_now_is_after_the_last_event() -> None:
    assert as_of_second("now", FIRST, LAST) == LAST + 1
    assert utc_text(LAST) == "2027-01-15T08:00:00Z"


@pytest.mark.parametrize(
    ("as_of", "message"),
    [
        ("yesterday", "as_of: 'yesterday' is not a date; .*; or 'now', or seconds since 1970"),
        ("1767398400000", "divide milliseconds by 1000"),
        (None, "as_of: 'time' is None"),
        (1_000, "as_of: 1000 .* is 1970-01-01T00:16:40Z, and no event lies before it; the first event is at 1970"),
    ],
)
def test_mistakes_of_the_time_are_explained(as_of: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_of_second(as_of, FIRST, LAST)
