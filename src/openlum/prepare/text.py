"""The one text of a value, as an expression over the columns of a table; `canonical.py` has the same rule in Python."""

import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import ibis
import ibis.expr.types as ir

from openlum.data.canonical import DIGITS, EXPONENT, LARGEST_WHOLE, NUDGE, TRUTHS, WHOLE
from openlum.errors import InputError
from openlum.prepare.engines.engine import Engine

NO_VALUES = [
    "nan", "NaN", "NAN", "NaT", "NA", "<NA>", "N/A", "n/a", "None", "none", "null", "Null", "NULL", "nil", "undefined", r"\N",
    "inf", "-inf", "Inf", "-Inf", "Infinity", "-Infinity",
]  # fmt: skip
"""Text that other programs write where a value is missing."""
FEW_DIGITS = {"float64": "decimal(15, 6)", "float32": "decimal(6, 2)"}
"""Decimals that differ where their floats do: for most fractions a quick way to the fewest digits."""
LARGEST_FLOAT = sys.float_info.max
EXACT = {"float64": 2**53, "float32": 2**24}
"""From here on floats skip whole numbers, so that different ids may have become one."""


def text(raw: Any) -> Any:
    """`canonical.canonical` as an expression: the one text of any scalar; null where it is missing."""
    of = raw.type()
    if of.is_string():
        return _text_as_read(raw.nullif(""))
    if of.is_binary():
        return _text_as_read(utf8_or_hex(raw).nullif(""))
    if of.is_floating():
        return _text_of_float(raw)
    if of.is_decimal():
        printed = raw.cast("string")
        plain = ibis.ifelse(printed.contains("E"), _once(printed, _without_exponent), printed.re_replace("[.]?0+$", ""))
        return plain if of.scale else printed
    if of.is_timestamp():
        return raw.cast("timestamp(6)").cast("string")
    return raw.cast("string")


def _text_as_read(raw: Any) -> Any:
    """Text, and what other programs print for a number, true or false as we write it."""
    whole = raw.re_replace("[.]0+$", "")
    changed = ibis.cases(
        (_fits(raw, WHOLE), ibis.ifelse(whole == "-0", "0", whole)),
        (_fits(raw, EXPONENT), _once(raw.try_cast("float64"), _text_of_float)),
        else_=raw.lower(),
    )
    # One pattern for all, as most text fits none.
    return ibis.ifelse(_fits(raw, "|".join([WHOLE, EXPONENT, *TRUTHS])), changed, raw)


def _fits(raw: Any, pattern: str) -> Any:
    return raw.re_search(rf"^(?:{pattern})\z")


def _text_of_float(raw: Any) -> Any:
    """Whole numbers with all their digits, others with the fewest that read as the same float; NaN and infinity are missing."""
    finite = raw.abs() <= LARGEST_FLOAT  # NaN is more than any number
    whole = (raw % 1 == 0) & (raw.abs() < LARGEST_WHOLE)
    of = str(raw.type().copy(nullable=True))
    few = raw.cast("float64").try_cast(FEW_DIGITS[of])
    return ibis.cases(
        (whole, _once(raw.cast("float64"), _text_of_whole)),
        (few.cast("float64").cast(of) == raw, few.cast("string").re_replace("0+$", "")),
        (finite, _once(raw, lambda value: _once(_shortest(value), _without_exponent))),
        else_=ibis.null("string"),
    )


def _text_of_whole(value: Any) -> Any:
    """A float64 without a fraction, below `LARGEST_WHOLE`: exact, in two halves where it is no int64."""
    size = value.abs().clip(upper=LARGEST_WHOLE)
    high = (size / 2.0**63).floor()
    low = (size - high * 2.0**63).try_cast("int64")
    large = high.cast("decimal(19, 0)") * ibis.literal(Decimal(2**63), "decimal(19, 0)") + low.cast("decimal(19, 0)")
    sign = ibis.ifelse(value < 0, "-", "")
    return ibis.ifelse(size < 2.0**63, value.try_cast("int64").cast("string"), sign + large.cast("string"))


def _shortest(value: Any) -> Any:
    """A finite float as printed with the fewest digits that read as the same float."""
    of = str(value.type().copy(nullable=True))
    number = value.cast("float64") * NUDGE if of == "float32" else value
    tried = [printf(f"%.{digits}e", number) for digits in DIGITS[of]]
    return ibis.cases(*[(t.try_cast("float64").cast(of) == value, t) for t in tried[:-1]], else_=tried[-1])


def _without_exponent(printed: Any) -> Any:
    """A number printed as -D.DDDe-N, in plain notation, without zeros at the end of its fraction."""
    number = ibis.struct(
        {
            "sign": ibis.ifelse(printed.startswith("-"), "-", ""),
            "digits": printed.re_replace("[eE].*$", "").replace(".", "").replace("-", ""),
            "point": printed.re_extract("[eE][+]?(-?[0-9]+)$", 1).try_cast("int64") + 1,
        }
    )
    return _once(number, _with_point).re_replace("[.]?0*$", "")


def _with_point(number: Any) -> Any:
    sign, digits, point = number["sign"], number["digits"], number["point"]
    large = digits.rpad(point, "0").substr(0, point) + "." + digits.substr(point)
    return sign + ibis.ifelse(point > 0, large, "0." + ibis.literal("0").repeat(-point) + digits)


def _once(value: Any, then: Callable[[Any], Any]) -> Any:
    """`then(value)`, where the value is computed once: without this the expressions would grow by every mention of it."""
    return ibis.array([value]).map(then)[0]


@ibis.udf.scalar.builtin(signature=(("string", "float64"), "string"))
def printf(form: Any, number: Any) -> Any:
    """A number as C prints it."""


@ibis.udf.scalar.builtin(signature=(("binary",), "string"))
def utf8_or_hex(content: Any) -> Any:
    """Bytes as the text that they encode, or as hexadecimal digits where they are no UTF-8; every engine defines it."""


def doubtful(identity: Any) -> dict[str, Any]:
    """Where an id, as `values.convert` returns it, may stand for several or for none: a note to a condition."""
    of, notes = identity.type(), {}
    if of.is_string() or of.is_floating():
        notes[
            "that are floats beyond 2^53 or, in single precision, 2^24 (ids may have become one: write integers or text)"
        ] = inexact(identity)
    if of.is_string():
        notes["such as nan, None or null (kept as ids)"] = identity.isin(NO_VALUES)
    return notes


def check_texts(engine: Engine, vocabulary: ir.Table, file: str) -> None:
    """Refuse a vocabulary with values that are written otherwise today: new rows would not meet them.

    Raises:
        InputError: names the first.
    """
    value = vocabulary["value"]
    for row in engine.rows(vocabulary.filter(value != text(value)).select("value", read=text(value)).limit(1)):
        raise InputError(
            f"{file}: an older version wrote the value {row['value']!r}, which is {row['read']!r} today; prepare the whole log "
            "anew"
        )


def inexact(identity: Any) -> Any:
    """Where an id is a float, or was printed by one, beyond what floats tell apart."""
    of = identity.type()
    if of.is_floating():
        return identity.abs() >= EXACT[str(of.copy(nullable=True))]
    if of.is_string():
        written = _fits(identity, f"{WHOLE}|{EXPONENT}")
        return written & (identity.try_cast("float64").abs() >= EXACT["float64"])
    return ibis.literal(False)
