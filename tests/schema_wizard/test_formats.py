"""Files of every format: the wizard says how they are written, and `lum prepare` reads them with its schema."""

import csv
import gzip
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.prepare.run import prepare
from openlum.schema_wizard import propose
from openlum.schema_wizard.csv_guess import first_line_is_data

from .tables import find_line, read_schema

MOVIELENS = Path(__file__).parents[3] / "shared" / "data" / "ml-1m"
NAMES = ["user_id", "item_id", "rating", "timestamp"]
START = 1_600_000_000
ROWS = [(n % 37 + 1, n * 7 % 61 + 1, n * 3 % 5 + 1, START + 701 * n) for n in range(300)]
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def text(
    delimiter: str = ",", header: bool = True, time: Callable[[int], Any] = int, rating: Callable[[int], Any] = int
) -> str:
    """Return the rows of the log as CSV."""
    rows = [(user, item, rating(stars), time(seconds)) for user, item, stars, seconds in ROWS]
    lines = [NAMES, *rows] if header else rows
    if len(delimiter) > 1:
        return "".join(delimiter.join(map(str, line)) + "\n" for line in lines)
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(lines)
    return out.getvalue()


def written(format_string: str) -> Callable[[int], str]:
    """Return a function that writes a time."""
    return lambda seconds: datetime.fromtimestamp(seconds, UTC).strftime(format_string)


FORMATS: dict[str, tuple[str, bytes]] = {
    "tabs without a header": ("u.data", text("\t", header=False).encode()),
    "two colons": ("ratings.dat", text("::", header=False).encode()),
    "blanks": ("log.txt", text(" ", header=False).encode()),
    "compressed, without a header": ("log.csv.gz", gzip.compress(text(header=False).encode())),
    "bars with a header": ("log.psv", text("|").encode()),
    "two colons with a header": ("log.dat", text("::").encode()),
    "tabs": ("log.tsv", text("\t").encode()),
    "semicolons and a mark": ("log.csv", text(";").encode("utf-8-sig")),
    "a quoted header": ("log.csv", text().replace(",".join(NAMES), ",".join(f'"{name}"' for name in NAMES)).encode()),
    "UTF-16": ("log.csv", text().encode("utf-16")),
    "a decimal comma": ("log.csv", text(";", rating=lambda stars: f"{stars},0").encode()),
    "day.month.year": ("log.csv", text(time=written("%d.%m.%Y %H:%M:%S")).encode()),
    "month/day/year": ("log.csv", text(time=written("%m/%d/%Y %I:%M:%S %p")).encode()),
    "year/month/day": ("log.csv", text(time=written("%Y/%m/%d %H:%M:%S")).encode()),
    "a month's name": ("log.csv", text(time=written("%d-%b-%Y %H:%M:%S")).encode()),
    "as C prints it": ("log.txt", text("\t", header=False, time=written("%a %b %d %H:%M:%S +0000 %Y")).encode()),
    "all digits": ("log.csv", text(time=written("%Y%m%d%H%M%S")).encode()),
    "nanoseconds": ("log.csv", text(time=lambda seconds: seconds * 10**9).encode()),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_is_recognised(tmp_path: Path, name: str) -> None:
    file, content = FORMATS[name]
    (tmp_path / file).write_bytes(content)
    proposal = propose(str(tmp_path / file), root=tmp_path)
    schema = read_schema(proposal)
    assert (schema.events.user, schema.events.item, schema.events.time) == ("user_id", "item_id", "timestamp")
    assert schema.events.condition.keys() == {"rating"}
    assert schema.events.condition["rating"].feedback
    assert "2020-09-13 to 2020-09-15" in find_line(proposal, "time:")
    assert (schema.events.csv.columns == NAMES) == ("the first line is data" in proposal.text)


@pytest.mark.parametrize(
    "name", ["two colons", "compressed, without a header", "UTF-16", "a decimal comma", "month/day/year", "all digits"]
)
def test_prepare_reads_every_format_to_the_same_dataset(tmp_path: Path, name: str) -> None:
    file, content = FORMATS[name]
    for directory, path, raw in (("plain", "log.csv", text().encode()), ("other", file, content)):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / path).write_bytes(raw)
        schema = tmp_path / directory / "schema.yaml"
        schema.write_text(propose(str(tmp_path / directory / path), root=schema.parent).text)
        info = prepare(schema, tmp_path / directory / "dataset")
        assert (info.counts["events"], info.counts["users"], info.counts["items"]) == (300, 37, 61)
    plain, other = (
        pq.read_table(tmp_path / directory / "dataset" / "sequences").sort_by("user")
        for directory in ("plain", "other")
    )
    assert plain.equals(other)


@pytest.mark.parametrize(
    ("first", "below", "expected"),
    [
        (["196", "242", "3", "881250949"], [["186", "302", "3", "891717742"]], True),
        (["a", "b", "2020-01-01"], [["c", "d", "2020-01-02"]], True),
        (["u1", "i1", "view"], [["u2", "i2", "view"], ["u3", "i3", "view"]], True),
        (["x", "x"], [["y", "z"]], True),
        (["5"], [["6"], ["7"]], True),
        (["7", "8", "9"], [], True),
        (["user", "item"], [["a", "b"]], False),
        (["user", "2020", "2021"], [["1", "3", "4"]], False),
        (["0", "1", "2"], [["5", "6", "7"]], False),  # pandas writes this header
        (["user", "item", "time"], [["1", "2", "2020-01-01"]], False),
        (["", "user"], [["0", "1"]], False),
    ],
)
def test_a_first_line_of_data_is_told_from_names(first: list[str], below: list[list[str]], expected: bool) -> None:
    assert first_line_is_data([first, *below]) is expected


def test_an_ambiguous_order_of_day_and_month_is_asked(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(
        text(time=lambda seconds: f"{seconds % 12 + 1:02}/0{seconds // 701 % 9 + 1}/2019")
    )
    proposal = propose(str(tmp_path / "log.csv"), root=tmp_path)
    assert proposal.missing == ["events.date_order"]
    assert "choose dmy or mdy" in find_line(proposal, "date_order: ???")
    (tmp_path / "schema.yaml").write_text(proposal.text)
    with pytest.raises(InputError, match=r"date_order.*'dmy' or 'mdy'"):
        prepare(tmp_path / "schema.yaml", tmp_path / "dataset")
    (tmp_path / "schema.yaml").write_text(proposal.text.replace("date_order: ???", "# no date_order"))
    with pytest.raises(InputError, match=r"day and month need their order; set 'date_order'.*row 1: '.*/2019'"):
        prepare(tmp_path / "schema.yaml", tmp_path / "dataset")


def test_a_column_that_was_left_open_is_named_by_prepare(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("".join(f"{user}\n" for user, *_ in ROWS))
    proposal = propose(str(tmp_path / "log.csv"), root=tmp_path)
    assert proposal.missing == ["events.item", "events.time"]
    (tmp_path / "schema.yaml").write_text(proposal.text)
    with pytest.raises(InputError, match=r"\?\?\? in place of a column.*replace it by one of user_id"):
        prepare(tmp_path / "schema.yaml", tmp_path / "dataset")


def test_the_encoding_is_shown_with_an_example(tmp_path: Path) -> None:
    rows = "".join(
        f"{user},{item},{['Café', 'Zürich', 'Malmö'][stars % 3]},{time}\n" for user, item, stars, time in ROWS
    )
    (tmp_path / "log.csv").write_bytes(("user_id,item_id,city,timestamp\n" + rows).encode("latin-1"))
    proposal = propose(str(tmp_path / "log.csv"))
    assert read_schema(proposal).events.csv.encoding == "latin-1"
    assert "'Zürich'" in proposal.text


def test_lists_of_two_numbers_are_no_decimals_in_doubt(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(text(";", rating=lambda stars: f"{stars},{stars}00"))
    assert read_schema(propose(str(tmp_path / "log.csv"))).events.csv.decimal == "."


def test_movielens_in_the_form_of_its_smallest_edition(tmp_path: Path) -> None:
    """`u.data` has no header; `u.item` has bars, Latin-1 and dates such as 01-Jan-1995."""
    if not MOVIELENS.is_dir():
        pytest.skip("needs MovieLens-1M in ../shared/data")
    ratings = pq.read_table(MOVIELENS / "ratings.parquet", columns=["user_id", "movie_id", "rating", "timestamp"])
    ratings = ratings.slice(0, 3000)
    (tmp_path / "u.data").write_text("".join("\t".join(map(str, row.values())) + "\n" for row in ratings.to_pylist()))
    movies = gzip.decompress((MOVIELENS / "movies.dat.gz").read_bytes()).decode("latin-1").splitlines()
    lines = []
    for number, movie in enumerate(movies):
        item, title, genres = movie.split("::")
        date = f"{number % 28 + 1:02}-{MONTHS[number % 12]}-{1950 + number % 50}"
        lines.append("|".join([item, title, date, "", *(str(int(name in genres)) for name in ("Drama", "Comedy"))]))
    (tmp_path / "u.item").write_bytes("\n".join(lines).encode("latin-1"))
    proposal = propose(str(tmp_path / "u.data"), items=str(tmp_path / "u.item"), root=tmp_path)
    schema = read_schema(proposal)
    assert schema.events.csv.columns == NAMES
    assert schema.items is not None
    assert schema.items.csv.model_dump() == {
        "columns": ["item_id", "title", "date", "column_4", "column_5", "column_6"],
        "delimiter": "|",
        "encoding": "latin-1",
        "decimal": ".",
    }
    assert schema.items.features["date"].type == "time"
    (tmp_path / "schema.yaml").write_text(proposal.text)
    info = prepare(tmp_path / "schema.yaml", tmp_path / "dataset")
    assert info.counts["events"] == 3000
    assert info.counts["items_table"] == len(movies)
    assert info.rejected == {}
    titles = Dataset(tmp_path / "dataset").path / "log" / "items.parquet"
    assert any("é" in title for title in pq.read_table(titles)["title"].to_pylist())
    date = next(spec for spec in info.item if spec.name == "date")
    assert 365 * -20 < date.mean < 365 * 30, "days since 1970"
    assert yaml.safe_load(proposal.text)["impressions_from_events"] == {"field": "rating", "at_least": 4}
