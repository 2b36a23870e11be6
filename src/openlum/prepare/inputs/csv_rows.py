"""The rows of a CSV file as text. A malformed line is a row too, with its line number and the fault.

A row ends at `\\n`, `\\r\\n` or `\\r` outside of quotes (RFC 4180). Arrow reads most of a file, in blocks of whole rows.
If Arrow cannot read a block, it is read again, row by row.
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
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv

from openlum.errors import InputError
from openlum.file_format import DEFAULT_CSV, CsvFormat
from openlum.prepare.inputs.plain_csv import UNIT_SEPARATOR, is_json, is_raw, one_byte_delimiter, open_plain_csv

FAULT, LINE_NUMBER, LINE_TEXT = "__lum_fault", "__lum_line", "__lum_text"
"""Columns of malformed lines: the fault, the number of the line in the file, and the text of the line; null in other rows."""
FAULT_TYPES = {FAULT: pa.string(), LINE_NUMBER: pa.int64(), LINE_TEXT: pa.string()}
MALFORMED = "malformed line: "
"""Start of the fault of every malformed line."""
NOT_UTF8 = f"{MALFORMED}not UTF-8 text"
OPEN_QUOTE = f"{MALFORMED}a quote that is not closed"
MAX_NOT_UTF8_SHARE = 0.1
"""If more than this share of a file's lines is not UTF-8, the file is assumed to be in another encoding."""
BLOCK = 1 << 24
"""Bytes that are read at a time. A quote that is not closed within this many bytes is malformed."""
READ_ERRORS = (EOFError, gzip.BadGzipFile, zlib.error)
"""Exceptions, besides `OSError`, that reading a damaged file raises."""
PIECE = 1 << 16
"""Bytes that are read at a time within a block that may have malformed rows."""

_HEADER = re.compile(rb'(?:"[^"]*"|[^"\r\n])++(?:\r\n|\r|\n|\Z)')
_LINE = re.compile(rb"[^\r\n]*(\r\n|\r|\n)?")
_LINE_ENDS = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True)
class Dialect:
    """The format of a CSV file.

    Attributes:
        delimiter: the character between fields.
        columns: names in the first line or in the schema; a column without a name is called `unnamed N`.
        written_delimiter: the delimiter in the user's file, for messages.
    """

    delimiter: str
    columns: list[str]
    written_delimiter: str


@dataclass
class CsvRows:
    """Consecutive rows of a CSV file.

    Attributes:
        table: the requested columns as text, and the columns of `FAULT_TYPES`.
        size: the number of bytes of these rows.
        lines: the number of lines of these rows.
        malformed: the number of malformed rows.
        not_utf8: the number of malformed rows that are not UTF-8.
    """

    table: pa.Table
    size: int
    lines: int
    malformed: int = 0
    not_utf8: int = 0


@contextmanager
def open_csv(path: Path, csv_format: CsvFormat = DEFAULT_CSV) -> Iterator["CsvFile"]:
    """Open a CSV file; it is decompressed if it is compressed by gzip.

    Raises:
        InputError: as in `open_plain_csv` and `CsvFile`.
    """
    with open_plain_csv(path, csv_format) as file:
        try:
            yield CsvFile(path, file, csv_format)
        except UnicodeError as error:
            # In a file that is read as UTF-8, lines in another encoding are malformed lines.
            raise InputError(
                f"{path}: the file is not {csv_format.encoding} ({error}); correct 'csv.encoding' in the schema"
            ) from None


class CsvFile:
    """An open CSV file whose first line has been read.

    Args:
        path: the path of the file, for messages.
        file: the bytes of the file, from `open_plain_csv`.
        csv_format: the format that the schema declares.

    Raises:
        InputError: the file is empty, JSON or not in UTF-8, a column name is repeated, or the declared columns do not fit.
    """

    def __init__(self, path: Path, file: BinaryIO, csv_format: CsvFormat) -> None:
        self.path, self.file = path, file
        head = self.file.read(BLOCK)
        if head.startswith((b"\xff\xfe", b"\xfe\xff")) or 4 * head[:1000].count(b"\0") > len(head[:1000]) > 0:
            raise not_utf8(self.path, "it seems to be UTF-16", "utf-16")
        body = head.removeprefix(b"\xef\xbb\xbf")
        body = body[len(body) - len(body.lstrip(b"\r\n")) :]
        if not body.strip():
            raise InputError(f"{self.path}: the file is empty; expected a first line with the names of the columns")
        if is_json(body[:1000]):
            raise InputError(f"{self.path}: expected CSV, but the file is JSON; write it as Parquet or CSV")
        first = _HEADER.match(body)
        if first is None:
            raise InputError(f"{self.path}: a quote in the first line is not closed; correct the names of the columns")
        line = first.group()
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise not_utf8(self.path, f"{error.reason} in the first line") from None
        delimiter = one_byte_delimiter(csv_format) or guess_delimiter(text)
        self.first_line = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        """The fields of the first line."""
        columns = csv_format.columns or header_names(self.path, self.first_line)
        self.dialect = Dialect(delimiter, columns, csv_format.delimiter or delimiter)
        self.is_raw = is_raw(csv_format)
        """Whether `file` has the bytes of the user's file, and not a translation of them."""
        self.start = len(head) - len(body)
        """The byte at which the first row begins."""
        if csv_format.columns is None:
            self.start += len(line)
        else:
            self._check_declared_columns()
        self.read_ahead = head[self.start :]
        """The bytes that have been read, from the first row on."""
        self._line = 1 + _count_lines(head[: self.start])

    def _check_declared_columns(self) -> None:
        """Raise an `InputError` if the columns that the schema names cannot be those of the file."""
        columns, fields = self.dialect.columns, self.first_line
        if fields == columns:
            raise InputError(
                f"{self.path}: the first line has the names of the columns; remove 'csv.columns' from the schema"
            )
        if len(fields) != len(columns):
            raise InputError(
                f"{self.path}: the first line has {len(fields)} field{'s' * (len(fields) > 1)}, separated by "
                f"{self.dialect.written_delimiter!r}, but 'csv.columns' names {len(columns)}: name every column of the file, or "
                "correct 'csv.delimiter' in the schema"
            )

    def rows(self, columns: Sequence[str]) -> Iterator[CsvRows]:
        """Read the file to its end and yield its rows, block by block.

        Args:
            columns: the columns to read.

        Raises:
            InputError: so many lines are not UTF-8 that the file is probably in another encoding.
        """
        block, line, total, invalid, ended = self.read_ahead, self._line, 0, 0, False
        while block or not ended:
            more = self.file.read(BLOCK)
            block, ended, offset = block + more, not more, 0
            for rows in read_block(block, self.dialect, columns, line, ended):
                offset, line = offset + rows.size, line + rows.lines
                total, invalid = total + len(rows.table), invalid + rows.not_utf8
                yield rows
            block = block[offset:]
        if invalid > MAX_NOT_UTF8_SHARE * total:
            raise not_utf8(self.path, f"{invalid:,} of {total:,} lines")


def read_block(
    block: bytes, dialect: Dialect, columns: Sequence[str], line: int, ended: bool = True
) -> Iterator[CsvRows]:
    """Yield the rows of a block: all at once, or piece by piece if some rows may be malformed.

    Args:
        block: part of a file, beginning at the start of a row.
        dialect: the format of the file.
        columns: the columns to read.
        line: the number of the block's first line in the file.
        ended: whether the file ends with the block. If not, the last row may be incomplete and is left out.
    """
    offset, size, careful = 0, len(block), False
    while offset < len(block):
        piece, last = block[offset : offset + size], offset + size >= len(block)
        whole = len(piece) if ended and last else _whole_rows(piece)
        rows = _read_well_formed(piece[:whole], dialect, columns) if whole else None
        if rows is None and not careful:
            size, careful = PIECE, True
            continue
        rows = rows or _RowByRow(piece, dialect, columns, line, ended and last).read()
        if rows.size:
            yield rows
            offset, line, size = offset + rows.size, line + rows.lines, PIECE
        elif last:
            return
        else:
            size *= 2


def guess_delimiter(line: str) -> str:
    """Return the delimiter that the schema does not declare, from the first line of the file."""
    unquoted = re.sub('"[^"]*"', "", line)
    delimiter = max(",;\t", key=unquoted.count)
    return delimiter if delimiter in unquoted or "|" not in unquoted else "|"


def header_names(path: Path, fields: Sequence[str]) -> list[str]:
    """Return the names of the columns from the fields of the first line.

    Raises:
        InputError: a name is repeated.
    """
    columns = [column or f"unnamed {number}" for number, column in enumerate(fields, 1)]
    repeated = {column for column in columns if columns.count(column) > 1}
    if repeated:
        raise InputError(
            f"{path}: several columns are named '{min(repeated)}'; rename all but one of them{header_hint(columns)}"
        )
    return columns


def header_hint(columns: Sequence[str]) -> str:
    """Return what to do if the names in the first line of a file seem to be data; empty if they do not."""
    if not any(re.fullmatch(r"[-+]?\d+([.,]\d+)?", column) for column in columns):
        return ""
    return (
        "; if the first line is data, name the columns in the schema: csv: {columns: [...]} ('lum schema' proposes it)"
    )


def not_utf8(path: Path, reason: str, encoding: str = "latin1") -> InputError:
    """Return the error for a file in another encoding."""
    return InputError(
        f"{path}: the file is not UTF-8 ({reason}); name its encoding in the schema, such as csv: {{encoding: {encoding}}}, or "
        f"convert it, for example: iconv -f {encoding} -t utf-8 OLD > NEW"
    )


def _count_lines(data: bytes) -> int:
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def _whole_rows(block: bytes) -> int:
    """Return the number of bytes of whole rows in a block. A row is whole if its number of quotes is even."""
    end, outside = len(block), block.count(b'"') % 2 == 0
    while True:
        quote = block.rfind(b'"', 0, end)
        if outside:
            # A `\r` at the end of the block may be followed by `\n` in the next block.
            line_end = max(block.rfind(b"\n", quote + 1, end), block.rfind(b"\r", quote + 1, min(end, len(block) - 1)))
            if line_end >= 0:
                return line_end + 1
        if quote < 0:
            return 0
        end, outside = quote, not outside


def _is_well_quoted(block: bytes, delimiter: bytes) -> bool:
    """Return whether every quote certainly begins a field, ends a field, or is doubled within a field."""
    escaped = re.escape(delimiter)
    if b'""' in block and re.search(rb'(?:\A|[\r\n%b])(?:"")++(?!["\r\n%b]|\Z)' % (escaped, escaped), block):
        return False  # text after the quotes of an empty field
    parts = block.replace(b'""', b"").split(b'"')
    around = b"\r\n" + delimiter
    between = set(parts[2:-1:2])
    return (
        len(parts) % 2 == 1
        and all(part and part[0] in around and part[-1] in around for part in between)
        and (not parts[0] or parts[0][-1] in around)
        and (len(parts) == 1 or not parts[-1] or parts[-1][0] in around)
    )


def _read_well_formed(block: bytes, dialect: Dialect, columns: Sequence[str]) -> CsvRows | None:
    """Return the rows of a block in which every row is well formed; None if some rows may be malformed."""
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
    for name, column_type in FAULT_TYPES.items():
        table = table.append_column(name, pa.nulls(len(table), column_type))
    return CsvRows(table, len(block), _count_lines(block))


class _RowByRow:
    """Reads a block row by row; after a malformed line it continues with the next line."""

    def __init__(self, block: bytes, dialect: Dialect, columns: Sequence[str], line: int, ended: bool) -> None:
        self.block, self.line, self.ended = block, line, ended
        self.delimiter, self.width = dialect.delimiter.encode(), len(dialect.columns)
        self.written_delimiter = dialect.written_delimiter.encode()
        self.requested = {name: dialect.columns.index(name) for name in columns}
        self.unquoted = re.compile(rb"[^\r\n%b]*" % re.escape(self.delimiter))
        self.values: dict[str, list[str | int | None]] = {name: [] for name in [*columns, *FAULT_TYPES]}
        self.faults: list[str] = []

    def read(self) -> CsvRows:
        """Return all rows except an incomplete last row."""
        offset, first = 0, self.line
        while offset < len(self.block):
            if end := _LINE_ENDS.match(self.block, offset):  # an empty line
                if self._may_continue(end.end()):
                    break
                self.line, offset = self.line + 1, end.end()
                continue
            after, fields = self._row(offset)
            if self._may_continue(after) and (fields is not None or after - offset < BLOCK):
                break
            values, fault = ([], OPEN_QUOTE) if fields is None else self._values(fields)
            if fault:
                after = self._end_of_line(offset)
                if self._may_continue(after):
                    break
            self._add(values, fault, self.block[offset:after])
            self.line, offset = self.line + _count_lines(self.block[offset:after]), after
            if fault and len(self.block) > PIECE:
                break
        table = pa.table({name: pa.array(v, FAULT_TYPES.get(name, pa.string())) for name, v in self.values.items()})
        return CsvRows(table, offset, self.line - first, len(self.faults), self.faults.count(NOT_UTF8))

    def _may_continue(self, end: int) -> bool:
        """Return whether a row that ends here may continue in the next block."""
        return end >= len(self.block) and not self.ended

    def _end_of_line(self, offset: int) -> int:
        line = _LINE.match(self.block, offset)
        assert line is not None
        return line.end()

    def _row(self, offset: int) -> tuple[int, list[bytes] | None]:
        """Return where the row that begins at an offset ends, and its fields; None if a quote is not closed."""
        fields, block = [], self.block
        limit = offset + BLOCK
        while True:
            if block[offset : offset + 1] == b'"':
                close = offset + 1
                while (close := block.find(b'"', close, limit)) >= 0 and block[close + 1 : close + 2] == b'"':
                    close += 2
                if close < 0:
                    return min(len(block), limit), None
                fields.append(block[offset + 1 : close].replace(b'""', b'"'))
                offset = close + 1
            else:
                value = self.unquoted.match(block, offset)
                assert value is not None
                fields.append(value.group())
                offset = value.end()
            if block[offset : offset + 1] == self.delimiter:
                offset += 1
            elif offset >= len(block):
                return offset, fields
            elif end := _LINE_ENDS.match(block, offset):
                return end.end(), fields
            else:
                return offset, None

    def _values(self, fields: list[bytes]) -> tuple[list[str | None], str]:
        """Return the requested values of a row, and its fault (empty if there is none)."""
        if len(fields) != self.width:
            return [], f"{MALFORMED}{len(fields)} field{'s' * (len(fields) > 1)} instead of {self.width}"
        try:
            return [fields[index].decode() or None for index in self.requested.values()], ""
        except UnicodeDecodeError:
            return [], NOT_UTF8

    def _add(self, values: list[str | None], fault: str, text: bytes) -> None:
        """Add a row: its values, or its fault and the text of its line."""
        text = text.replace(UNIT_SEPARATOR.encode(), self.written_delimiter)
        row: dict[str, str | None] = dict(zip(self.requested, values, strict=False))
        if fault:
            self.faults.append(fault)
            row |= {FAULT: fault, LINE_TEXT: text.rstrip(b"\r\n").decode(errors="replace")}
        for name, column in self.values.items():
            column.append(row.get(name))
        if fault:
            self.values[LINE_NUMBER][-1] = self.line
