"""Questions of the experiment file as condition tokens, one a row and question.

Shapes: n rows, G questions asked of each.
"""

from typing import Any

from openlum.errors import InputError
from openlum.model import Processor
from openlum.model.batch import Fields, blank
from openlum.query.settings import ALL_FIELDS, FROM_ROW
from openlum.schema import FieldSpec


def feedback_column_names(processor: Processor, targets: list[FieldSpec]) -> list[str]:
    """FIELD=VALUE of every value of everything that a model judges by, J names."""
    return [f"{spec.name}={value}" for spec in targets for value in processor.feedback_values(spec)]


class QuestionSet:
    """The questions that every row is asked.

    Args:
        processor: of the model that will answer.
        specs: its condition fields.
        questions: name to condition fields and raw values.

    Raises:
        InputError: a question names a field that the model does not have, a value that it has never seen, or takes feedback
            from the row, which has none yet.
    """

    def __init__(self, processor: Processor, specs: list[FieldSpec], questions: dict[str, dict[str, Any]]) -> None:
        self.specs = specs
        self.names = list(questions)
        self.from_row: list[list[str]] = []
        self.fixed: list[Fields] = []
        for name, question in questions.items():
            try:
                self._add(processor, question)
            except InputError as error:
                raise InputError(f"question '{name}': {error}") from None

    def _add(self, processor: Processor, question: dict[str, Any]) -> None:
        feedback = {spec.name for spec in self.specs if spec.feedback}
        taken = [name for name, value in question.items() if name != ALL_FIELDS and value == FROM_ROW]
        wrong = feedback & set(taken)
        if wrong:
            raise InputError(f"'{wrong.pop()}' is feedback, which an impression does not have yet; give it a value")
        known = {spec.name for spec in self.specs}
        if set(taken) - known:
            raise InputError(
                f"condition field '{(set(taken) - known).pop()}': the model has {', '.join(sorted(known))}"
            )
        if ALL_FIELDS in question:
            taken += [s.name for s in self.specs if s.name not in question and not s.feedback]
        values = {name: value for name, value in question.items() if name != ALL_FIELDS and name not in taken}
        self.from_row.append(taken)
        self.fixed.append(processor.encode_conditions([values], self.specs, strict=True))

    def conditions(self, rows: Fields, n: int) -> Fields:
        """The conditions of `n` rows, (n, ...), to those of their questions, (n * G, ...), a row's questions together."""
        result = blank(self.specs, n * len(self.names))
        for name, field in result.items():
            each = field.view(n, len(self.names), *field.shape[1:])  # (n, G, ...)
            for index, (taken, fixed) in enumerate(zip(self.from_row, self.fixed, strict=True)):
                each[:, index] = rows[name] if name in taken else fixed[name]
        return result

    def __len__(self) -> int:
        """G."""
        return len(self.names)
