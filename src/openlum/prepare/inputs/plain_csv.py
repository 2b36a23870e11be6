"""The bytes of any CSV file as UTF-8 with one character between two values, which is the form that `csv_rows` reads."""

import codecs
import gzip
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from openlum.errors import InputError
from openlum.file_format import CsvFormat

UNIT_SEPARATOR = "\x1f"
"""Stands for a delimiter of several bytes. ASCII has this character for this purpose."""
GZIP = b"\x1f\x8b"
OTHER_FORMATS = {
    b"PAR1": "Parquet; rename it so that its name ends in .parquet",
    b"PK\x03\x04": "a ZIP archive or an Excel sheet; unpack it, or save the sheet as CSV",
    b"BZh": "compressed by bzip2; unpack it, or compress it by gzip",
    b"\xfd7zXZ": "compressed by xz; unpack it, or compress it by gzip",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it, or compress it by gzip",
    b"ORC": "ORC; write it as Parquet",
    b"Obj\x01": "Avro; write it as Parquet",
    b"ARROW1": "Arrow IPC (Feather); write it as Parquet",
    b"\x80\x04\x95": "a pickle; write it as Parquet",
    b"\x80\x05\x95": "a pickle; write it as Parquet",
}
"""First bytes of files that are no CSV, and what they are."""
JSON = re.compile(rb'\s*(?:\{\s*["}]|\[\s*[\[\]{"])')


@contextmanager
def open_plain_csv(path: Path, csv: CsvFormat) -> Iterator[BinaryIO]:
    """Open a CSV file, decompressed, as UTF-8, with one byte between two values (`one_byte_delimiter`).

    Raises:
        InputError: the file is no CSV.
    """
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        start = raw.read(64)
        raw.seek(0)
        for magic, words in OTHER_FORMATS.items():
            if start.startswith(magic):
                raise InputError(f"{path}: expected CSV, but the file is {words}")
        file: Any = stack.enter_context(gzip.open(raw)) if start.startswith(GZIP) else raw
        if not is_raw(csv):
            file = codecs.EncodedFile(file, "utf-8", csv.encoding) if _changes_encoding(csv) else file
            if csv.delimiter and one_byte_delimiter(csv) != csv.delimiter:
                file = _OneByteDelimiter(file, csv.delimiter)
        yield cast(BinaryIO, file)


def is_raw(csv: CsvFormat) -> bool:
    """Return whether the bytes of a file are read as they are, apart from compression."""
    return not _changes_encoding(csv) and one_byte_delimiter(csv) == csv.delimiter


def one_byte_delimiter(csv: CsvFormat) -> str | None:
    """Return the delimiter in the bytes of `open_plain_csv`; None if it has to be guessed."""
    return UNIT_SEPARATOR if csv.delimiter and len(csv.delimiter.encode()) > 1 else csv.delimiter


def is_json(start: bytes) -> bool:
    """Return whether the first bytes of a file look like JSON."""
    return JSON.match(start) is not None


def _changes_encoding(csv: CsvFormat) -> bool:
    return codecs.lookup(csv.encoding).name not in ("utf-8", "ascii")


class _OneByteDelimiter:
    """The bytes of a file with `UNIT_SEPARATOR` in place of a longer delimiter."""

    def __init__(self, file: Any, delimiter: str) -> None:
        self._file, self._delimiter = file, delimiter.encode()

    def read(self, size: int) -> bytes:
        """Return about `size` bytes; none at the end of the file."""
        content = self._file.read(size)
        # A delimiter may be cut in two by the end of the bytes.
        while content and any(content.endswith(self._delimiter[:n]) for n in range(1, len(self._delimiter))):
            more = self._file.read(1)
            if not more:
                break
            content += more
        return content.replace(self._delimiter, UNIT_SEPARATOR.encode())
