"""Times in the spellings of people and programs: the engine and Python read them alike."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openlum.errors import InputError
from openlum.prepare.engines.opening import open_engine
from openlum.prepare.run import check, prepare
from openlum.prepare.time_expression import parse_compact, parse_time, spellings, time_of_number, time_of_text
from openlum.schema import EngineSettings, Schema

FORMATS = [
    ("%Y-%m-%d %H:%M:%S", None),
    ("%Y/%m/%d", None),
    ("%Y.%m.%d %H:%M", None),
    ("%d-%b-%Y", None),
    ("%d %B %Y %H:%M:%S", None),
    ("%B %d, %Y", None),
    ("%b %d %Y %I:%M:%S %p", None),
    ("%a, %d %b %Y %H:%M:%S GMT", None),
    ("%a %b %d %H:%M:%S +0000 %Y", None),
    ("%d/%b/%Y:%H:%M:%S +0000", None),
    ("%d.%m.%Y %H:%M", "dmy"),
    ("%d/%m/%Y", "dmy"),
    ("%m/%d/%Y %I:%M:%S %p", "mdy"),
    ("%m-%d-%Y", "mdy"),
]
"""Formats of `strftime`, each with the order that the schema must declare."""


def read_by_engine(texts: list[str], date_order: Any, tmp: Path, compact: bool = False) -> list[float | None]:
    """Return the seconds since 1970 that the engine reads."""
    with open_engine(EngineSettings(), tmp) as engine:
        column = engine.materialize("texts", ibis.memtable(pa.table({"n": range(len(texts)), "text": texts})))
        time = time_of_number(column["text"]) if compact else time_of_text(column["text"], spellings(date_order))
        rows = engine.fetch_rows(column.select("n", time=time).order_by("n"))
    return [None if row["time"] is None else row["time"] / 1e6 for row in rows]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.datetimes(datetime(1900, 1, 1), datetime(2099, 12, 31)), min_size=5, max_size=5))
def test_every_spelling_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, moments: list[datetime]
) -> None:
    for date_order in (None, "dmy", "mdy"):
        formats = [text for text, order in FORMATS if order in (None, date_order)]
        texts = [moment.strftime(text) for text in formats for moment in moments]
        expected = [
            datetime.strptime(moment.strftime(text), text).replace(tzinfo=UTC).timestamp()
            for text in formats
            for moment in moments
        ]
        assert [parse_time(text, date_order) for text in texts] == expected
        assert read_by_engine(texts, date_order, tmp_path_factory.mktemp("e")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2012-04-03 18:00:09 +0530", datetime(2012, 4, 3, 12, 30, 9)),
        ("Tue Apr 03 18:00:09 -0100 2012", datetime(2012, 4, 3, 19, 0, 9)),
        ("3-apr-2012 12:05 a.m.", datetime(2012, 4, 3, 0, 5)),
        (" 3 SEPT 2012 ", datetime(2012, 9, 3)),
        ("1/2/2012", None),
        ("31.02.2012", None),
        ("2012-02-30", None),
        ("13 Foo 2012", None),
        ("3 Apr 12", None),
        ("3 Apr 2012 13:00 PM", None),
        ("", None),
        ("7", None),
    ],
)
def test_other_times_and_no_times(tmp_path: Path, text: str, expected: datetime | None) -> None:
    seconds = expected.replace(tzinfo=UTC).timestamp() if expected else None
    assert parse_time(text, None) == seconds
    assert read_by_engine([text], None, tmp_path) == [seconds]


def test_dates_of_digits_are_read(tmp_path: Path) -> None:
    texts = ["20220425", "202204251730", "20220425173005", "20221325", "2022", "20220425.5"]
    expected = [parse_compact(text) for text in texts]
    start = datetime(2022, 4, 25, tzinfo=UTC)
    assert expected[:3] == [(start + timedelta(seconds=s)).timestamp() for s in (0, 63_000, 63_005)]
    assert expected[3:] == [None] * 3
    assert read_by_engine(texts, None, tmp_path, compact=True) == expected


def log(directory: Path, times: Any, **events: Any) -> Schema:
    """Write a log of twelve events and return its schema."""
    table = {"user": [0, 1, 2] * 4, "item": list(range(12)), "time": times}
    pq.write_table(pa.table(table | events.pop("columns", {})), directory / "log.parquet")
    events = {"path": str(directory / "log.parquet"), "user": "user", "item": "item", "time": "time"} | events
    return Schema.model_validate({"name": "x", "events": events})


@pytest.mark.parametrize(
    ("times", "keys"),
    [
        ([20220401 + n for n in range(12)], {"time_unit": "yyyymmdd"}),
        ([20220401.0 + n for n in range(12)], {"time_unit": "yyyymmdd"}),
        ([f"{n + 1:02}.04.2022" for n in range(12)], {"date_order": "dmy"}),
        ([f"04/{n + 1:02}/2022" for n in range(12)], {"date_order": "mdy"}),
        ([f"{n + 1:02}-Apr-2022" for n in range(12)], {}),
        ([(1_648_771_200 + 86_400 * n) * 10**9 for n in range(12)], {"time_unit": "ns"}),
        ([f"2022-04-{n + 1:02}" if n % 2 else f"April {n + 1}, 2022" for n in range(12)], {}),
    ],
)
def test_a_log_has_the_same_times_in_every_spelling(tmp_path: Path, times: Any, keys: dict[str, str]) -> None:
    info = prepare(log(tmp_path, times, **keys), tmp_path / "dataset")
    assert info.counts["events"] == 12
    written = pq.read_table(tmp_path / "dataset" / "log" / "events")["time"].to_pylist()
    assert sorted(written) == [(1_648_771_200 + 86_400 * n) * 10**6 for n in range(12)]


def test_a_time_feature_of_numbers_needs_its_unit(tmp_path: Path) -> None:
    times = [f"2022-04-{n + 1:02}" for n in range(12)]
    columns = {"released": [20200101 + n for n in range(12)]}
    feature = {"type": "time", "time_unit": "yyyymmdd"}
    info = prepare(log(tmp_path, times, columns=columns, condition={"released": feature}), tmp_path / "dataset")
    assert info.counts["events"] == 12
    assert 18_262 <= info.condition[0].mean < 18_275, "days since 1970 of the first days of 2020"
    with pytest.raises(InputError, match=r"'released': expected a timestamp, or a number with 'time_unit'"):
        prepare(log(tmp_path, times, columns=columns, condition={"released": {"type": "time"}}), tmp_path / "dataset")
    as_text = {"released": [str(n) for n in columns["released"]]}
    with pytest.raises(InputError, match="released: not a timestamp"):
        prepare(log(tmp_path, times, columns=as_text, condition={"released": {"type": "time"}}), tmp_path / "dataset")


def test_duplicates_are_explained_with_an_example(tmp_path: Path) -> None:
    rows = [(n % 3, n % 4, 1_600_000_000 + n) for n in range(12)]
    lines = "".join(f"{user},{item},{time}\n" for user, item, time in [*rows, rows[5], rows[5]])
    (tmp_path / "log.csv").write_text("user,item,time\n" + lines)
    schema = tmp_path / "schema.yaml"
    schema.write_text("name: x\nevents: {path: log.csv, user: user, item: item, time: time}\n")
    expected = (
        r"duplicate \(2, first in .*log\.csv: row 13: user 2, item 1, time 1600000005\).*raise 'max_rejected'.*"
        "A duplicate equals an earlier row.*within a second.*'condition' that tells them apart"
    )
    with pytest.raises(InputError, match=expected):
        check(schema)
