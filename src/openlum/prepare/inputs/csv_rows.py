"""The rows of a CSV file as text. A line that is not well formed is a row too, with its number and what is wrong with it.

A row ends at `\\n`, `\\r\\n` or `\\r` outside of quotes (RFC 4180). Most of a file is read by Arrow, in blocks of whole rows;
a block in which Arrow meets something odd is read again, row by row.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.csv

from openlum.errors import InputError

FAULT, LINE, TEXT = "__lum_fault", "__lum_line", "__lum_text"
"""Columns of malformed lines: what is wrong, the line's number in the file, and the line as it stands; null in other rows."""
FAULT_TYPES = {FAULT: pa.string(), LINE: pa.int64(), TEXT: pa.string()}
NOT_UTF8 = "malformed line: not UTF-8 text"
OPEN_QUOTE = "malformed line: a quote that is not closed"
FOREIGN = 0.1
"""A file with more than this part of its lines not in UTF-8 is taken to be in another encoding."""
BLOCK = 1 << 24
"""Bytes that are read at a time. A quote that is not closed within so many is malformed."""
DAMAGE = (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error)
"""What reading a damaged file raises, beside `OSError`."""
PIECE = 1 << 16
"""Bytes that are read at a time where something is odd."""

_HEADER = re.compile(rb'(?:"[^"]*"|[^"\r\n])++(?:\r\n|\r|\n|\Z)')
_LINE = re.compile(rb"[^\r\n]*(\r\n|\r|\n)?")
_LINE_ENDS = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written.

    Attributes:
        delimiter: what stands between fields.
        columns: names in the first line; a column without a name is called `unnamed N`.
    """

    delimiter: str
    columns: list[str]


@dataclass
class Rows:
    """Rows of a CSV file.

    Attributes:
        table: the wanted columns as text, and those of `FAULT_TYPES`.
        size: bytes that these rows take.
        lines: lines that they take.
        malformed: how many of them are malformed.
        not_utf8: how many of these are not UTF-8.
    """

    table: pa.Table
    size: int
    lines: int
    malformed: int = 0
    not_utf8: int = 0


@contextmanager
def open_csv(path: Path) -> Iterator["CsvFile"]:
    """Open a CSV file, which is compressed if its name ends in `.gz`.

    Raises:
        InputError: as `CsvFile`.
    """
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        yield CsvFile(path, cast(BinaryIO, file))


class CsvFile:
    """An open CSV file whose first line has been read.

    Args:
        path: of the file, for messages.
        file: its bytes, uncompressed.

    Raises:
        InputError: it is empty, in another encoding than UTF-8, or a name is there twice.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        head = self.file.read(BLOCK)
        if head.startswith((b"\xff\xfe", b"\xfe\xff")) or 4 * head[:1000].count(b"\0") > len(head[:1000]) > 0:
            raise not_utf8(self.path, "it looks like UTF-16", "utf-16")
        body = head.removeprefix(b"\xef\xbb\xbf")
        body = body[len(body) - len(body.lstrip(b"\r\n")) :]
        if not body.strip():
            raise InputError(f"{self.path}: is empty; expected a line with the names of the columns")
        first = _HEADER.match(body)
        if first is None:
            raise InputError(f"{self.path}: a quote in its first line is not closed; mend the names of the columns")
        line = first.group()
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise not_utf8(self.path, f"{error.reason} in its first line") from None
        delimiter = max(",;\t", key=re.sub('"[^"]*"', "", text).count)
        columns = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        columns = [column or f"unnamed {number}" for number, column in enumerate(columns, 1)]
        repeated = {column for column in columns if columns.count(column) > 1}
        if repeated:
            raise InputError(f"{self.path}: column '{min(repeated)}' is there twice; rename one")
        self.dialect = Dialect(delimiter, columns)
        self.start = len(head) - len(body) + len(line)
        """Where the first row begins, in bytes."""
        self._read_ahead, self._line = head[self.start :], 1 + _count_lines(head[: self.start])

    def rows(self, columns: Sequence[str]) -> Iterator[Rows]:
        """Read the file to its end, block by block.

        Args:
            columns: those wanted.

        Raises:
            InputError: so many lines are not UTF-8 that the file must be in another encoding.
        """
        block, line, total, foreign, ended = self._read_ahead, self._line, 0, 0, False
        while block or not ended:
            more = self.file.read(BLOCK)
            block, ended, place = block + more, not more, 0
            for rows in read_block(block, self.dialect, columns, line, ended):
                place, line = place + rows.size, line + rows.lines
                total, foreign = total + len(rows.table), foreign + rows.not_utf8
                yield rows
            block = block[place:]
        if foreign > FOREIGN * total:
            raise not_utf8(self.path, f"{foreign:,} of {total:,} lines")


def read_block(block: bytes, dialect: Dialect, columns: Sequence[str], line: int, ended: bool = True) -> Iterator[Rows]:
    """Read a block that begins where a row does: all of it at once, or where something is odd in it, piece by piece.

    Args:
        block: part of a file.
        dialect: of the file.
        columns: those wanted.
        line: number of the block's first line in the file.
        ended: the file ends with the block; otherwise its last row may be incomplete, and is left.
    """
    place, size, careful = 0, len(block), False
    while place < len(block):
        piece, last = block[place : place + size], place + size >= len(block)
        whole = len(piece) if ended and last else _whole_rows(piece)
        rows = _read_well_formed(piece[:whole], dialect, columns) if whole else None
        if rows is None and not careful:
            size, careful = PIECE, True
            continue
        rows = rows or _RowByRow(piece, dialect, columns, line, ended and last).read()
        if rows.size:
            yield rows
            place, line, size = place + rows.size, line + rows.lines, PIECE
        elif last:
            return
        else:
            size *= 2


def not_utf8(path: Path, why: str, encoding: str = "latin1") -> InputError:
    """The message for a file in another encoding."""
    return InputError(f"{path}: is not UTF-8 ({why}); convert it, for example: iconv -f {encoding} -t utf-8 OLD > NEW")


def _count_lines(data: bytes) -> int:
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def _whole_rows(block: bytes) -> int:
    """How many bytes of a block are whole rows, as far as the number of quotes tells."""
    end, outside = len(block), block.count(b'"') % 2 == 0
    while True:
        quote = block.rfind(b'"', 0, end)
        if outside:
            # A `\n` may follow a last `\r` in the next block.
            line_end = max(block.rfind(b"\n", quote + 1, end), block.rfind(b"\r", quote + 1, min(end, len(block) - 1)))
            if line_end >= 0:
                return line_end + 1
        if quote < 0:
            return 0
        end, outside = quote, not outside


def _is_well_quoted(block: bytes, delimiter: bytes) -> bool:
    """Whether every quote surely begins a field, ends one, or is doubled in one."""
    if b'""' in block and re.search(rb'(?:\A|[\r\n%b])(?:"")++(?!["\r\n%b]|\Z)' % (delimiter, delimiter), block):
        return False  # something after an empty field's quotes
    parts = block.replace(b'""', b"").split(b'"')
    around = b"\r\n" + delimiter
    between = set(parts[2:-1:2])
    return (
        len(parts) % 2 == 1
        and all(part and part[0] in around and part[-1] in around for part in between)
        and (not parts[0] or parts[0][-1] in around)
        and (len(parts) == 1 or not parts[-1] or parts[-1][0] in around)
    )


def _read_well_formed(block: bytes, dialect: Dialect, columns: Sequence[str]) -> Rows | None:
    """The rows of a block in which every row is well formed; None if there may be others."""
    quoted = b'"' in block
    if quoted and not _is_well_quoted(block, dialect.delimiter.encode()):
        return None
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(block),
            pa.csv.ReadOptions(column_names=dialect.columns),
            pa.csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=quoted),
            pa.csv.ConvertOptions(
                column_types=dict.fromkeys(dialect.columns, pa.string()),
                include_columns=list(columns),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid:
        return None
    for name, of in FAULT_TYPES.items():
        table = table.append_column(name, pa.nulls(len(table), of))
    return Rows(table, len(block), _count_lines(block))


class _RowByRow:
    """A block read with care: where a line is malformed, reading goes on with the next line."""

    def __init__(self, block: bytes, dialect: Dialect, columns: Sequence[str], line: int, ended: bool) -> None:
        self.block, self.line, self.ended = block, line, ended
        self.delimiter, self.width = dialect.delimiter.encode(), len(dialect.columns)
        self.wanted = {name: dialect.columns.index(name) for name in columns}
        self.unquoted = re.compile(rb"[^\r\n%b]*" % re.escape(self.delimiter))
        self.values: dict[str, list[str | int | None]] = {name: [] for name in [*columns, *FAULT_TYPES]}
        self.faults: list[str] = []

    def read(self) -> Rows:
        """All rows but an incomplete last one."""
        place, first = 0, self.line
        while place < len(self.block):
            if end := _LINE_ENDS.match(self.block, place):  # an empty line
                if self._may_go_on(end.end()):
                    break
                self.line, place = self.line + 1, end.end()
                continue
            after, fields = self._row(place)
            if self._may_go_on(after) and (fields is not None or after - place < BLOCK):
                break
            values, fault = ([], OPEN_QUOTE) if fields is None else self._values(fields)
            if fault:
                after = self._end_of_line(place)
                if self._may_go_on(after):
                    break
            self._add(values, fault, self.block[place:after])
            self.line, place = self.line + _count_lines(self.block[place:after]), after
            if fault and len(self.block) > PIECE:
                break
        table = pa.table({name: pa.array(v, FAULT_TYPES.get(name, pa.string())) for name, v in self.values.items()})
        return Rows(table, place, self.line - first, len(self.faults), self.faults.count(NOT_UTF8))

    def _may_go_on(self, end: int) -> bool:
        """What ends at the block's end may go on in the next one."""
        return end >= len(self.block) and not self.ended

    def _end_of_line(self, place: int) -> int:
        line = _LINE.match(self.block, place)
        assert line is not None
        return line.end()

    def _row(self, place: int) -> tuple[int, list[bytes] | None]:
        """Where the row that begins at a place ends, and its fields; None where a quote is not closed."""
        fields, block = [], self.block
        limit = place + BLOCK
        while True:
            if block[place : place + 1] == b'"':
                close = place + 1
                while (close := block.find(b'"', close, limit)) >= 0 and block[close + 1 : close + 2] == b'"':
                    close += 2
                if close < 0:
                    return min(len(block), limit), None
                fields.append(block[place + 1 : close].replace(b'""', b'"'))
                place = close + 1
            else:
                value = self.unquoted.match(block, place)
                assert value is not None
                fields.append(value.group())
                place = value.end()
            if block[place : place + 1] == self.delimiter:
                place += 1
            elif place >= len(block):
                return place, fields
            elif end := _LINE_ENDS.match(block, place):
                return end.end(), fields
            else:
                return place, None

    def _values(self, fields: list[bytes]) -> tuple[list[str | None], str]:
        """The wanted values of a row, or what is wrong with it."""
        if len(fields) != self.width:
            return [], f"malformed line: {len(fields)} field{'s' * (len(fields) > 1)} instead of {self.width}"
        try:
            return [fields[place].decode() or None for place in self.wanted.values()], ""
        except UnicodeDecodeError:
            return [], NOT_UTF8

    def _add(self, values: list[str | None], fault: str, text: bytes) -> None:
        """Add a row: its values, or what is wrong with it."""
        known = dict(zip(self.wanted, values, strict=False))
        if fault:
            self.faults.append(fault)
            known |= {FAULT: fault, TEXT: text.rstrip(b"\r\n").decode(errors="replace")}
        for name, column in self.values.items():
            column.append(known.get(name))
        if fault:
            self.values[LINE][-1] = self.line
