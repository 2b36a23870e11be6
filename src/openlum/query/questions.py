"""The questions of the experiment file as condition fields for every row.

Shapes: n rows, G questions for each row, J feedback predictions.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openlum.data.sequences import Impressions, Sequences
from openlum.data.shard import ShardedDataset
from openlum.errors import InputError
from openlum.field_spec import FieldSpec
from openlum.model import LargeUserModel, Processor
from openlum.model.batch import Fields, blank, to_tensors
from openlum.model.matching_head import similarity_names
from openlum.query.content import content_column_names
from openlum.query.language import (
    AFTER,
    FROM_ROW,
    MAX_QUESTIONS,
    Each,
    FromItem,
    FromRow,
    ParsedQuestion,
    Top,
    parse_question,
)
from openlum.query.row_values import frequent_values, item_values
from openlum.query.settings import QuerySettings


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
    content: list[str],
) -> list[str]:
    """Return the names of all scores of knowledge: similarities, feedback predictions, those of the matching head, and content.

    Args:
        settings: of the query run.
        questions: names of the questions.
        processor: of the model.
        specs: condition fields that the network reads.
        feedback_names: the names FIELD=VALUE of the feedback that the model predicts.
        content: names of the item fields by whose vectors items are compared.
    """
    predicted = feedback_names if settings.predict_feedback else []
    matched = matched_column_names(settings.matching_head, processor, specs, feedback_names)
    return [*questions, *predicted, *matched, *content_column_names(settings.matching_head, content)]


@dataclass(frozen=True)
class RowQuestion:
    """One question about every row."""

    name: str
    """Name in the columns of knowledge."""
    fixed: Fields
    """The encoded values of the condition fields, (1, ...)."""
    columns: dict[str, str] = field(default_factory=dict)
    """Condition field to the column of `QuestionSet.row_values` that has its value; other fields have the value in `fixed`."""
    learned: int | None = None
    """Index of the learned question that takes the place of the condition."""


Choice = tuple[str, int | str]
"""A value of a field in one of several questions: its part of the question's name, and its id or its column of the rows."""


class QuestionSet:
    """The encoded questions, the same for every row.

    Args:
        processor: of the model that answers.
        specs: condition fields of the model.
        questions: name to question, as in `language.py`.
        dataset: with the items, for questions that take a value from the impression's item.
        learned: number of learned questions of the model.

    Raises:
        InputError: if the model does not have a field or a value of a question, a question takes a feedback field from the row,
            which has no feedback yet, or there are too many questions. The message names the question.
    """

    def __init__(
        self,
        processor: Processor,
        specs: list[FieldSpec],
        questions: dict[str, dict[str, Any]],
        dataset: ShardedDataset | None = None,
        learned: int = 0,
    ) -> None:
        self.processor, self.specs, self.dataset = processor, specs, dataset
        self._specs = {spec.name: spec for spec in specs}
        self._tops: dict[str, int] = {}
        """Field to the largest K of `$topK`."""
        self._item_values: dict[str, np.ndarray] = {}
        """Column to the values of all items, (V, ...)."""
        self._later: dict[int, None] = {}
        """Seconds of `$after`."""
        self.questions: list[RowQuestion] = []
        """The G questions."""
        self.fixed_names: list[str] = []
        """The names of the questions that take no value from the impression."""
        for name, question in questions.items():
            try:
                parsed = parse_question(question)
                several = self._learned(name, learned) if parsed.learned else self._expanded(name, parsed)
            except InputError as error:
                raise InputError(f"question '{name}': {error}") from None
            self.questions += several
            self.fixed_names += [one.name for one in several] if parsed.is_fixed else []

    @property
    def names(self) -> list[str]:
        """The names of the questions."""
        return [question.name for question in self.questions]

    def __len__(self) -> int:
        """Return G, the number of questions."""
        return len(self.questions)

    def row_values(
        self, sequences: Sequences, user: np.ndarray, prefix: np.ndarray, impressions: Impressions | None = None
    ) -> dict[str, np.ndarray]:
        """Return the columns, (n, ...) each, that questions take values from.

        Args:
            sequences: of the users.
            user: (n,) user ids of the rows.
            prefix: (n,) numbers of the users' events before the rows.
            impressions: the rows, if they are impressions. Without them, only questions of `fixed_names` can be asked.
        """
        columns: dict[str, np.ndarray] = {}
        for name, k in self._tops.items():
            top = frequent_values(self._specs[name], sequences, user, prefix, k)
            columns |= {f"{name}$top{rank + 1}": values for rank, values in enumerate(top)}
        if impressions is not None:
            columns |= impressions.condition
            columns |= {name: values[impressions.item] for name, values in self._item_values.items()}
            for seconds in self._later:
                times = sequences.row_time_fields(user, impressions.time + seconds, prefix)
                columns |= {_later_column(name, seconds): values for name, values in times.items()}
        return columns

    def conditions(self, rows: Fields, n: int) -> Fields:
        """Return the condition fields, (n * G, ...), of all questions of `n` rows. The questions of one row are adjacent.

        Args:
            rows: the columns of `row_values`, (n, ...).
            n: number of rows.
        """
        conditions = blank(self.specs, n * len(self))
        for name, values in conditions.items():
            by_question = values.view(n, len(self), *values.shape[1:])  # (n, G, ...)
            for index, question in enumerate(self.questions):
                column = question.columns.get(name)
                by_question[:, index] = question.fixed[name] if column is None else rows[column]
        return conditions

    def learned(self, n: int) -> Tensor | None:
        """Return `Questions.learned`, (n * G,), of all questions of `n` rows."""
        learned = [-1 if question.learned is None else question.learned for question in self.questions]
        return torch.tensor(learned).repeat(n) if max(learned, default=-1) >= 0 else None

    def _learned(self, name: str, learned: int) -> list[RowQuestion]:
        """Return the learned questions of the model."""
        if not learned:
            raise InputError("the model has no learned questions; pretrain it with model.learned_questions above 0")
        self._check_count(learned, "learned questions")
        return [RowQuestion(f"{name}.{n + 1}", blank(self.specs, 1), learned=n) for n in range(learned)]

    def _expanded(self, name: str, parsed: ParsedQuestion) -> list[RowQuestion]:
        """Return the questions that a question stands for: one for each combination of its fields' choices."""
        columns: dict[str, str] = {}
        choices: dict[str, list[Choice]] = {}
        values: dict[str, Any] = {}
        for field_name, value in parsed.values.items():
            match value:
                case FromRow():
                    columns[field_name] = self._row_column(field_name, parsed.after)
                case FromItem(feature):
                    columns[field_name] = self._item_column(field_name, feature)
                case Each():
                    choices[field_name] = self._each(field_name)
                case Top(k):
                    choices[field_name] = self._top(field_name, k)
                case _:
                    values[field_name] = value
        if parsed.rest_from_row:
            rest = [spec.name for spec in self.specs if spec.name not in parsed.values and not spec.feedback]
            columns |= {field_name: self._row_column(field_name, parsed.after) for field_name in rest}
        self._check_after(parsed.after, columns)
        self._check_count(
            math.prod(len(options) for options in choices.values()),
            " x ".join(f"{len(options):,} of '{field_name}'" for field_name, options in choices.items()),
        )
        fixed = self.processor.encode_conditions([values], self.specs, strict=True)
        return [
            self._choose(name, fixed, columns, dict(zip(choices, chosen, strict=True)))
            for chosen in product(*choices.values())
        ]

    def _choose(self, name: str, fixed: Fields, columns: dict[str, str], chosen: dict[str, Choice]) -> RowQuestion:
        """Return one of several questions."""
        fields = {key: values.clone() for key, values in fixed.items()}
        columns = dict(columns)
        for field_name, (_, value) in chosen.items():
            if isinstance(value, str):
                columns[field_name] = value
            else:
                fields[field_name].view(-1)[0] = value
        return RowQuestion(".".join([name, *(label for label, _ in chosen.values())]), fields, columns)

    def _row_column(self, name: str, after: int) -> str:
        spec = self._spec(name)
        if spec.feedback:
            raise InputError(
                f"condition field '{name}' is feedback, which an impression does not have yet; set a value"
            )
        if after and self.processor.is_time_field(spec):
            self._later[after] = None
            return _later_column(name, after)
        return name

    def _item_column(self, name: str, feature: str) -> str:
        if self.dataset is None:
            raise InputError(f"condition field '{name}': $item needs a dataset with an item table")
        column = f"{name}$item.{feature}"
        self._item_values[column] = item_values(self.dataset, self.processor, self._spec(name), feature)
        return column

    def _each(self, name: str) -> list[Choice]:
        spec = self._spec(name)
        if not spec.size or spec.hashed:
            kind = "its values are hashed" if spec.hashed else "it is a number or a vector"
            raise InputError(f"condition field '{name}': $each needs a list of all values, but {kind}; name values")
        return [(label, index) for index, label in enumerate(_labels(self.processor.values(spec)), start=1)]

    def _top(self, name: str, k: int) -> list[Choice]:
        if not self._spec(name).size:
            raise InputError(
                f"condition field '{name}': $top counts values, but the field is a number or a vector; name a value"
            )
        self._tops[name] = max(k, self._tops.get(name, 0))
        return [(f"top{rank}", f"{name}$top{rank}") for rank in range(1, k + 1)]

    def _spec(self, name: str) -> FieldSpec:
        if name not in self._specs:
            raise InputError(
                f"condition field '{name}': the model has no such field; choose from {', '.join(sorted(self._specs))}"
            )
        return self._specs[name]

    def _check_after(self, after: int, columns: dict[str, str]) -> None:
        if after and not any(column == _later_column(name, after) for name, column in columns.items()):
            times = [spec.name for spec in self.specs if self.processor.is_time_field(spec)]
            remedy = f"take {' or '.join(times)} from it" if times else "the model has none, so leave the key out"
            raise InputError(
                f"'{AFTER}' moves the time fields that the question takes from the impression with {FROM_ROW}; {remedy}"
            )

    def _check_count(self, count: int, reason: str) -> None:
        """Raise an error if there would be more questions than `MAX_QUESTIONS`."""
        if len(self) + count > MAX_QUESTIONS:
            raise InputError(
                f"stands for {count:,} questions ({reason}), and {len(self):,} come before it; at most {MAX_QUESTIONS:,} can be "
                "asked: name the values that matter, or use $topK"
            )


def question_set(model: LargeUserModel, questions: dict[str, Any], dataset: ShardedDataset) -> QuestionSet:
    """Return the questions to a model about the rows of a dataset."""
    learned = model.config.settings.learned_questions
    return QuestionSet(model.processor, model.config.condition, questions, dataset, learned)


def take(columns: dict[str, np.ndarray], index: np.ndarray) -> Fields:
    """Return the rows at `index`, (n,), of `QuestionSet.row_values` as tensors."""
    return to_tensors({name: values[index] for name, values in columns.items()})


def _later_column(name: str, seconds: int) -> str:
    return f"{name}{AFTER}{seconds}"


def _labels(values: Sequence[str]) -> list[str]:
    """Return a distinct name for each value, with letters, digits and underscores only."""
    labels: dict[str, None] = {}
    for value in values:
        label = plain = re.sub(r"\W", "_", value)
        number = 2
        while label in labels:
            label, number = f"{plain}_{number}", number + 1
        labels[label] = None
    return list(labels)
