"""Dates and times as people and programs write them: recognised in the columns of an engine, and in Python in a sample.

A date whose day and month are both numbers, such as 01/02/1995, is a time only if the schema declares their order.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import ibis
import ibis.expr.types as ir

from openlum.file_format import DateOrder
from openlum.prepare.engines.engine import Engine

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAME = (
    "(?P<name>(?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    "nov(?:ember)?|dec(?:ember)?))"
)
_CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?"
_ZONE = r"(?P<zone>Z|UTC|GMT|[-+]\d{2}(?::?\d{2})?)"
_REST = rf"(?:[T ,:]+{_CLOCK}\s?(?P<half>[AaPp]\.?[Mm]\.?)?\s?{_ZONE}?)?$"
_WEEKDAY = r"^(?:[A-Za-z]{3,9},? )?"
SPELLINGS = (
    rf"^(?P<year>\d{{4}})[-/.](?P<month>\d{{1,2}})[-/.](?P<day>\d{{1,2}}){_REST}",
    rf"{_WEEKDAY}(?P<day>\d{{1,2}})[-/ .]+{_NAME}[-/ .,]+(?P<year>\d{{4}}){_REST}",
    rf"{_WEEKDAY}{_NAME}\.?[-/ ]+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<year>\d{{4}}){_REST}",
    rf"^[A-Za-z]{{3}} {_NAME} +(?P<day>\d{{1,2}}) {_CLOCK} (?:{_ZONE} )?(?P<year>\d{{4}})$",
)
"""2025-12-31, 2025/12/31; 31-Dec-2025, Wed, 31 Dec 2025; December 31, 2025; Wed Dec 31 23:59:59 +0000 2025. Except for the last,
a time of day may follow."""
DAY_FIRST = rf"^(?P<day>\d{{1,2}})[-/.](?P<month>\d{{1,2}})[-/.](?P<year>\d{{4}}){_REST}"
ORDERED: dict[DateOrder, str] = {
    "dmy": DAY_FIRST,
    "mdy": DAY_FIRST.replace("<day>", "<swap>").replace("<month>", "<day>").replace("<swap>", "<month>"),
}
"""31/12/2025 or 12/31/2025."""
COMPACT = r"^(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})(?:(?P<hour>\d{2})(?P<minute>\d{2})(?P<second>\d{2})?)?$"
"""20251231, 202512312359, 20251231235959."""
NEEDS_DATE_ORDER = "day and month need their order; set 'date_order' in the schema to dmy or mdy"
_MINUTE = 60_000_000


def spellings(date_order: DateOrder | None) -> tuple[str, ...]:
    """Return the patterns of all spellings that are times."""
    return (*SPELLINGS, *([ORDERED[date_order]] if date_order else []))


def time_of_text(raw: Any, patterns: Iterable[str] = ()) -> Any:
    """Return microseconds since 1970 of a text column; null where the text is no time.

    A time without an offset is UTC: the cast to a type with a time zone reads the offset, and the engine's session zone is UTC.

    Args:
        raw: the column.
        patterns: those of `spellings` that may occur. ISO 8601 is always read.
    """
    iso = epoch_us(raw.try_cast("timestamp('UTC')").cast("timestamp"))
    return ibis.coalesce(iso, *(_time_of_spelling(raw.strip(), pattern) for pattern in patterns))


def occurring_spellings(engine: Engine, raw: ir.Table, role: str, date_order: DateOrder | None) -> tuple[str, ...]:
    """Return those of `spellings` that occur in a text column and are not ISO 8601, and `DAY_FIRST` if the order is not declared.

    An expression for every spelling would slow down each query, and nearly all logs have ISO 8601 or numbers.
    """
    text = raw[role]
    is_plain = text.try_cast("timestamp('UTC')").notnull() | text.try_cast("float64").notnull() | (text == "")
    unusual = raw.filter(~is_plain).select(text=text.strip())
    patterns = (*spellings(date_order), *(() if date_order else (DAY_FIRST,)))
    found = unusual.aggregate(
        **{f"s{n}": unusual["text"].re_search(_without_names(pattern)).sum() for n, pattern in enumerate(patterns)}
    )
    numbers = engine.fetch_rows(found)[0].values()
    return tuple(pattern for pattern, number in zip(patterns, numbers, strict=True) if number)


def time_of_number(text: Any) -> Any:
    """Return microseconds since 1970 of numbers such as 20251231, as text; null where a number is no date."""
    return _time_of_spelling(text, COMPACT)


def is_ordered_date(raw: Any) -> Any:
    """Return where a text is a date whose day and month are both numbers, before the year."""
    return raw.strip().re_search(_without_names(DAY_FIRST))


def parse_time(text: str, date_order: DateOrder | None) -> float | None:
    """Return the seconds since 1970 of a text, to the second, as `time_of_text` does; None if it is no time."""
    for spelling in spellings(date_order):
        if match := re.match(spelling, text.strip(), re.ASCII):
            return _seconds(match.groupdict())
    return None


def parse_compact(text: str) -> float | None:
    """Return the seconds since 1970 of a number such as 20251231; None if it is no date."""
    match = re.match(COMPACT, text, re.ASCII)
    return _seconds(match.groupdict()) if match else None


def _seconds(parts: dict[str, str | None]) -> float | None:
    name, half, zone = parts.get("name"), parts.get("half"), parts.get("zone")
    month = MONTHS.index(name[:3].lower()) + 1 if name else int(parts["month"] or 0)
    hour = int(parts.get("hour") or 0)
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (half[0] in "Pp")
    offset = timedelta()
    if zone and zone[0] in "+-":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:])) * (-1 if zone[0] == "-" else 1)
    try:
        clock = hour, int(parts.get("minute") or 0), int(parts.get("second") or 0)
        moment = datetime(int(parts["year"] or 0), month, int(parts["day"] or 0), *clock, tzinfo=timezone(offset))
    except ValueError:
        return None
    return moment.astimezone(UTC).timestamp()


def _time_of_spelling(text: Any, spelling: str) -> Any:
    """Return microseconds since 1970 where a text has a spelling; null elsewhere."""
    groups, plain = re.compile(spelling).groupindex, _without_names(spelling)

    def part(name: str) -> Any:
        return text.re_extract(plain, groups[name]) if name in groups else ibis.literal("")

    name = part("name").lower()[:3]
    month = ibis.cases(*((name == month, f"{number:02}") for number, month in enumerate(MONTHS, 1)), else_="")
    month = month if "name" in groups else part("month").lpad(2, "0")
    hour, second, fraction = part("hour"), part("second"), part("fraction")
    half, zone = part("half").lower()[:1], part("zone")
    in_half = ibis.cases((half == "", hour), (hour.isin(["12"]), "0"), else_=hour).lpad(2, "0")
    clock = ibis.ifelse(
        hour == "", "00:00:00", in_half + ":" + part("minute") + ":" + ibis.ifelse(second == "", "00", second)
    )
    iso = part("year") + "-" + month + "-" + part("day").lpad(2, "0") + " " + clock
    iso = iso + ibis.ifelse(fraction == "", "", ibis.literal(".") + fraction)
    valid = text.re_search(plain) & ((half == "") | hour.try_cast("int64").between(1, 12))
    time = epoch_us(ibis.ifelse(valid, iso, ibis.null("string")).try_cast("timestamp"))
    digits = zone[1:].replace(":", "").rpad(4, "0")
    minutes = digits[:2].try_cast("int64") * 60 + digits[2:4].try_cast("int64")
    offset = ibis.cases((zone.startswith("-"), -minutes), (zone.startswith("+"), minutes), else_=0)
    return time + ibis.ifelse(half == "p", 12 * 60 * _MINUTE, 0) - offset * _MINUTE


def _without_names(pattern: str) -> str:
    """Return a pattern without the names of its groups, which engines write in different ways."""
    return re.sub(r"\?P<\w+>", "", pattern)


@ibis.udf.scalar.builtin(signature=(("timestamp",), "int64"))
def epoch_us(timestamp: Any) -> Any:
    """Return microseconds since 1970: DuckDB has this function, and `SparkEngine` defines it."""
