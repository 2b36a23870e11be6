"""Yoochoose: a few artificial lines in the publisher's format."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from openlum.data.dataset import SPLITS, Dataset
from openlum.errors import InputError
from openlum.prepare.run import prepare
from openlum.sources.public import yoochoose
from tests.sources.public.schemas import checked_schema

LINES = {
    "yoochoose-clicks.dat": [
        "1,2014-04-07T10:51:09.277Z,214536502,0",
        "1,2014-04-07T10:54:09.868Z,214536500,S",
        "1,2014-04-07T10:54:46.998Z,214536502,7",
        "2,2014-04-07T13:56:37.614Z,214662742,12",
        "2,2014-04-07T14:02:36.889Z,214662742,2089072775",
        "2,2014-04-07T14:20:00.000Z,214662742,13",
        *(f"3,2014-04-08T10:00:{n:02}.000Z,214536500,S" for n in range(10)),
    ],
    "yoochoose-buys.dat": [
        "1,2014-04-07T10:54:46.998Z,214536502,12462,1",
        "2,2014-04-07T14:10:00.001Z,214662742,0,0",
    ],
}
COUNTS = {"clicks": 16, "sessions": 3, "items": 3, "purchases": 2}
SECOND_CLICK = 1396868049868


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a directory with a folder `yoochoose-data` of the publisher's files."""
    folder = tmp_path / "source" / "yoochoose-data"
    folder.mkdir(parents=True)
    for file, lines in LINES.items():
        (folder / file).write_text("\n".join(lines) + "\n")
    return tmp_path / "source"


def test_clicks_then_purchases_become_events(source: Path, tmp_path: Path) -> None:
    yoochoose.write("yoochoose", tmp_path / "log", source, counts=COUNTS)
    events = pq.read_table(tmp_path / "log" / "events.parquet").to_pylist()
    assert [event["behaviour"] for event in events] == ["click"] * 16 + ["buy"] * 2
    assert [event["item"] for event in events[:4]] == [214536502, 214536500, 214536502, 214662742]
    assert events[1]["time"] == SECOND_CLICK
    contexts = [None, "special offer", "category 7", "category 12", "brand 2089072775", "brand 13"]
    assert [event["context"] for event in events[:6]] == contexts
    assert [event["context"] for event in events[-2:]] == [None, None]


def test_the_label_of_a_click_is_a_purchase_at_that_time_or_later(source: Path, tmp_path: Path) -> None:
    yoochoose.write("yoochoose", tmp_path / "log", source, counts=COUNTS)
    rows = pq.read_table(tmp_path / "log" / "impressions.parquet").to_pylist()
    assert [row["bought"] for row in rows] == [1, 0, 1, 1, 1, 0] + [
        0
    ] * 10  # the sixth click is later than the purchase
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    assert rows[1]["context"] == "special offer"


def test_purchases_are_events_but_not_impressions(source: Path, tmp_path: Path) -> None:
    schema = yoochoose.write("yoochoose", tmp_path / "log", source, counts=COUNTS)
    info = prepare(schema, tmp_path / "dataset")
    assert (info.counts["events"], info.counts["users"], info.counts["impressions"]) == (18, 3, 16)
    assert [(spec.name, spec.feedback) for spec in info.condition[:2]] == [("context", False), ("behaviour", True)]
    dataset = Dataset(tmp_path / "dataset")
    parts = [dataset.impressions(split) for split in SPLITS]
    assert sum(int(part.label.sum()) for part in parts) == 4
    first = dataset.vocabulary("users").encode(["1"])[0]
    prefixes = [
        (int(time), int(prefix))
        for part in parts
        for time, prefix, user in zip(part.time, part.prefix, part.user, strict=True)
        if user == first
    ]
    # The prefix of the third click does not have the purchase of the same second.
    assert [prefix for _, prefix in sorted(prefixes)] == [0, 1, 2]


@pytest.mark.parametrize("unit", list(COUNTS))
def test_counts_must_equal_the_published_counts(source: Path, tmp_path: Path, unit: str) -> None:
    file = "yoochoose-buys.dat" if unit == "purchases" else "yoochoose-clicks.dat"
    with pytest.raises(InputError, match=rf"{file}: {COUNTS[unit]} {unit}, but .* has 1,000"):
        yoochoose.write("yoochoose", tmp_path / "log", source, counts=COUNTS | {unit: 1_000})
    yoochoose.write("yoochoose", tmp_path / "log", source, partial=True, counts=COUNTS | {unit: 1_000})


@pytest.mark.parametrize("file", list(LINES))
def test_missing_and_broken_files_are_named(source: Path, tmp_path: Path, file: str) -> None:
    path = source / "yoochoose-data" / file
    for line in ("4,2014-04-07T14:10:00.001Z", "4,noon," + LINES[file][0].split(",", 2)[2]):
        path.write_text("\n".join([*LINES[file], line]) + "\n")
        with pytest.raises(InputError, match=rf"{file}: .*Line: {len(LINES[file]) + 1}"):
            yoochoose.write("yoochoose", tmp_path / "log", source, partial=True)
    path.unlink()
    with pytest.raises(InputError, match=rf"no {file}"):
        yoochoose.write("yoochoose", tmp_path / "log", source, partial=True)
    assert not (tmp_path / "log").exists()


def test_an_unknown_context_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "yoochoose-data" / "yoochoose-clicks.dat").write_text("1,2014-04-07T10:51:09.277Z,214536502,sports\n")
    with pytest.raises(InputError, match=r"yoochoose-clicks\.dat: .*sports"):
        yoochoose.write("yoochoose", tmp_path / "log", source, partial=True)


def test_the_schema_names_columns_of_the_tables(source: Path, tmp_path: Path) -> None:
    schema = yoochoose.write("yoochoose", tmp_path / "log", source, counts=COUNTS)
    assert checked_schema(schema).name == "yoochoose"
