"""Which questions are asked."""

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from openlum.config import Question, Settings

FROM_ROW = "$row"
"""A question's value that stands for the impression's own."""
ALL_FIELDS = "*"
"""A question's key that stands for every field it does not name."""


class QuerySettings(Settings):
    """Settings of `lum query`."""

    questions: dict[str, Question] = Field(default={"any": {}}, min_length=1, max_length=1000)
    """Name to question: condition fields and their raw values. `$row` takes the impression's own value, and `"*": $row` does so
    for every field not named; what is not named is *any*."""
    predict_feedback: bool = True
    """Whether every impression's own item is asked about: which feedback would the user give to it, or would the user take it,
    in a log without feedback?"""
    as_of: Literal["impression", "day"] = "impression"
    """What an answer knows: all events before the impression, or only those before its day (UTC), as a nightly run would."""
    dtype: Literal["float16", "int8"] = "float16"
    """How vectors are stored. `int8` halves the size; similarities and feedback predictions stay as they are."""
    batch_events: int = Field(4096, ge=16, le=10**8)
    """Events and questions in a batch."""
    rows_per_part: int = Field(100_000, ge=1, le=10**8)
    """Rows of a Parquet part."""

    @field_validator("questions")
    @classmethod
    def _names_are_column_names(cls, questions: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, question in questions.items():
            if not re.fullmatch(r"\w+", name):
                raise ValueError(f"question name '{name}' may have letters, digits and underscores only")
            if question.get(ALL_FIELDS, FROM_ROW) != FROM_ROW:
                raise ValueError(f"question '{name}': '{ALL_FIELDS}' can only be '{FROM_ROW}'")
        return questions
