"""How the files of a table write their rows and their times, where `lum prepare` cannot see it from the files themselves."""

import codecs
import re
from datetime import UTC, date, datetime, time
from typing import Literal

from pydantic import Field, field_validator

from openlum.config import Settings

TimeUnit = Literal["s", "ms", "us", "ns", "yyyymmdd"]
DateOrder = Literal["dmy", "mdy"]


class CsvFormat(Settings):
    """The format of CSV files. Without these keys, the first line has the names of the columns, in UTF-8."""

    columns: list[str] | None = Field(None, min_length=1)
    """Names of all columns, in their order, for files whose first line is data."""
    delimiter: str | None = Field(None, min_length=1, max_length=3)
    """Text between two values, such as a tab (written "\\t"), `|` or `::`. By default the most frequent of comma, semicolon and
    tab in the first line, or `|` if the line has none of them."""
    encoding: str = "utf-8"
    """Encoding of the text, such as `latin-1`, `cp1252` or `utf-16`."""
    decimal: Literal[".", ","] = "."
    """Decimal mark. With a comma, `1.234,5` and `1234,5` are the number 1234.5, in numbers and in categories."""

    @field_validator("columns")
    @classmethod
    def _names_differ(cls, columns: list[str] | None) -> list[str] | None:
        for name in columns or []:
            if not name:
                raise ValueError("a column has no name; name every column of the file, such as 'column_3'")
            if (columns or []).count(name) > 1:
                raise ValueError(f"the name '{name}' occurs twice; give every column of the file a name of its own")
        return columns

    @field_validator("delimiter")
    @classmethod
    def _is_a_delimiter(cls, delimiter: str | None) -> str | None:
        if delimiter is not None and re.search(r'[\w"\r\n.+-]', delimiter):
            raise ValueError(
                f"{delimiter!r} cannot separate values; name the text between two values, such as ';', \"\\t\" or '::'"
            )
        return delimiter

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str) -> str:
        try:
            is_text = codecs.lookup(encoding)._is_text_encoding
        except (LookupError, ValueError):
            is_text = False
        if not is_text:
            raise ValueError(f"unknown encoding '{encoding}'; expected for example utf-8, latin-1, cp1252 or utf-16")
        return encoding


DEFAULT_CSV = CsvFormat()


def parse_time(text: str, time_of_day: time) -> int:
    """Return a date or time (ISO 8601, UTC without an offset) in microseconds since 1970; `time_of_day` completes a date.

    Raises:
        ValueError: the text is neither a date nor a time.
    """
    try:
        try:
            instant = datetime.combine(date.fromisoformat(text), time_of_day)
        except ValueError:
            instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a date; expected a date such as 2025-12-31 or 2025-12-31T23:59:59") from None
    return round((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1_000_000)
