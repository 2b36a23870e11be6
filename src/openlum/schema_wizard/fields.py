"""A field for a column: its type, what goes with it, and whether it is worth having."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from openlum.data.canonical import LIST_MARK
from openlum.schema_wizard.facts import NEARLY_ALL, Facts
from openlum.schema_wizard.names import ACTIONS, AMOUNTS, CLOCK, CODES, PASSING, ROW, has, rank, reaction, words

Table = Literal["events", "impressions", "items", "users"]

FEW = 50
"""Different integers that are ids rather than amounts."""
MANY = 1_000
"""Values of a category, for a hint at rare ones."""
ENOUGH = 50
"""Rows, for every one's being different to mean something."""
MOST_VALUES = 50
"""Of a list, that are proposed to be kept."""


@dataclass(frozen=True)
class Field:
    """A proposed field."""

    name: str
    """In the schema."""
    facts: Facts
    """Of its column."""
    settings: dict[str, Any]
    """Key to value, the type first."""
    notes: dict[str, str] = field(default_factory=dict)
    """Key to a comment; a key that is not in `settings` is an alternative, commented out: 'VALUE # WHY'."""
    off: str = ""
    """Why it is proposed commented out, if it is."""

    @property
    def feedback(self) -> bool:
        """It is the user's reaction."""
        return bool(self.settings.get("feedback"))


def propose_fields(columns: Sequence[Facts], table: Table) -> list[Field]:
    """Propose fields for columns of one of the tables; no two have one name."""
    fields: dict[str, Field] = {}
    for facts in columns:
        name = first = _field_name(facts.name, table)
        while name in fields:
            name = f"{first}_{len(fields)}"
        fields[name] = _propose_field(facts, table, name)
    return list(fields.values())


def _propose_field(facts: Facts, table: Table, name: str) -> Field:
    settings, notes = _encoding(facts)
    if name != facts.name:
        settings["column"] = facts.name
        notes["column"] = "in the file; the name is taken, or has characters that a field can't have"
    if table == "events" and (told := _told(facts)):
        if (
            facts.kind == "number"
            and facts.distinct <= FEW
            and has(facts.name, {"rating", "score", "stars", "overall"})
        ):
            settings = {"type": "categorical"} | {k: v for k, v in settings.items() if k == "column"}
        settings["feedback"] = True
        notes["feedback"] = f"a guess: {told}; unknown when an item is ranked"
    elif table == "events" and has(facts.name, {"duration", "seconds", "percent"}):
        notes["type"] = "if it is how long the user stayed, add 'feedback: true'"
    off = _useless(facts, settings["type"]) or (_of_the_moment(facts) if table in ("events", "impressions") else "")
    if not off and table == "impressions" and (told := _told(facts)):
        off = f"a guess: {told}, which would give the label away"
    return Field(name, facts, settings, notes, off)


def _encoding(facts: Facts) -> tuple[dict[str, Any], dict[str, str]]:
    """The type of a field with its settings, and comments."""
    match facts.kind:
        case "moment":
            return {"type": "time"}, {}
        case "list":
            return _list(facts)
        case "number":
            return _number(facts)
        case "integer" if not _codes(facts):
            return _number(facts)
    notes = {}
    if mark := _list_mark(facts):
        notes["type"] = f"lists joined by '{mark}'? Joined by '{LIST_MARK}', or as lists in Parquet, they can be multi"
    if facts.distinct > MANY:
        notes["min_count"] = "5  # instead of all values: rarer ones become unknown"
        notes["hash_rows"] = f"{_power_of_two(facts.distinct)}  # or: no vocabulary, values are hashed to so many ids"
    return {"type": "categorical"}, notes


def _codes(facts: Facts) -> bool:
    """Integers stand for something; they are no amounts."""
    if has(facts.name, AMOUNTS) and not has(facts.name, {"id", "type", "code"}):
        return facts.distinct <= 5
    return facts.distinct <= FEW or has(facts.name, CODES)


def _number(facts: Facts) -> tuple[dict[str, Any], dict[str, str]]:
    spread = facts.numbers.std()
    skewness = ((facts.numbers - facts.numbers.mean()) ** 3).mean() / spread**3 if spread else 0.0
    if facts.distinct > FEW and abs(skewness) > (1 if has(facts.name, AMOUNTS) else 2):
        return {"type": "numeric", "buckets": 20}, {"buckets": "very uneven; without buckets it is standardised"}
    dense = facts.kind == "integer" and facts.distinct > 0.9 * (np.ptp(facts.numbers) + 1)
    codes = dense and not has(facts.name, AMOUNTS)
    return {"type": "numeric"}, {"type": "if these are codes, not amounts: categorical"} if codes else {}


def _list(facts: Facts) -> tuple[dict[str, Any], dict[str, str]]:
    lengths = facts.lengths
    if facts.of_numbers:
        return {"type": "vector", "width": int(lengths.max())}, {}
    kept = int(np.clip(np.quantile(lengths, 0.99, method="higher"), 1, MOST_VALUES))
    notes = {"max_values": f"99 of 100 rows have no more; the longest has {lengths.max()}"}
    if lengths.min() == lengths.max() > 8:
        notes["type"] = f"if it is an embedding: type: vector, width: {kept}"
    elif facts.distinct > MANY:
        notes["min_count"] = "5  # instead of all values: rarer ones become unknown"
    return {"type": "multi", "max_values": kept}, notes


def _list_mark(facts: Facts) -> str | None:
    """What seems to stand between the values of lists written as text."""
    texts = [value for value in facts.common if facts.kind == "text" and not value.startswith(("[", "("))]
    marks = (mark for mark in ",;" if sum(mark in value for value in texts) > 0.1 * len(texts))
    return next(marks, None)


def _useless(facts: Facts, kind: str) -> str:
    """Why a column is no use as it is; empty if it is."""
    one_each = facts.distinct > 0.9 * facts.filled and facts.filled >= ENOUGH
    if facts.kind == "empty":
        return "no value"
    if facts.kind == "nested":
        return "of a type that `lum prepare` does not read; write what it holds as columns of their own"
    if not facts.name or facts.name.lower().startswith(("unnamed", "__index")):
        return "the number of the row"
    if facts.kind == "list":
        if facts.of_numbers and facts.lengths.min() != facts.lengths.max():
            return "lists of numbers must all have one length to be vectors"
        return ""
    if facts.distinct == 1:
        return f"always {facts.common[0]!r}" if facts.common else "always the same"
    if kind == "numeric" and facts.refused_part > 1 - NEARLY_ALL:
        return f"rows with {facts.refused!r} are refused: write them as null, or leave them empty"
    if facts.kind == "text":
        if facts.words >= 5 and facts.distinct > 0.2 * facts.filled and facts.distinct > FEW:
            return "free text: give an embedding of it as a vector"
        if facts.refused and facts.distinct > FEW and not _list_mark(facts):
            return "write the odd values as null, or leave them empty, and it may be numeric"
        return "nearly every row has its own" if one_each else ""
    return "every row has its own" if one_each and facts.unique and _codes(facts) else ""


def _of_the_moment(facts: Facts) -> str:
    """Why a column says nothing of later events or impressions; empty if it does."""
    if facts.kind == "moment" or has(facts.name, CLOCK):
        return "the time fields below tell the time"
    one_each = facts.unique and facts.filled >= ENOUGH
    if facts.kind == "integer" and one_each and (rank(facts.name, ROW) is not None or has(facts.name, CODES)):
        return "every row has its own"
    if has(facts.name, PASSING) and (words(facts.name)[-1] in {"id", "key"} or facts.distinct > 0.1 * facts.filled):
        return "an id that does not come again"
    return ""


def _told(facts: Facts) -> str | None:
    """What a column tells of the user's reaction, in words, if it does."""
    if facts.kind in ("moment", "list", "nested", "empty"):
        return None
    if told := reaction(facts.name):
        return told
    spelt = {word for value in facts.common for word in (value.lower(), value.lower().removesuffix("s"))}
    spelt = {re.sub(r"[^a-z]", "", word) for word in spelt}
    acts = facts.kind == "text" and facts.distinct <= FEW and len(spelt & ACTIONS) * 2 >= min(facts.distinct, 4)
    return "its values are actions of the user" if acts else None


def _field_name(column: str, table: Table) -> str:
    """A name that a schema accepts: it becomes part of a file name."""
    kept = "".join(sign if sign.isalpha() or sign.isdecimal() or sign in "_ .-" else "?" for sign in column)
    name = re.sub(r"\?+", "_", kept).strip() or "unnamed"
    taken = {"item", "time", "hour", "weekday", "gap"} if table in ("events", "impressions") else set()
    return f"{name}_column" if name in taken else name


def _power_of_two(distinct: int) -> int:
    """A few times as many as there are values in the sample."""
    return int(min(2 ** np.ceil(np.log2(distinct * 8)), 2**22))
