"""The canonical text of a value, as an Ibis expression over columns; `data/canonical.py` has the same rule in Python."""

import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import ibis
import ibis.expr.types as ir

from openlum.data.canonical import DIGITS, EXPONENT, LARGEST_WHOLE, NUDGE, TRUTHS, WHOLE
from openlum.errors import InputError
from openlum.prepare.engines.engine import Engine

MISSING_WORDS = [
    "nan", "NaN", "NAN", "NaT", "NA", "<NA>", "N/A", "n/a", "None", "none", "null", "Null", "NULL", "nil", "undefined", r"\N",
    "inf", "-inf", "Inf", "-Inf", "Infinity", "-Infinity",
]  # fmt: skip
"""Text that other programs write for a missing value."""
FEW_DIGITS = {"float64": "decimal(15, 6)", "float32": "decimal(6, 2)"}
"""Decimals with enough digits to tell most floats apart: a fast way to the shortest text of most fractions."""
LARGEST_FLOAT = sys.float_info.max
EXACT = {"float64": 2**53, "float32": 2**24}
"""Floats of this size or more cannot represent every whole number, so several ids may have become the same float."""


def canonical_expression(raw: Any) -> Any:
    """Return `canonical.canonical_text` of a column of scalars as an expression; null where the value is missing."""
    raw_type = raw.type()
    if raw_type.is_string():
        return _canonical_of_text(raw.nullif(""))
    if raw_type.is_binary():
        return _canonical_of_text(utf8_or_hex(raw).nullif(""))
    if raw_type.is_floating():
        return _canonical_of_float(raw)
    if raw_type.is_decimal():
        printed = raw.cast("string")
        plain = ibis.ifelse(
            printed.contains("E"), _compute_once(printed, _without_exponent), printed.re_replace("[.]?0+$", "")
        )
        return plain if raw_type.scale else printed  # without a scale there is no fraction
    if raw_type.is_timestamp():
        return raw.cast("timestamp(6)").cast("string")
    return raw.cast("string")


def _canonical_of_text(raw: Any) -> Any:
    """Return text unchanged, except that numbers, true and false as other programs print them get their canonical text."""
    whole = raw.re_replace("[.]0+$", "")
    changed = ibis.cases(
        (_matches(raw, WHOLE), ibis.ifelse(whole == "-0", "0", whole)),
        (_matches(raw, EXPONENT), _compute_once(raw.try_cast("float64"), _canonical_of_float)),
        else_=raw.lower(),
    )
    # One pattern first, because most text matches none of the patterns.
    return ibis.ifelse(_matches(raw, "|".join([WHOLE, EXPONENT, *TRUTHS])), changed, raw)


def _matches(raw: Any, pattern: str) -> Any:
    return raw.re_search(rf"^(?:{pattern})\z")


def _canonical_of_float(raw: Any) -> Any:
    """Print a float: whole numbers with all digits, others with the fewest digits that parse to the same float.

    NaN and infinity become null.
    """
    finite = raw.abs() <= LARGEST_FLOAT  # engines order NaN above every number
    whole = (raw % 1 == 0) & (raw.abs() < LARGEST_WHOLE)
    float_type = str(raw.type().copy(nullable=True))
    few = raw.cast("float64").try_cast(FEW_DIGITS[float_type])
    return ibis.cases(
        (whole, _compute_once(raw.cast("float64"), _canonical_of_whole)),
        (few.cast("float64").cast(float_type) == raw, few.cast("string").re_replace("0+$", "")),
        (finite, _compute_once(raw, lambda value: _compute_once(_shortest_print(value), _without_exponent))),
        else_=ibis.null("string"),
    )


def _canonical_of_whole(value: Any) -> Any:
    """Print a float64 without a fraction and below `LARGEST_WHOLE` exactly; beyond int64 it is computed in two halves."""
    size = value.abs().clip(upper=LARGEST_WHOLE)
    high = (size / 2.0**63).floor()
    low = (size - high * 2.0**63).try_cast("int64")
    large = high.cast("decimal(19, 0)") * ibis.literal(Decimal(2**63), "decimal(19, 0)") + low.cast("decimal(19, 0)")
    sign = ibis.ifelse(value < 0, "-", "")
    return ibis.ifelse(size < 2.0**63, value.try_cast("int64").cast("string"), sign + large.cast("string"))


def _shortest_print(value: Any) -> Any:
    """Print a finite float with the fewest digits that parse to the same float."""
    float_type = str(value.type().copy(nullable=True))
    number = value.cast("float64") * NUDGE if float_type == "float32" else value
    prints = [printf(f"%.{digits}e", number) for digits in DIGITS[float_type]]
    same_float = [(text.try_cast("float64").cast(float_type) == value, text) for text in prints[:-1]]
    return ibis.cases(*same_float, else_=prints[-1])


def _without_exponent(printed: Any) -> Any:
    """Rewrite a number printed as -D.DDDe-N in plain notation, without trailing zeros in its fraction."""
    number = ibis.struct(
        {
            "sign": ibis.ifelse(printed.startswith("-"), "-", ""),
            "digits": printed.re_replace("[eE].*$", "").replace(".", "").replace("-", ""),
            "point": printed.re_extract("[eE][+]?(-?[0-9]+)$", 1).try_cast("int64") + 1,
        }
    )
    return _compute_once(number, _with_point).re_replace("[.]?0*$", "")


def _with_point(number: Any) -> Any:
    sign, digits, point = number["sign"], number["digits"], number["point"]
    large = digits.rpad(point, "0").substr(0, point) + "." + digits.substr(point)
    return sign + ibis.ifelse(point > 0, large, "0." + ibis.literal("0").repeat(-point) + digits)


def _compute_once(value: Any, function: Callable[[Any], Any]) -> Any:
    """Return `function(value)` so that the value is computed once. Otherwise Ibis repeats its expression at every use."""
    return ibis.array([value]).map(function)[0]


@ibis.udf.scalar.builtin(signature=(("string", "float64"), "string"))
def printf(format_string: Any, number: Any) -> Any:
    """Format a number as C's printf does."""


@ibis.udf.scalar.builtin(signature=(("binary",), "string"))
def utf8_or_hex(content: Any) -> Any:
    """Decode bytes as UTF-8, or print them as hexadecimal digits if they are not UTF-8; every engine defines this function."""


def doubtful_id_notes(identity: Any) -> dict[str, Any]:
    """Return the notes about ids that may stand for several entities or for a missing value, each with its boolean expression.

    Args:
        identity: ids as `conversion.convert` returns them.
    """
    id_type, notes = identity.type(), {}
    if id_type.is_string() or id_type.is_floating():
        notes[
            "that are floats beyond 2^53 or, in single precision, 2^24 (different ids may have merged: write integers or text)"
        ] = is_inexact(identity)
    if id_type.is_string():
        notes["such as nan, None or null (kept as ids)"] = identity.isin(MISSING_WORDS)
    return notes


def check_canonical(engine: Engine, vocabulary: ir.Table, file: str) -> None:
    """Raise an `InputError` if a value of a vocabulary is not in canonical form: new rows with the same value would not match it.

    Args:
        engine: the engine that computes tables.
        vocabulary: a table with the column value.
        file: the path of the vocabulary, for messages.
    """
    value = vocabulary["value"]
    different = vocabulary.filter(value != canonical_expression(value))
    for row in engine.fetch_rows(different.select("value", canonical=canonical_expression(value)).limit(1)):
        raise InputError(
            f"{file}: an older version wrote the value {row['value']!r}, which this version writes as {row['canonical']!r}; "
            "prepare the whole log again"
        )


def is_inexact(identity: Any) -> Any:
    """Return where an id is a float, or a printed float, that is too large to represent every whole number."""
    id_type = identity.type()
    if id_type.is_floating():
        return identity.abs() >= EXACT[str(id_type.copy(nullable=True))]
    if id_type.is_string():
        printed_float = _matches(identity, f"{WHOLE}|{EXPONENT}")
        return printed_float & (identity.try_cast("float64").abs() >= EXACT["float64"])
    return ibis.literal(False)
