"""The inputs of rankers, read from `dataset/` and `knowledge/`. Every input of a row lies strictly before the row's time.

Shapes: I rows of a split, B rows of a batch, L behaviours of a history, Q questions, E width of an answer, V items.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openlum.data.dataset import SPLITS, Dataset, Split
from openlum.errors import InputError
from openlum.model.batch import Fields, to_device, to_tensors
from openlum.rank.behaviours import CollectedRows, collect
from openlum.rank.fusion import multi_value_feedback
from openlum.rank.knowledge import KnowledgeArrays
from openlum.rank.registry import RANKERS
from openlum.rank.settings import KnowledgeSettings, KnowledgeShape, RankerConfig, RankSettings
from openlum.schema import FieldSpec


@dataclass
class Behaviours:
    """The last behaviours of B users, latest first."""

    item: Tensor
    """(B, L) item ids."""
    condition: Fields
    """Condition fields with feedback, (B, L, ...)."""
    mask: Tensor
    """(B, L) bool: False where the history is shorter than L."""

    def to(self, device: torch.device) -> "Behaviours":
        """Return a copy on a device."""
        return Behaviours(self.item.to(device), to_device(self.condition, device), self.mask.to(device))

    def group_by_length(self) -> list[tuple[Tensor, "Behaviours"]]:
        """Return groups of rows with histories of similar length: row indices (b,), and the behaviours without common padding.

        Most histories are short and a few are long. In one batch, a ranker would spend most of its time on padding.
        """
        if not len(self.mask):
            return [(torch.arange(0), self)]
        length = self.mask.sum(1)  # (B,)
        size = (length.clamp(min=1).log2() / 2).ceil()  # (B,): 0 for one behaviour, 1 up to 4, 2 up to 16, ...
        groups = []
        for group_size in size.unique():
            rows = (size == group_size).nonzero().squeeze(1)  # (b,)
            longest = int(length[rows].max())
            item, mask = self.item[rows, :longest], self.mask[rows, :longest]
            condition = {name: values[rows, :longest] for name, values in self.condition.items()}
            groups.append((rows, Behaviours(item, condition, mask)))
        return groups


@dataclass
class KnowledgeInput:
    """The knowledge about B rows."""

    answers: Tensor
    """(B, Q, E) float16: one vector per question."""
    target: Tensor
    """(B, E) float16: the target item's embedding in the same space."""
    scores: Tensor
    """(B, Q) float32: similarities and feedback logits."""

    def to(self, device: torch.device) -> "KnowledgeInput":
        """Return a copy on a device."""
        return KnowledgeInput(self.answers.to(device), self.target.to(device), self.scores.to(device))


@dataclass
class Batch:
    """The inputs of a ranker for B rows."""

    user: Tensor
    """(B,) user ids."""
    item: Tensor
    """(B,) target item ids."""
    features: Fields
    """KIND.FIELD to (B, ...)."""
    activity: Tensor
    """(B,) log(1 + number of behaviours before the row)."""
    history: Behaviours | None = None
    """The user's behaviours before the row, for rankers that read them."""
    knowledge: KnowledgeInput | None = None
    """Knowledge, for rankers that read it."""

    def to(self, device: torch.device) -> "Batch":
        """Return a copy on a device."""
        return Batch(
            self.user.to(device),
            self.item.to(device),
            to_device(self.features, device),
            self.activity.to(device),
            self.history and self.history.to(device),
            self.knowledge and self.knowledge.to(device),
        )


@dataclass
class Rows:
    """The rows of one split: the impressions with a label."""

    row: Tensor
    """(I,) row ids."""
    user: Tensor
    """(I,) user ids."""
    item: Tensor
    """(I,) target item ids."""
    label: Tensor
    """(I,) float32."""
    features: Fields
    """condition.FIELD and context.FIELD to (I, ...). Ids are int32."""
    history_start: Tensor
    """(I,) index into `RankingData.behaviours` of the user's first behaviour."""
    history_stop: Tensor
    """(I,) index one past the last behaviour that lies before the row."""
    prefix: Tensor
    """(I,) number of the user's events that lie before the row."""
    time: Tensor
    """(I,) int64 seconds since 1970."""
    knowledge_index: Tensor | None
    """(I,) index of the row in the arrays of `KnowledgeArrays`; None without knowledge."""
    request: Tensor | None = None
    """(I,) int64: equal for rows that were candidates together; None if the log does not name requests."""

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: Tensor) -> "Rows":
        """Return the rows at `index`."""
        features = {name: values[index] for name, values in self.features.items()}
        names = ("row", "user", "item", "label", "history_start", "history_stop", "prefix", "time")
        knowledge_index = None if self.knowledge_index is None else self.knowledge_index[index]
        return Rows(
            **{name: getattr(self, name)[index] for name in names},
            features=features,
            knowledge_index=knowledge_index,
            request=None if self.request is None else self.request[index],
        )


class RankingData:
    """All data that rankers are trained and evaluated on, in memory.

    Args:
        dataset: from `lum prepare`.
        settings: of the rankers.
        knowledge: about the same dataset; None for plain rankers only.
    """

    def __init__(self, dataset: Dataset, settings: RankSettings, knowledge: KnowledgeArrays | None = None) -> None:
        self.dataset, self.settings, self.knowledge = dataset, settings, knowledge
        self.behaviour_specs = behaviour_specs(dataset)
        self.behaviours = collect(
            dataset,
            [spec.name for spec in self.behaviour_specs],
            history_where_ids(dataset, settings.history_where),
            len(dataset.vocabulary("items")),
        )
        self.user_features = to_tensors(dataset.user_features())
        self.item_features = to_tensors(dataset.item_features())
        if knowledge is not None:
            self.answers = torch.from_numpy(knowledge.answers)
            self.scores = torch.from_numpy(knowledge.scores)
            self.embeddings = torch.from_numpy(knowledge.items)
        self.rows: dict[Split, Rows] = {split: self._rows(self.behaviours.rows.pop(split)) for split in SPLITS}

    def trained_items(self, config: RankerConfig) -> Tensor:
        """Return the items that the training of the ranker `config` sees, as targets or in histories, (V,) bool."""
        trained = torch.zeros(config.items, dtype=torch.bool)
        trained[self.rows["train"].item] = True
        if config.history_length:
            trained |= self.behaviours.trained_items
        elif RANKERS.load(config.architecture).end_to_end:
            trained |= self.behaviours.trained_items_of_events
        return trained

    def config(self, architecture: str, with_knowledge: bool, settings: RankSettings | None = None) -> RankerConfig:
        """Return the configuration of a ranker for this data; `settings` override `self.settings`.

        Raises:
            InputError: this ranker cannot read knowledge in the way that the settings ask for.
        """
        settings = settings or self.settings
        if with_knowledge and not settings.accepts_knowledge(architecture):
            raise InputError(f"rank.knowledge: '{architecture}' has no inputs for knowledge; set fusion to 'late'")
        shape = None
        if with_knowledge and self.knowledge is not None:
            chosen = settings.knowledge
            reads_vectors = RANKERS.load(architecture).knowledge_input == "vectors"
            direct = chosen.answers if reads_vectors else []
            names = self.knowledge.score_names
            scores = select_questions(names, chosen.matching_questions) if chosen.matching else []
            shape = KnowledgeShape(
                answers=select_questions(self.knowledge.answer_names, direct),
                similarities=scores,
                probabilities=multi_value_feedback(scores, names) if chosen.late_fusion else [],
                width=self.knowledge.items.shape[1],
            )
        return plain_config(self.dataset, architecture, settings).model_copy(update={"knowledge": shape})

    def batch(self, rows: Rows, index: Tensor, config: RankerConfig) -> Batch:
        """Return the inputs of the ranker `config` for the rows of a split at `index`, (B,)."""
        user, item = rows.user[index], rows.item[index]
        features = self.fields(rows, index)
        behaviours = rows.history_stop[index] - rows.history_start[index]  # (B,)
        batch = Batch(user, item, features, behaviours.float().log1p())
        if config.history_length:
            batch.history = self._history(rows.history_stop[index], behaviours, config.history_length)
        if config.knowledge is not None:
            knowledge_index = self._knowledge_index(rows, config)[index]
            answers, scores = self._knowledge_columns(config.knowledge)
            batch.knowledge = KnowledgeInput(
                self.answers[knowledge_index][:, answers],
                self.embeddings[item],
                self.scores[knowledge_index][:, scores],
            )
        return batch

    def fields(self, rows: Rows, index: Tensor) -> Fields:
        """Return user, condition and context fields of the rows at `index`, (B,): KIND.FIELD to (B, ...)."""
        features = {f"user.{name}": values[rows.user[index]] for name, values in self.user_features.items()}
        return features | {name: with_long_ids(values[index]) for name, values in rows.features.items()}

    def knowledge_scores(self, rows: Rows, config: RankerConfig) -> np.ndarray:
        """Return the similarities and feedback logits of rows that the ranker `config` reads, (I, Q) float32.

        Raises:
            InputError: there is no knowledge.
        """
        assert config.knowledge is not None
        knowledge_index = self._knowledge_index(rows, config)
        return self.scores[knowledge_index][:, self._knowledge_columns(config.knowledge)[1]].numpy()

    def _knowledge_index(self, rows: Rows, config: RankerConfig) -> Tensor:
        """Return the index of each row in the arrays of `KnowledgeArrays`, (I,)."""
        if rows.knowledge_index is None:
            raise InputError(
                f"the ranker '{config.architecture}' reads knowledge, and this data has none; give the output of 'lum query'"
            )
        return rows.knowledge_index

    def _knowledge_columns(self, shape: KnowledgeShape) -> tuple[slice | list[int], slice | list[int]]:
        """Return the columns of `answers` and of `scores` that a ranker reads."""
        assert self.knowledge is not None
        needed = (
            (self.knowledge.answer_names, shape.answers),
            (self.knowledge.score_names, shape.similarities),
        )
        answers, scores = (
            slice(None) if names == selected else [names.index(name) for name in selected] for names, selected in needed
        )
        return answers, scores

    def batches(self, rows: Rows, order: Tensor, config: RankerConfig) -> Iterator[tuple[Batch, Tensor]]:
        """Yield batches of rows in an order, with their labels (B,)."""
        for index in order.split(config.settings.batch_size):
            yield self.batch(rows, index, config), rows.label[index]

    def _history(self, stop: Tensor, behaviours: Tensor, max_length: int) -> Behaviours:
        """Return the last `max_length` behaviours before the index `stop`, (B,). `behaviours`, (B,), is their number."""
        length = min(max_length, int(behaviours.max()) if len(behaviours) else 0)
        back = torch.arange(1, length + 1)  # (L,)
        mask = back <= behaviours[:, None]  # (B, L)
        index = (stop[:, None] - back).masked_fill_(~mask, 0)  # (B, L)
        condition = {name: with_long_ids(values[index]) for name, values in self.behaviours.condition.items()}
        return Behaviours(self.behaviours.item[index].long(), condition, mask)

    def _rows(self, rows: CollectedRows) -> Rows:
        impressions = rows.impressions
        features = {f"condition.{name}": values for name, values in impressions.condition.items()}
        features |= {f"context.{name}": values for name, values in impressions.context.items()}
        knowledge_index = None if self.knowledge is None else torch.from_numpy(self.knowledge.index_of(impressions.row))
        return Rows(
            row=torch.from_numpy(impressions.row),
            user=torch.from_numpy(impressions.user.astype(np.int64)),
            item=torch.from_numpy(impressions.item.astype(np.int64)),
            label=torch.from_numpy(impressions.label),
            features={name: torch.from_numpy(values) for name, values in features.items()},
            history_start=torch.from_numpy(rows.history_start),
            history_stop=torch.from_numpy(rows.history_stop),
            prefix=torch.from_numpy(impressions.prefix),
            time=torch.from_numpy(impressions.time),
            knowledge_index=knowledge_index,
            request=None if impressions.request is None else torch.from_numpy(impressions.request),
        )


def behaviour_specs(dataset: Dataset) -> list[FieldSpec]:
    """Return the condition fields of a behaviour, without time fields.

    Time fields make end-to-end models worse (docs/experiments/several-sets.md), so they are left out for every ranker.
    """
    times = dataset.info.data_schema.time_fields
    return [spec for spec in dataset.specs("condition") if spec.name not in times]


def plain_config(dataset: Dataset, architecture: str, settings: RankSettings) -> RankerConfig:
    """Return the configuration of a ranker without knowledge."""
    info = dataset.info
    row_condition = [spec for spec in info.condition if not spec.feedback]  # an impression has no feedback yet
    kinds = (("user", info.user), ("condition", row_condition), ("context", info.context))
    return RankerConfig(
        architecture=architecture,
        settings=settings,
        features=[s.model_copy(update={"name": f"{kind}.{s.name}"}) for kind, specs in kinds for s in specs],
        item=info.item,
        behaviour=behaviour_specs(dataset),
        items=len(dataset.vocabulary("items")),
        users=len(dataset.vocabulary("users")),
    )


def select_questions(questions: list[str], names: list[str] | None) -> list[str]:
    """Return the questions whose names are in `names`, in the order of `questions`; all questions if `names` is None.

    Raises:
        InputError: the knowledge has no question of a name.
    """
    unknown = sorted(set(names or []) - set(questions))
    if unknown:
        raise InputError(
            f"rank.knowledge: the knowledge has no question '{unknown[0]}'; choose from {', '.join(questions)}"
        )
    return [name for name in questions if names is None or name in names]


def check_questions(settings: KnowledgeSettings, questions: list[str], feedback_names: list[str]) -> None:
    """Check that knowledge with these questions and feedback predictions has everything that the settings name.

    Raises:
        InputError: a named question or feedback prediction is missing.
    """
    select_questions([*questions, *feedback_names], settings.matching_questions)
    select_questions(questions, settings.direct_questions)


def with_long_ids(values: Tensor) -> Tensor:
    """Return a field with int64 ids in place of int32 ids, which embedding tables read; numbers stay the same."""
    return values if values.is_floating_point() else values.long()


def history_where_ids(dataset: Dataset, where: dict[str, list[Any]] | None) -> dict[str, np.ndarray]:
    """Return the condition fields of `rank.history_where` and the ids of their values.

    Raises:
        InputError: `where` names a field or a value that the dataset does not have.
    """
    vocabularies = dataset.vocabularies("condition") if where else {}
    ids: dict[str, np.ndarray] = {}
    for name, values in (where or {}).items():
        if name not in vocabularies:
            fields = ", ".join(vocabularies) or "none"
            raise InputError(
                f"rank.history_where: '{name}' is not a categorical condition field of the dataset; its fields: {fields}"
            )
        ids[name] = vocabularies[name].encode(values)
        if (ids[name] == 0).any():
            value, examples = values[int(np.argmin(ids[name]))], ", ".join(vocabularies[name].values[:8])
            raise InputError(f"rank.history_where.{name}: the dataset has no value '{value}'; it has {examples} ...")
    return ids
