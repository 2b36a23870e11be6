"""The language of questions in an experiment file: values and keys that begin with `$`, and the key `"*"`.

A question maps condition fields to values. Beside a raw value, a field may have one of these values:

- `$row`: the value of the impression;
- `$item`, `$item.FEATURE`: the value of a feature of the impression's item, by default the feature with the field's name;
- `$each`: every value of the field, one question each;
- `$topK`, such as `$top3`: the K values that the user's events before the question have most often, one question each.

A raw value that begins with `$` is written with `$$`. The key `"*": $row` gives every field that the question leaves out, except
feedback, the value of the impression. The key `$after: 7d` moves the time of the fields `hour`, `weekday` and `gap` that the
question takes from the impression. `$learned: true` stands for the learned questions of the model.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openlum.errors import InputError
from openlum.field_spec import SECONDS

FROM_ROW = "$row"
"""A field's value in a question that means: the value of the impression."""
ALL_FIELDS = "*"
"""A key in a question that means: every field that the question leaves out."""
AFTER = "$after"
"""A key in a question whose value is the time from the impression to the question."""
LEARNED = "$learned"
"""A key in a question that means: the learned questions of the model."""
MAX_QUESTIONS = 1000
"""Largest number of questions about a row."""


@dataclass(frozen=True)
class FromRow:
    """The value of the impression."""


@dataclass(frozen=True)
class FromItem:
    """The value of a feature of the impression's item."""

    feature: str
    """Name of the feature in the item table."""


@dataclass(frozen=True)
class Each:
    """Every value of the field."""


@dataclass(frozen=True)
class Top:
    """The user's most frequent values of the field."""

    k: int
    """Number of values."""


@dataclass(frozen=True)
class ParsedQuestion:
    """A question without its syntax."""

    values: dict[str, Any]
    """Condition field to `FromRow`, `FromItem`, `Each`, `Top`, or its raw value."""
    rest_from_row: bool
    """Whether the fields that the question leaves out have the values of the impression."""
    after: int
    """Seconds from the impression to the question."""
    learned: bool
    """Whether the question stands for the learned questions of the model."""

    @property
    def is_fixed(self) -> bool:
        """Whether the question takes no value from an impression, so that it can be asked about a user as of any time."""
        return not self.rest_from_row and not any(isinstance(v, FromRow | FromItem) for v in self.values.values())

    @property
    def is_several(self) -> bool:
        """Whether the question stands for several questions."""
        return self.learned or any(isinstance(value, Each | Top) for value in self.values.values())


def parse_question(question: Mapping[str, Any]) -> ParsedQuestion:
    """Return the meaning of a question.

    Raises:
        InputError: a value or a key that begins with `$` is wrong. The message names the field.

    Example:
        >>> parse_question({"scenario": "$each", "category": "$top3"}).values
        {'scenario': Each(), 'category': Top(k=3)}
    """
    if question.get(ALL_FIELDS, FROM_ROW) != FROM_ROW:
        raise InputError(f"the value of '{ALL_FIELDS}' must be '{FROM_ROW}'")
    for key in question:
        if key.startswith("$") and key not in (AFTER, LEARNED):
            raise InputError(f"unknown key '{key}'; choose from {AFTER} and {LEARNED}")
    if LEARNED in question and (len(question) > 1 or question[LEARNED] is not True):
        raise InputError(f"'{LEARNED}: true' must be the only key: a learned question has no condition fields")
    values = {
        name: _parse_value(name, value) for name, value in question.items() if name not in (ALL_FIELDS, AFTER, LEARNED)
    }
    after = _seconds(question[AFTER]) if AFTER in question else 0
    return ParsedQuestion(values, ALL_FIELDS in question, after, LEARNED in question)


def _parse_value(field: str, value: Any) -> Any:
    if not (isinstance(value, str) and value.startswith("$")):
        return value
    if value.startswith("$$"):
        return value[1:]
    if value == FROM_ROW:
        return FromRow()
    if value == "$each":
        return Each()
    if top := re.fullmatch(r"\$top([1-9][0-9]{0,2})", value):
        return Top(int(top[1]))
    if item := re.fullmatch(r"\$item(?:\.(.+))?", value):
        return FromItem(item[1] or field)
    raise InputError(
        f"condition field '{field}': unknown token '{value}'; choose from $row, $item, $item.FEATURE, $each and $topK (such as "
        f"$top3), or write '${value}' for a raw value that begins with $"
    )


def _seconds(value: Any) -> int:
    """Return the number of seconds of a time such as `7d`."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})([shd])", str(value))
    if not match:
        raise InputError(f"'{AFTER}': expected a time such as 12h or 7d (s, h or d), found '{value}'")
    return int(match[1]) * SECONDS[match[2]]
