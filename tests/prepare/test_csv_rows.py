"""CSV read as text: well-formed rows are read as written, and every malformed line is reported with its number."""

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openlum.errors import InputError
from openlum.prepare.inputs import csv_rows
from openlum.prepare.inputs.csv_rows import FAULT, LINE_NUMBER, LINE_TEXT, MAX_NOT_UTF8_SHARE, open_csv

SHORT = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def read(path: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
    with open_csv(path) as opened:
        parts = [rows.table for rows in opened.rows(columns or opened.dialect.columns)]
    return [row for part in parts for row in part.to_pylist()]


@pytest.fixture(params=[(1 << 24, 1 << 16), (400, 1)], ids=["at once", "in pieces"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read files at once, or in many blocks."""
    block, piece = request.param
    monkeypatch.setattr(csv_rows, "BLOCK", block)
    monkeypatch.setattr(csv_rows, "PIECE", piece)


@SHORT
@given(
    rows=st.lists(st.tuples(*[st.text(st.sampled_from('ab",;\n\r\t ü1'), max_size=6)] * 3), max_size=12),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    delimiter=st.sampled_from(",;\t"),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    ended=st.booleans(),
)
def test_well_formed_csv_is_read_as_it_was_written(
    pieces: None,
    tmp_path: Path,
    rows: list[tuple[str, ...]],
    line_end: str,
    delimiter: str,
    mark: bytes,
    ended: bool,
) -> None:
    text = io.StringIO()
    # Only quoted fields may contain a line end.
    quoting = csv.QUOTE_ALL if set("\r\n") & set("".join(map("".join, rows))) else csv.QUOTE_MINIMAL
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerows([("a", "b c", "d"), *rows])
    content = text.getvalue() if ended else text.getvalue().removesuffix(line_end)
    (tmp_path / "t.csv").write_bytes(mark + content.encode())
    expected = [{name: value or None for name, value in zip(("a", "b c", "d"), row, strict=True)} for row in rows]
    assert read(tmp_path / "t.csv") == [row | {FAULT: None, LINE_NUMBER: None, LINE_TEXT: None} for row in expected]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"7,8", "2 fields instead of 3"),
        (b"7", "1 field instead of 3"),
        (b"7,8,9,10", "4 fields instead of 3"),
        (b'7,"8,9', "a quote that is not closed"),
        (b'7,"8"x,9', "a quote that is not closed"),
        (b'"', "a quote that is not closed"),
        (b"7,\xe9,9", "not UTF-8 text"),
    ],
)
@pytest.mark.parametrize("index", [0, 77, 200])
def test_a_malformed_line_is_reported_and_no_other_row_is_lost(
    pieces: None, tmp_path: Path, line: bytes, reason: str, index: int
) -> None:
    good = [f'{n},"name, {n}",x\n'.encode() for n in range(200)]
    (tmp_path / "t.csv").write_bytes(b"a,b,c\n" + b"".join([*good[:index], line, b"\n", *good[index:]]))
    rows = read(tmp_path / "t.csv")
    assert [int(row["a"]) for row in rows if row[FAULT] is None] == list(range(200))
    text = line.decode(errors="replace")
    assert rows[index] == {
        "a": None,
        "b": None,
        "c": None,
        FAULT: f"malformed line: {reason}",
        LINE_NUMBER: index + 2,
        LINE_TEXT: text,
    }


@SHORT
@given(
    content=st.lists(
        st.sampled_from([b"a", b'"', b",", b"\n", b"\r", b"\r\n", b"1,2\n", b'"x","y"\n', b"\xe9", b"\xc3\xa9"]),
        max_size=30,
    )
)
def test_reading_at_once_equals_reading_row_by_row(
    tmp_path: Path, content: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n" + b"".join(content))
    with monkeypatch.context() as patch:
        patch.setattr(csv_rows, "MAX_NOT_UTF8_SHARE", 2)
        at_once = read(tmp_path / "t.csv")
        patch.setattr(csv_rows, "_read_well_formed", lambda *_: None)
        assert read(tmp_path / "t.csv") == at_once


def test_a_quote_that_is_never_closed_costs_one_line_of_a_long_file(tmp_path: Path) -> None:
    lines = [b"%d,2\n" % n for n in range(300_000)]
    lines[1000] = b'"1000,2\n'
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"".join(lines), 1))
    rows = read(tmp_path / "t.csv.gz", ["a"])
    assert [row[LINE_NUMBER] for row in rows if row[FAULT]] == [1002]
    assert len(rows) == 300_000
    assert rows[-1]["a"] == "299999"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\né,1\n".encode("utf-16"), "not UTF-8.*iconv -f utf-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), "not UTF-8.*iconv -f utf-16"),
        ("né,b\n1,2\n".encode("latin-1"), "not UTF-8.*in the first line.*iconv -f latin1"),
        (("a,b\n" + "é,1\n" * 5).encode("latin-1"), "not UTF-8.*5 of 5 lines"),
        (b"", "is empty"),
        (b'a,"b\n1,2\n', "a quote in the first line is not closed"),
        (b"a,b,a\n", "several columns are named 'a'"),
    ],
)
def test_a_file_that_cannot_be_read_at_all_raises_one_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=rf"t\.csv: .*{message}"):
        read(tmp_path / "t.csv")


def test_a_few_lines_in_another_encoding_are_malformed_lines(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n" + b"1,2\n" * 99 + b"\xe9,2\n")
    assert sum(row[FAULT] is not None for row in read(tmp_path / "t.csv")) == 1 < MAX_NOT_UTF8_SHARE * 100
    assert read(tmp_path / "t.csv", ["b"])[-1]["b"] == "2"  # a column that nobody reads may hold anything


def test_empty_lines_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\n\na,b\n\n1,2\r\n\r\n\r3,4\n\n5\n")
    rows = read(tmp_path / "t.csv")
    assert [(row["a"], row[LINE_NUMBER]) for row in rows] == [("1", None), ("3", None), (None, 10)]


def test_a_delimiter_within_a_quoted_name_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'a;"b, c, d, e"\n1;2\n')
    with open_csv(tmp_path / "t.csv") as file:
        assert (file.dialect.delimiter, file.dialect.columns) == (";", ["a", "b, c, d, e"])
