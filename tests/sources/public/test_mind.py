"""MIND: a few artificial lines in the publisher's format."""

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from openlum.config import load_settings
from openlum.data.dataset import SPLITS, Dataset
from openlum.errors import InputError
from openlum.prepare.run import prepare
from openlum.schema import Schema
from openlum.sources.public import mind
from tests.sources.public.schemas import checked_schema

ENTITIES = (
    '[{"Label": "Prince Philip", "Type": "P", "WikidataId": "Q80976", "Confidence": 1.0, "OccurrenceOffsets": [48], '
    '"SurfaceForms": ["Prince Philip"]}, {"Label": "Elizabeth II", "WikidataId": "Q9682"}]'
)
LINES = {
    "MINDsmall_train/behaviors.tsv": [
        "1\tU1\t11/9/2019 9:05:58 AM\tN3 N1 N2\tN1-1 N2-0 N4-0",
        "2\tU2\t11/12/2019 6:11:30 PM\tN2 N2\tN3-0 N4-1",
        "3\tU1\t11/14/2019 12:00:01 AM\tN3 N1 N2\tN2-0 N3-1 ",
        "4\tU3\t11/14/2019 11:59:59 PM\t\tN3-1",
    ],
    "MINDsmall_train/news.tsv": [
        f'N1\tlifestyle\troyals\tThe "Brands" Queen Elizabeth\tShop\thttps://assets.msn.com/a.html\t{ENTITIES}\t[]',
        'N2\tsports\tfootball\tA "game\tNot much.\thttps://assets.msn.com/b.html\t[]\t[]',
        "N3\tsports\ttennis\tSet\t\thttps://assets.msn.com/c.html\t\t",
    ],
    "MINDsmall_dev/behaviors.tsv": [
        "1\tU1\t11/15/2019 12:00:00 AM\tN3 N1 N2 N4\tN4-0 N1-1",
        "2\tU4\t11/15/2019 12:30:00 PM\tN1\tN4-1 N3-1",
    ],
    "MINDsmall_dev/news.tsv": [
        f"N4\tfinance\tmarkets\tUp\tUp.\thttps://assets.msn.com/d.html\t{ENTITIES}\t[]",
        "N2\tsports\tfootball-us\tA game\tNot much.\thttps://assets.msn.com/b.html\t[]\t[]",
    ],
}
COUNTS = {"train lines": 4, "dev lines": 2, "train news": 3, "dev news": 2, "train users": 3}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a directory with the publisher's folders."""
    for file, lines in LINES.items():
        _write(tmp_path / "source" / file, lines)
    return tmp_path / "source"


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _log(source: Path, out: Path, partial: bool = False) -> Path:
    return mind.write("mind-small", out, source, partial, {"mind-small": COUNTS})


def _seconds(day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    return int(datetime(2019, 11, day, hour, minute, second, tzinfo=UTC).timestamp())


def test_articles_of_a_page_become_impressions(source: Path, tmp_path: Path) -> None:
    _log(source, tmp_path / "log")
    rows = pq.read_table(tmp_path / "log" / "impressions").to_pylist()
    assert [(row["news"], row["clicked"], row["category"]) for row in rows] == [
        ("N1", 1, "lifestyle"),
        ("N2", 0, "sports"),
        ("N4", 0, "finance"),  # only the other part has this article
        ("N3", 0, "sports"),
        ("N4", 1, "finance"),
        ("N2", 0, "sports"),
        ("N3", 1, "sports"),
        ("N3", 1, "sports"),
        ("N4", 0, "finance"),
        ("N1", 1, "lifestyle"),
        ("N4", 1, "finance"),
        ("N3", 1, "sports"),
    ]
    assert [row["row"] // 100_000 for row in rows] == [1, 1, 1, 2, 2, 3, 3, 4, 5, 5, 6, 6]  # one number per page
    assert len({row["row"] for row in rows}) == len(rows)
    assert [row["time"] for row in rows[:4]] == [_seconds(9, 9, 5, 58)] * 3 + [_seconds(12, 18, 11, 30)]
    assert [row["time"] for row in rows[-3:]] == [_seconds(15)] + [_seconds(15, 12, 30)] * 2


def test_clicks_and_the_earliest_history_become_events(source: Path, tmp_path: Path) -> None:
    _log(source, tmp_path / "log")
    events = pq.read_table(tmp_path / "log" / "events").to_pylist()
    events_by_user: dict[str, list[dict[str, object]]] = {}
    for event in events:
        events_by_user.setdefault(event["user"], []).append(event)
    # The history of U1's page in the dev part has N4, which was clicked after the first page. This history is not used.
    assert [event["news"] for event in events_by_user["U1"]] == ["N3", "N1", "N2", "N1", "N3", "N1"]
    assert [event["news"] for event in events_by_user["U2"]] == ["N2", "N2", "N4"]
    assert [event["news"] for event in events_by_user["U3"]] == ["N3"]
    assert [event["category"] for event in events_by_user["U2"]] == ["sports", "sports", "finance"]
    for user, history in (("U1", 3), ("U2", 2), ("U4", 1)):
        times = [int(str(event["time"])) for event in events_by_user[user][:history]]
        assert all(
            a < b for a, b in pairwise([_seconds(9) - 28 * 86400, *times, _seconds(9)])
        )  # in order, before the week
    assert [event["time"] for event in events_by_user["U1"][3:]] == [
        _seconds(9, 9, 5, 58),
        _seconds(14, 0, 0, 1),
        _seconds(15),
    ]


def test_the_time_split_is_the_publishers_split(source: Path, tmp_path: Path) -> None:
    schema = _log(source, tmp_path / "log")
    info = prepare(schema, tmp_path / "dataset")
    assert not info.rejected
    assert (info.valid_time, info.test_time) == (_seconds(14, 0, 0, 1), _seconds(15))
    assert info.impressions == {"train": 5, "valid": 3, "test": 4}
    dataset = Dataset(tmp_path / "dataset")
    first = dataset.vocabulary("users").encode(["U1"])[0]
    prefixes = {
        (split, int(n))
        for split in SPLITS
        for n, user in zip(dataset.impressions(split).prefix, dataset.impressions(split).user, strict=True)
        if user == first
    }
    assert prefixes == {("train", 3), ("valid", 4), ("test", 5)}
    assert load_settings(schema, Schema).time_fields == []


def test_news_of_both_parts_are_items(source: Path, tmp_path: Path) -> None:
    _log(source, tmp_path / "log")
    items = pq.read_table(tmp_path / "log" / "items.parquet").to_pylist()
    assert [item["news"] for item in items] == ["N1", "N2", "N3", "N4"]
    assert items[0]["title"] == 'The "Brands" Queen Elizabeth'
    assert [item["entities"] for item in items] == [["Q80976", "Q9682"], [], None, ["Q80976", "Q9682"]]
    assert items[1]["subcategory"] == "football"  # the version of the training part


@pytest.mark.parametrize("unit", list(COUNTS))
def test_counts_must_equal_the_published_counts(source: Path, tmp_path: Path, unit: str) -> None:
    part, kind = unit.split()
    file = f"MINDsmall_{part}/{'news' if kind == 'news' else 'behaviors'}.tsv"
    larger = {"mind-small": COUNTS | {unit: 1_000}}
    with pytest.raises(InputError, match=rf"{file}: {COUNTS[unit]} {unit}, but .* has 1,000"):
        mind.write("mind-small", tmp_path / "log", source, counts=larger)
    mind.write("mind-small", tmp_path / "log", source, partial=True, counts=larger)


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("MINDsmall_train/behaviors.tsv", "5\tU1", "Line: 5"),
        ("MINDsmall_dev/behaviors.tsv", "5\tU1\t11/15/2019 1:00:00 PM\t\tN1-1 N2-2", "line 3: .*found N1-1 N2-2"),
        ("MINDsmall_dev/behaviors.tsv", "5\tU1\t11/15/2019 1:00:00 PM\tN1\t", "line 3: .*found nothing"),
        ("MINDsmall_train/behaviors.tsv", "5\tU1\tnoon\t\tN1-1", "noon"),
        (
            "MINDsmall_train/behaviors.tsv",
            "5\tU1\t11/8/2019 11:59:59 PM\t\tN1-1",
            "the impressions of mind-small begin on 09",
        ),
        ("MINDsmall_train/news.tsv", "N9\tsports", "Line: 4"),
        ("MINDsmall_dev/news.tsv", "N9\tsports\ta\tb\tc\td\t[{\t[]", "JSON"),
    ],
)
def test_a_broken_line_is_named(source: Path, tmp_path: Path, file: str, line: str, message: str) -> None:
    _write(source / file, [*LINES[file], line])
    with pytest.raises(InputError, match=rf"{file}: .*{message}"):
        mind.write("mind-small", tmp_path / "log", source, partial=True)
    assert not (tmp_path / "log").exists()


def test_missing_files_are_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has one part of mind-small"):
        _log(source / "MINDsmall_train", tmp_path / "log", partial=True)
    (source / "MINDsmall_dev" / "news.tsv").unlink()
    (source / "MINDsmall_train" / "news.tsv").unlink()
    with pytest.raises(InputError, match=r"no MINDsmall_train/news\.tsv, MINDsmall_dev/news\.tsv"):
        _log(source, tmp_path / "log")


def test_parts_in_the_wrong_order_are_refused(source: Path, tmp_path: Path) -> None:
    _write(source / "MINDsmall_dev" / "behaviors.tsv", ["1\tU1\t11/9/2019 12:00:00 AM\t\tN4-0 N1-1"])
    with pytest.raises(InputError, match="all three periods need clicks"):
        _log(source, tmp_path / "log", partial=True)


def test_the_schema_names_columns_of_the_tables(source: Path, tmp_path: Path) -> None:
    schema = _log(source, tmp_path / "log")
    text = schema.read_text()
    for table in ("events", "impressions"):  # directories of files
        text = text.replace(f"path: {table}\n", f"path: {table}/part-000.parquet\n")
    schema.write_text(text)
    assert checked_schema(schema).name == "mind-small"
