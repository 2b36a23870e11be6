"""The declared format of CSV files: names, delimiter, encoding and decimal mark."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openlum.config import parse_settings
from openlum.errors import InputError
from openlum.file_format import CsvFormat
from openlum.prepare.inputs import csv_rows
from openlum.prepare.inputs.csv_rows import FAULT, LINE_TEXT, open_csv
from openlum.prepare.inputs.files import find_table_files


def read(path: Path, csv_format: CsvFormat, columns: list[str] | None = None) -> list[dict[str, Any]]:
    with open_csv(path, csv_format) as opened:
        parts = [rows.table for rows in opened.rows(columns or opened.dialect.columns)]
    return [row for part in parts for row in part.to_pylist()]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(st.tuples(*[st.text(st.sampled_from("ab1 é"), min_size=1, max_size=6)] * 3), min_size=1, max_size=12),
    delimiter=st.sampled_from([",", "\t", "|", "::", "~~~", "\x01", "^", "]"]),
    encoding=st.sampled_from(["utf-8", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32"]),
    block=st.sampled_from([1 << 24, 7]),
    packed=st.booleans(),
)
def test_rows_without_a_header_are_read_as_they_were_written(
    tmp_path: Path,
    rows: list[tuple[str, ...]],
    delimiter: str,
    encoding: str,
    block: int,
    packed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = "".join(delimiter.join(row) + "\n" for row in rows).encode(encoding)
    (tmp_path / "t.dat").write_bytes(gzip.compress(content) if packed else content)
    with monkeypatch.context() as patch:
        if encoding == "utf-8" and block < 1 << 24:
            patch.setattr(csv_rows, "PIECE", block)
        found = read(tmp_path / "t.dat", CsvFormat(columns=["a", "b", "c"], delimiter=delimiter, encoding=encoding))
    assert [(row["a"], row["b"], row["c"]) for row in found] == rows
    assert all(row[FAULT] is None for row in found)


def test_a_long_delimiter_may_lie_across_two_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[str(n), "x" * (n % 11), str(n * n)] for n in range(500)]
    (tmp_path / "t.dat").write_text("".join("::".join(row) + "\n" for row in rows))
    for block in range(64, 72):
        monkeypatch.setattr(csv_rows, "BLOCK", block)
        found = read(tmp_path / "t.dat", CsvFormat(columns=["a", "b", "c"], delimiter="::"))
        assert [[row["a"], row["b"] or "", row["c"]] for row in found] == rows


def test_a_malformed_line_is_shown_as_it_is_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "t.dat").write_text("1::2::3\n4::5\n6::7::8\n")
    rows = read(tmp_path / "t.dat", CsvFormat(columns=["a", "b", "c"], delimiter="::"))
    assert [row["a"] for row in rows] == ["1", None, "6"]
    assert (rows[1][FAULT], rows[1][LINE_TEXT]) == ("malformed line: 2 fields instead of 3", "4::5")


@pytest.mark.parametrize(
    ("content", "csv_format", "message"),
    [
        (b"1,2,3\n", {"columns": ["a", "b"]}, "3 fields.*','.*names 2.*csv.delimiter"),
        (b"a,b\n1,2\n", {"columns": ["a", "b"]}, "first line has the names.*remove 'csv.columns'"),
        (b"\xe9,1\n", {"encoding": "utf-16"}, "not utf-16.*csv.encoding"),
        (b"a\n\x81\n", {"encoding": "cp1252"}, "not cp1252.*csv.encoding"),
        (b"7,7\n1,2\n", {}, "several columns are named '7'.*if the first line is data.*csv: {columns"),
        (b'{"user": 1}\n', {}, "is JSON"),
        (b"PK\x03\x04...", {}, "ZIP"),
        (b"PAR1...", {}, "rename it"),
        (b"BZh91AY", {}, "bzip2"),
        (b"a\n\xe9\n", {}, "not UTF-8.*csv: {encoding: latin1}"),
    ],
)
def test_a_format_that_does_not_fit_is_one_error(
    tmp_path: Path, content: bytes, csv_format: dict[str, Any], message: str
) -> None:
    (tmp_path / "t.data").write_bytes(content)
    with pytest.raises(InputError, match=rf"t\.data: .*{message}"):
        read(tmp_path / "t.data", CsvFormat.model_validate(csv_format))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"columns": ["a", "a"]}, "'a' occurs twice"),
        ({"columns": ["a", ""]}, "no name"),
        ({"columns": []}, "columns"),
        ({"delimiter": "x"}, "cannot separate"),
        ({"delimiter": '"'}, "cannot separate"),
        ({"delimiter": "\n"}, "cannot separate"),
        ({"encoding": "latin-99"}, "unknown encoding 'latin-99'"),
        ({"encoding": "base64"}, "unknown encoding"),
        ({"decimal": ";"}, "decimal"),
    ],
)
def test_a_format_is_checked(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_settings(keys, CsvFormat, where="schema")


def test_a_header_that_looks_like_data_gets_a_hint(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("196,242,3\n186,302,3\n")
    with pytest.raises(InputError, match=r"no column 'user'.*196, 242, 3; if the first line is data.*csv: {columns"):
        find_table_files(tmp_path, "t.csv", ["user"], tmp_path / "scratch")
