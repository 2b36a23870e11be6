"""Retailrocket: a few artificial lines in the publisher's format."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.prepare.run import prepare
from openlum.sources.public import retailrocket
from tests.sources.public.schemas import checked_schema

LINES = {
    "events.csv": [
        "timestamp,visitorid,event,itemid,transactionid",
        "1433221332117,257597,view,355908,",
        "1433224214164,992329,view,248676,",
        "1433221999827,257597,addtocart,355908,",
        "1433222276276,257597,transaction,355908,4000",
        "1433225000000,992329,view,111,",
        *(f"{1433226000000 + 1000 * n},992329,view,248676," for n in range(10)),
    ],
    "item_properties_part1.csv": [
        "timestamp,itemid,property,value",
        "1435460400000,355908,categoryid,1338",
        "1441508400000,248676,888,1116713 960601 n277.200",
        "1441508400000,248676,available,0",
        "1433041200000,777,790,n32760.000",
    ],
    "item_properties_part2.csv": [
        "timestamp,itemid,property,value",
        "1433041200000,355908,categoryid,1114",
        "1439089200000,248676,categoryid,209",
        "1439089200000,248676,categoryid,200",
    ],
    "category_tree.csv": ["categoryid,parentid", "1016,213", "1114,1016", "213,169", "169,", "1338,169", "5,6", "6,5"],
}
COUNTS = {"rows": 15, "visitors": 2, "items with events": 3, "properties": 7, "items": 3}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a directory with the publisher's files."""
    (tmp_path / "source").mkdir()
    for file, lines in LINES.items():
        (tmp_path / "source" / file).write_text("\n".join(lines) + "\n")
    return tmp_path / "source"


def test_events_keep_their_order_and_milliseconds(source: Path, tmp_path: Path) -> None:
    retailrocket.write("retailrocket", tmp_path / "log", source, counts=COUNTS)
    events = pq.read_table(tmp_path / "log" / "events.parquet").to_pylist()
    assert [",".join(map(str, row.values())) for row in events] == [
        line.rsplit(",", 1)[0] for line in LINES["events.csv"][1:]
    ]


def test_an_item_has_its_earliest_category_and_the_categories_above(source: Path, tmp_path: Path) -> None:
    retailrocket.write("retailrocket", tmp_path / "log", source, counts=COUNTS)
    items = pq.read_table(tmp_path / "log" / "items.parquet").to_pylist()
    assert {item["itemid"]: item["categories"] for item in items} == {
        355908: [1114, 1016, 213, 169],  # the second file has an earlier snapshot than the first file
        248676: [200],  # not in the tree; of two categories at one time, the smaller id
        777: None,  # no snapshot has a category
    }


def test_events_of_items_without_properties_are_kept(source: Path, tmp_path: Path) -> None:
    schema = retailrocket.write("retailrocket", tmp_path / "log", source, counts=COUNTS)
    info = prepare(schema, tmp_path / "dataset")
    assert info.counts["events"] == COUNTS["rows"]
    assert not info.rejected
    dataset = Dataset(tmp_path / "dataset")
    assert "111" in dataset.vocabulary("items").decode(dataset.sequences.item)
    assert dataset.sequences.time.min() == 1433221332
    assert [(spec.name, spec.feedback) for spec in info.condition[:1]] == [("event", True)]
    assert not sum(info.impressions.values())


@pytest.mark.parametrize(
    ("unit", "file"),
    [
        ("rows", "events.csv"),
        ("visitors", "events.csv"),
        ("items with events", "events.csv"),
        ("properties", "item_properties_part1.csv and item_properties_part2.csv"),
        ("items", "item_properties_part1.csv and item_properties_part2.csv"),
    ],
)
def test_counts_must_equal_the_published_counts(source: Path, tmp_path: Path, unit: str, file: str) -> None:
    with pytest.raises(InputError, match=rf"{file}: {COUNTS[unit]} {unit}, but .* has 1,000"):
        retailrocket.write("retailrocket", tmp_path / "log", source, counts=COUNTS | {unit: 1_000})
    retailrocket.write("retailrocket", tmp_path / "log", source, partial=True, counts=COUNTS | {unit: 1_000})


@pytest.mark.parametrize("file", list(LINES))
def test_missing_and_broken_files_are_named(source: Path, tmp_path: Path, file: str) -> None:
    (source / file).write_text("\n".join([*LINES[file], "x,1,look,categoryid,y"]) + "\n")
    with pytest.raises(InputError, match=rf"{file}.*: .*Line: {len(LINES[file]) + 1}"):
        retailrocket.write("retailrocket", tmp_path / "log", source, partial=True)
    (source / file).unlink()
    with pytest.raises(InputError, match=rf"no {file}"):
        retailrocket.write("retailrocket", tmp_path / "log", source, partial=True)
    assert not (tmp_path / "log").exists()


def test_the_schema_names_columns_of_the_tables(source: Path, tmp_path: Path) -> None:
    schema = retailrocket.write("retailrocket", tmp_path / "log", source, counts=COUNTS)
    assert checked_schema(schema).name == "retailrocket"
