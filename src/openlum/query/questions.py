"""The questions of the experiment file as condition fields for every row.

Shapes: n rows, G questions for each row, J feedback predictions.
"""

from collections.abc import Sequence
from typing import Any

from openlum.errors import InputError
from openlum.field_spec import FieldSpec
from openlum.model import Processor
from openlum.model.batch import Fields, blank
from openlum.model.matching_head import similarity_names
from openlum.query.settings import ALL_FIELDS, FROM_ROW, QuerySettings


def feedback_column_names(processor: Processor, targets: list[FieldSpec]) -> list[str]:
    """Return the J names FIELD=VALUE of the feedback predictions: every value of every feedback target."""
    return [f"{spec.name}={value}" for spec in targets for value in processor.feedback_values(spec)]


def matched_column_names(
    tiers: Sequence[str], processor: Processor, specs: list[FieldSpec], feedback_names: list[str]
) -> list[str]:
    """Return the names of the predictions of the matching head: TIER.FIELD=VALUE and TIER.SIMILARITY, as in `similarity_names`.

    Args:
        tiers: `nightly`, `fresh` or both.
        processor: of the model.
        specs: condition fields that the network reads.
        feedback_names: the names FIELD=VALUE of the feedback that the model predicts. Without any, the head predicts nothing.
    """
    names = [*feedback_names, *similarity_names(processor, specs)] if feedback_names else []
    return [f"{tier}.{name}" for tier in tiers for name in names]


def score_names_of(
    settings: QuerySettings,
    questions: list[str],
    processor: Processor,
    specs: list[FieldSpec],
    feedback_names: list[str],
) -> list[str]:
    """Return the names of all scores of knowledge: similarities, feedback predictions, and those of the matching head.

    Args:
        settings: of the query run.
        questions: names of the questions.
        processor: of the model.
        specs: condition fields that the network reads.
        feedback_names: the names FIELD=VALUE of the feedback that the model predicts.
    """
    predicted = feedback_names if settings.predict_feedback else []
    return [*questions, *predicted, *matched_column_names(settings.matching_head, processor, specs, feedback_names)]


class QuestionSet:
    """The encoded questions, the same for every row.

    Args:
        processor: of the model that answers.
        specs: condition fields of the model.
        questions: name to condition fields and raw values.

    Raises:
        InputError: if the model does not have a field or a value of a question, or a question takes a feedback field from the
            row, which has no feedback yet.
    """

    def __init__(self, processor: Processor, specs: list[FieldSpec], questions: dict[str, dict[str, Any]]) -> None:
        self.specs = specs
        self.names = list(questions)
        self.row_fields: list[list[str]] = []
        """For each question, the fields whose values come from the row."""
        self.fixed_values: list[Fields] = []
        """For each question, the encoded values of the other fields, (1, ...)."""
        for name, question in questions.items():
            try:
                self._add(processor, question)
            except InputError as error:
                raise InputError(f"question '{name}': {error}") from None

    def _add(self, processor: Processor, question: dict[str, Any]) -> None:
        feedback = {spec.name for spec in self.specs if spec.feedback}
        row_fields = [name for name, value in question.items() if name != ALL_FIELDS and value == FROM_ROW]
        row_feedback = feedback & set(row_fields)
        if row_feedback:
            raise InputError(
                f"condition field '{row_feedback.pop()}' is feedback, which an impression does not have yet; set a value"
            )
        names = {spec.name for spec in self.specs}
        unknown = set(row_fields) - names
        if unknown:
            raise InputError(
                f"condition field '{unknown.pop()}': the model has no such field; choose from {', '.join(sorted(names))}"
            )
        if ALL_FIELDS in question:
            row_fields += [s.name for s in self.specs if s.name not in question and not s.feedback]
        values = {name: value for name, value in question.items() if name != ALL_FIELDS and name not in row_fields}
        self.row_fields.append(row_fields)
        self.fixed_values.append(processor.encode_conditions([values], self.specs, strict=True))

    @property
    def fixed_names(self) -> list[str]:
        """The names of the questions that take no value from the row."""
        return [name for name, fields in zip(self.names, self.row_fields, strict=True) if not fields]

    def conditions(self, rows: Fields, n: int) -> Fields:
        """Return the condition fields, (n * G, ...), of all questions of `n` rows. The questions of one row are adjacent.

        Args:
            rows: condition fields of the rows, (n, ...).
            n: number of rows.
        """
        conditions = blank(self.specs, n * len(self.names))
        for name, field in conditions.items():
            by_question = field.view(n, len(self.names), *field.shape[1:])  # (n, G, ...)
            for index, (row_fields, fixed) in enumerate(zip(self.row_fields, self.fixed_values, strict=True)):
                by_question[:, index] = rows[name] if name in row_fields else fixed[name]
        return conditions

    def __len__(self) -> int:
        """Return G, the number of questions."""
        return len(self.names)
