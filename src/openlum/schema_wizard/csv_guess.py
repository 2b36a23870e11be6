"""The format of a CSV file as far as its content shows it: encoding, delimiter, header and decimal mark."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from openlum.file_format import DEFAULT_CSV, CsvFormat
from openlum.prepare.inputs.csv_rows import MAX_NOT_UTF8_SHARE, guess_delimiter
from openlum.prepare.inputs.plain_csv import open_plain_csv
from openlum.prepare.time_expression import DAY_FIRST, parse_time

HEAD = 1 << 20
"""Bytes of a file that are examined."""
MAX_LINES = 500
MIN_FOREIGN_LINES = 3
"""If at least this many lines are not UTF-8, and no line has UTF-8 characters besides ASCII, the encoding is another one."""
CONSISTENT = 0.9
"""A delimiter separates the values if at least this fraction of the lines has it as often as most lines."""
NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?")
ISO_START = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}.*)?")
DECIMAL_COMMA = r"^[-+]?(\d{1,3}([.]\d{3})+|\d*),\d+$"
WHOLE = r"^[-+]?\d{1,3}([.]\d{3})*$|^[-+]?\d+$"
THOUSANDS = r"^[-+]?\d{1,3}(,\d{3})+$"


@dataclass(frozen=True)
class CsvGuess:
    """A guessed format. A key of `reasons` is a key of the format that `lum prepare` cannot guess by itself."""

    csv_format: CsvFormat = DEFAULT_CSV
    """The format."""
    reasons: dict[str, str] = field(default_factory=dict)
    """For each key that must be declared: why, in words."""

    def extended(self, key: str, value: Any, reason: str) -> "CsvGuess":
        """Return the guess with one more key."""
        changed = CsvFormat.model_validate(self.csv_format.model_dump() | {key: value})
        return CsvGuess(changed, {name: text for name, text in self.reasons.items() if name != key} | {key: reason})


def guess_csv(file: Path) -> CsvGuess:
    """Return the format of a CSV file. Columns without a header are called `column_1`, `column_2` and so on.

    Raises:
        InputError: the file is no CSV.
    """
    with open_plain_csv(file, DEFAULT_CSV) as opened:
        head = opened.read(HEAD)
    head = head[: max(head.rfind(b"\n"), head.rfind(b"\r")) + 1] if len(head) >= HEAD else head
    guess = _guess_encoding(CsvGuess(), head)
    text = head.decode(guess.csv_format.encoding, errors="replace").removeprefix("\ufeff").lstrip("\r\n")
    lines = text.splitlines()[:MAX_LINES]
    lines = [line for line in lines if line.strip()]
    if not lines:
        return guess
    delimiter = _delimiter(lines)
    rows = _split(lines, delimiter)
    if delimiter != guess_delimiter(lines[0]) or first_line_is_data(rows):
        guess = guess.extended("delimiter", delimiter, "it separates the values of every line")
    if first_line_is_data(rows):
        names = [f"column_{number}" for number in range(1, len(rows[0]) + 1)]
        guess = guess.extended("columns", names, f"the first line is data ({_shorten(lines[0])})")
    return guess


def first_line_is_data(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first of the rows of a file is data and not the names of the columns."""
    first, below = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    if [str(n) for n in range(len(first))] == list(first) and len(first) > 1:
        return False  # pandas writes these names if a frame has no others
    columns = list(zip(*below, strict=True)) if below else [() for _ in first]
    kinds = [_kind_of_most([value for value in column if value]) for column in columns]
    if any(kind in ("number", "time") and _kind(name) == "text" for kind, name in zip(kinds, first, strict=True)):
        return False
    if any(
        _kind(name) in ("number", "time") and kind in (_kind(name), "") for kind, name in zip(kinds, first, strict=True)
    ):
        return True
    repeated = any(name and first.count(name) > 1 for name in first)
    recurs = any(
        name in column and len(set(column)) <= len(column) / 2
        for name, column in zip(first, columns, strict=True)
        if name
    )
    return repeated or recurs


def with_decimal_point(guess: CsvGuess, table: pa.Table) -> tuple[CsvGuess, pa.Table]:
    """Return the guess with the decimal mark of a sample, and the sample with decimal points.

    Text such as `1,234` may be one thousand two hundred or a fraction, so a column needs another number to count.
    """
    example = ""
    for index, name in enumerate(table.column_names):
        values = table[name]
        present = values.drop_null() if pa.types.is_string(values.type) else pa.chunked_array([], pa.string())
        with_comma = present.filter(pc.match_substring_regex(present, DECIMAL_COMMA))
        fits = len(with_comma) + pc.sum(pc.match_substring_regex(present, WHOLE)).as_py() if len(with_comma) else 0
        certain = with_comma.filter(pc.invert(pc.match_substring_regex(with_comma, THOUSANDS)))
        if not len(certain) or fits < 0.995 * len(present):
            continue
        example = example or certain[0].as_py()
        is_number = pc.or_(pc.match_substring_regex(values, DECIMAL_COMMA), pc.match_substring_regex(values, WHOLE))
        plain = pc.replace_substring(pc.replace_substring(values, ".", ""), ",", ".")
        table = table.set_column(index, name, pc.if_else(is_number, plain, values))
    return (guess.extended("decimal", ",", f"guess, from numbers such as {example}") if example else guess), table


def _guess_encoding(guess: CsvGuess, head: bytes) -> CsvGuess:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return guess.extended("encoding", "utf-16", "by the first two bytes of the file")
    foreign, utf8_lines, lines = [], 0, head.splitlines()
    for line in lines:
        if line.isascii():
            continue
        try:
            line.decode()
            utf8_lines += 1
        except UnicodeDecodeError:
            foreign.append(line)
    is_foreign = len(foreign) > MAX_NOT_UTF8_SHARE * len(lines) or (
        len(foreign) >= MIN_FOREIGN_LINES and not utf8_lines
    )
    if not is_foreign or b"\0" in head:
        return guess
    encoding = "latin-1"
    if re.search(rb"[\x80-\x9f]", head) and not re.search(rb"[\x81\x8d\x8f\x90\x9d]", head):
        encoding = "cp1252"
    word = re.search(r"[^\s,;|:\t]*[^\x00-\x7f][^\s,;|:\t]*", foreign[0].decode(encoding))
    shown = word.group() if word else ""
    reason = (
        f"guess, since the file is not UTF-8: it makes {shown!r} of one word; name another encoding if that is wrong"
    )
    return guess.extended("encoding", encoding, reason)


def _delimiter(lines: Sequence[str]) -> str:
    unquoted = [re.sub('"[^"]*"', "", line) for line in lines]

    def fields(delimiter: str) -> int:
        """Return how often a delimiter is in a line; 0 if lines differ."""
        counts = [line.count(delimiter) for line in unquoted]
        usual = max(set(counts), key=counts.count)
        return usual if counts.count(usual) >= CONSISTENT * len(counts) else 0

    default = guess_delimiter(lines[0])
    if fields("::"):
        return "::"
    if fields(default):
        return default
    best = max("\t|;,\x01", key=fields)
    if fields(best):
        return best
    words = [word for line in unquoted for word in line.split(" ")]
    if fields(" ") and sum(_kind(word) == "number" for word in words) > CONSISTENT * len(words):
        return " "
    return default


def _split(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    if len(delimiter) > 1:
        return [line.split(delimiter) for line in lines]
    return [row for row in csv.reader(io.StringIO("\n".join(lines), newline=""), delimiter=delimiter) if row]


def _kind(text: str) -> str:
    """Return whether a text is a `number`, a `time`, other `text`, or empty."""
    text = text.strip()
    if NUMBER.fullmatch(text):
        return "number"
    if ISO_START.fullmatch(text) or re.match(DAY_FIRST, text) or parse_time(text, None) is not None:
        return "time"
    return "text" if text else ""


def _kind_of_most(values: Sequence[str]) -> str:
    kinds = [_kind(value) for value in values]
    most = max(set(kinds), key=kinds.count, default="")
    return most if kinds.count(most) >= CONSISTENT * len(kinds) else "text"


def _shorten(line: str) -> str:
    line = " ".join(line.split())
    return line if len(line) <= 40 else line[:37] + "..."
