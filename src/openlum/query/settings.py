"""The settings of knowledge querying."""

import re
from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from openlum.config import Question, Settings
from openlum.errors import InputError
from openlum.query.language import MAX_QUESTIONS, parse_question

Tier = Literal["nightly", "fresh"]
"""A tier of knowledge that the matching head predicts."""


class QuerySettings(Settings):
    """Settings of `lum query`."""

    questions: dict[str, Question] = Field(default={"any": {}}, min_length=1, max_length=MAX_QUESTIONS)
    """Name to question: condition fields with their raw values. Instead of a value, `$row` is the impression's value; `"*": $row`
    sets it for every field that the question leaves out and that is not feedback. Other fields are *any*. `$item` is the value of
    the impression's item; `$each`, every value; `$top3`, the three that are most frequent in the user's history. The key `$after`
    moves the time of the question; `$learned: true` asks the learned questions of the model."""
    predict_feedback: bool = True
    """Whether to predict the feedback of the user to each impression's item; in a log without feedback fields, whether the user
    would take the item."""
    matching_head: list[Tier] = ["nightly", "fresh"]
    """What the matching head predicts each impression's feedback from: `nightly`, user vectors as of the beginning of its day
    (UTC); `fresh`, user vectors as of the impression. [] for no such predictions."""
    as_of: Literal["impression", "day"] = "impression"
    """Which events an answer uses: `impression`, all events before the impression; `day`, the events before its day (UTC), like a
    nightly run."""
    dtype: Literal["float16", "int8"] = "float16"
    """Data type of the stored vectors. `int8` halves their size; similarities and feedback predictions stay the same."""
    batch_events: int = Field(4096, ge=16, le=10**8)
    """Events and questions in a batch."""
    rows_per_part: int = Field(100_000, ge=1, le=10**8)
    """Largest number of rows of a Parquet part. The answers of a part are in memory together."""

    @field_validator("questions")
    @classmethod
    def _names_are_column_names(cls, questions: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, question in questions.items():
            if not re.fullmatch(r"\w+", name):
                raise ValueError(f"question name '{name}' has other characters than letters, digits and underscores")
            try:
                parsed = parse_question(question)
            except InputError as error:
                raise ValueError(f"question '{name}': {error}") from None
            if parsed.is_several and name in (*get_args(Tier), "content"):
                raise ValueError(
                    f"question '{name}': the names '{name}.VALUE' are those of a tier or of content; give another name"
                )
        return questions
