"""Taobao UserBehavior: a few artificial lines in the publisher's format."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.prepare.run import prepare
from openlum.sources.public import taobao_behavior
from tests.sources.public.schemas import checked_schema

BEFORE, FIRST, LAST, AFTER = 1511539199, 1511539200, 1512316799, 1512316800
"""Seconds around the bounds of the publisher's period, 25 November to 3 December 2017, Beijing time."""
LINES = [
    f"1,10,7,pv,{FIRST}",
    "1,10,7,cart,1511600000",
    "1,11,8,buy,1511600000",
    "2,10,5,pv,1511600001",
    "2,10,7,fav,1511500",
    "2,12,5,pv,-2134949234",
    "2,12,3,pv,1511600009",
    f"2,11,8,pv,{LAST}",
    f"3,11,8,pv,{AFTER}",
    f"3,11,8,pv,{BEFORE}",
    *(f"3,11,8,pv,{1511700000 + n}" for n in range(400)),
]
COUNTS = {"rows": len(LINES), "users": 3, "items": 3, "categories": 4}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a directory with the publisher's file."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "UserBehavior.csv").write_text("\n".join(LINES) + "\n")
    return tmp_path / "source"


def test_the_file_becomes_an_event_log(source: Path, tmp_path: Path) -> None:
    taobao_behavior.write("taobao-behavior", tmp_path / "log", source, counts=COUNTS)
    events = pq.read_table(tmp_path / "log" / "events.parquet")
    assert events.schema.types == [pa.int64(), pa.int64(), pa.int64(), pa.string(), pa.int64()]
    assert [
        ",".join(map(str, row.values())) for row in events.to_pylist()
    ] == LINES  # all rows, in the order of the file


def test_an_item_has_its_most_frequent_category(source: Path, tmp_path: Path) -> None:
    taobao_behavior.write("taobao-behavior", tmp_path / "log", source, counts=COUNTS)
    items = pq.read_table(tmp_path / "log" / "items.parquet").to_pylist()
    # Item 10 has category 7 most often. Item 12 has 5 and 3 once each, so it has the smaller id.
    assert items == [{"item_id": item, "category_id": category} for item, category in ((10, 7), (11, 8), (12, 3))]


def test_prepare_rejects_rows_outside_the_period(source: Path, tmp_path: Path) -> None:
    schema = taobao_behavior.write("taobao-behavior", tmp_path / "log", source, counts=COUNTS)
    info = prepare(schema, tmp_path / "dataset")
    assert info.counts["events_in"] == len(LINES)
    assert info.counts["events_rejected"] == 4 == sum(info.rejected.values())
    dataset = Dataset(tmp_path / "dataset")
    assert (dataset.sequences.time.min(), dataset.sequences.time.max()) == (FIRST, LAST)
    assert [(spec.name, spec.feedback) for spec in dataset.info.condition[:2]] == [
        ("category", False),
        ("behaviour", True),
    ]


def test_a_gzip_file_is_read(source: Path, tmp_path: Path) -> None:
    plain = source / "UserBehavior.csv"
    (source / "UserBehavior.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    taobao_behavior.write("taobao-behavior", tmp_path / "log", source, counts=COUNTS)
    assert pq.read_metadata(tmp_path / "log" / "events.parquet").num_rows == len(LINES)


def test_counts_must_equal_the_published_counts(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"UserBehavior\.csv: 410 rows, but .* has 100,150,807"):
        taobao_behavior.write("taobao-behavior", tmp_path / "log", source)
    with pytest.raises(InputError, match=r"UserBehavior\.csv: 3 items, but .* has 2"):
        taobao_behavior.write("taobao-behavior", tmp_path / "log", source, partial=True, counts=COUNTS | {"items": 2})
    assert not (tmp_path / "log").exists()
    taobao_behavior.write("taobao-behavior", tmp_path / "log", source, partial=True)
    assert (tmp_path / "log" / "schema.yaml").is_file()


@pytest.mark.parametrize("line", ["1,2,3,pv", "1,2,3,pv,4,5", "1,2,3,look,4", "one,2,3,pv,4", "1,2,3,pv,noon"])
def test_a_broken_line_is_named(source: Path, tmp_path: Path, line: str) -> None:
    (source / "UserBehavior.csv").write_text(f"{LINES[0]}\n{line}\n{LINES[1]}\n")
    with pytest.raises(InputError, match=r"UserBehavior\.csv: .*Line: 2"):
        taobao_behavior.write("taobao-behavior", tmp_path / "log", source, partial=True)
    assert list(tmp_path.iterdir()) == [source]  # scratch files are removed too


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no UserBehavior\.csv"):
        taobao_behavior.write("taobao-behavior", tmp_path / "log", tmp_path)
    with pytest.raises(InputError, match=r"tianchi\.aliyun\.com.*--from DIR"):
        taobao_behavior.write("taobao-behavior", tmp_path / "log")


def test_the_schema_names_columns_of_the_tables(source: Path, tmp_path: Path) -> None:
    schema = taobao_behavior.write("taobao-behavior", tmp_path / "log", source, counts=COUNTS)
    assert checked_schema(schema).name == "taobao-behavior"
