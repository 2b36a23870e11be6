"""From `dataset/` and `knowledge/` to the inputs of rankers. All of a row's inputs lie strictly before the row's time.

Shapes: I rows of a split, B rows of a batch, L behaviours of a history, N events, Q questions, E width of an answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openlum.data.dataset import SPLITS, Dataset, Impressions, Split
from openlum.errors import InputError
from openlum.model.batch import Fields, to_device, to_tensors
from openlum.rank.fusion import of_several_values
from openlum.rank.knowledge import Knowledge
from openlum.rank.settings import (
    GENERATIVE,
    Architecture,
    KnowledgeSettings,
    KnowledgeShape,
    RankerConfig,
    RankSettings,
)
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
        """On a device."""
        return Behaviours(self.item.to(device), to_device(self.condition, device), self.mask.to(device))

    def by_length(self) -> list[tuple[Tensor, "Behaviours"]]:
        """Rows of like length, (b,) each, and their behaviours without places that none of them fills.

        Most histories are short and a few are long: together, a ranker spends its time on empty places.
        """
        if not len(self.mask):
            return [(torch.arange(0), self)]
        length = self.mask.sum(1)  # (B,)
        size = (length.clamp(min=1).log2() / 2).ceil()  # (B,): 0 for one behaviour, 1 up to 4, 2 up to 16, ...
        groups = []
        for one in size.unique():
            rows = (size == one).nonzero().squeeze(1)  # (b,)
            longest = int(length[rows].max())
            item, mask = self.item[rows, :longest], self.mask[rows, :longest]
            condition = {name: values[rows, :longest] for name, values in self.condition.items()}
            groups.append((rows, Behaviours(item, condition, mask)))
        return groups


@dataclass
class KnowledgeInput:
    """What is known beside the features. A ranker does not ask where it comes from."""

    answers: Tensor
    """(B, Q, E) float16: one vector a question."""
    target: Tensor
    """(B, E) float16: the target item's vector in the same space."""
    similarity: Tensor
    """(B, Q) float32: one number a question."""

    def to(self, device: torch.device) -> "KnowledgeInput":
        """On a device."""
        return KnowledgeInput(self.answers.to(device), self.target.to(device), self.similarity.to(device))


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
    """(B,) log(1 + behaviours before)."""
    history: Behaviours | None = None
    """What the user did before, for rankers that read it."""
    knowledge: KnowledgeInput | None = None
    """Knowledge, for rankers that take it."""

    def to(self, device: torch.device) -> "Batch":
        """On a device."""
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
    """The rows of one split."""

    row: Tensor
    """(I,) row ids."""
    user: Tensor
    """(I,) user ids."""
    item: Tensor
    """(I,) target item ids."""
    label: Tensor
    """(I,) float32."""
    features: Fields
    """condition.FIELD and context.FIELD to (I, ...)."""
    first: Tensor
    """(I,) where the behaviours that a row may use begin in `RankingData.behaviours`."""
    stop: Tensor
    """(I,) where they end."""
    prefix: Tensor
    """(I,) how many of the user's events lie before the row."""
    time: Tensor
    """(I,) int64 seconds since 1970."""
    known: Tensor | None
    """(I,) where the row lies in the knowledge."""

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: Tensor) -> "Rows":
        """The rows at `index`."""
        features = {name: values[index] for name, values in self.features.items()}
        names = ("row", "user", "item", "label", "first", "stop", "prefix", "time")
        known = None if self.known is None else self.known[index]
        return Rows(**{name: getattr(self, name)[index] for name in names}, features=features, known=known)


class RankingData:
    """Everything that rankers are trained on, in memory.

    Args:
        dataset: from `lum prepare`.
        settings: of the rankers.
        knowledge: of the same dataset, if there is some.
    """

    def __init__(self, dataset: Dataset, settings: RankSettings, knowledge: Knowledge | None = None) -> None:
        self.dataset, self.settings, self.knowledge = dataset, settings, knowledge
        self.behaviour_specs = behaviour_specs(dataset)
        sequences = dataset.sequences
        self.kept = kept = _kept_events(dataset, settings.history_where)  # (N,) bool
        self.kept_before = np.concatenate([[0], np.cumsum(kept)])  # (N + 1,)
        self.behaviour_item = torch.from_numpy(sequences.item[kept])
        self.behaviour_condition = to_tensors({s.name: sequences.condition[s.name][kept] for s in self.behaviour_specs})
        self.user_features = to_tensors(dataset.user_features())
        self.item_features = to_tensors(dataset.item_features())
        if knowledge is not None:
            self.answers = torch.from_numpy(knowledge.answers)
            self.similarity = torch.from_numpy(knowledge.similarity)
            self.embeddings = torch.from_numpy(knowledge.items)
        self.rows: dict[Split, Rows] = {split: self._rows(dataset.impressions(split)) for split in SPLITS}

    def trained_items(self, config: RankerConfig) -> Tensor:
        """The items that the ranker `config` meets in training: targets, and what its rows' histories are made of, (V,) bool."""
        met = torch.zeros(config.items, dtype=torch.bool)
        met[self.rows["train"].item] = True
        read = self.kept if config.history_length else np.full(len(self.kept), config.architecture in GENERATIVE)
        read = read & (self.dataset.sequences.time < self.dataset.info.valid_time)
        met[torch.from_numpy(self.dataset.sequences.item[read])] = True
        return met

    def config(
        self, architecture: Architecture, with_knowledge: bool, settings: RankSettings | None = None
    ) -> RankerConfig:
        """What a ranker for this data looks like; by default with the settings given at the start.

        Raises:
            InputError: knowledge cannot enter this ranker as the settings want it to.
        """
        settings = settings or self.settings
        if with_knowledge and not settings.informs(architecture):
            raise InputError(f"rank.knowledge: '{architecture}' has no inputs for knowledge; set fusion to 'late'")
        shape = None
        if with_knowledge and self.knowledge is not None:
            chosen = settings.knowledge
            direct = [] if architecture == "lightgbm" else chosen.answers  # trees take numbers only
            known = self.knowledge.questions
            numbers = chosen_questions(known, chosen.matching_questions) if chosen.matching else []
            shape = KnowledgeShape(
                answers=chosen_questions(self.knowledge.answered, direct),
                similarities=numbers,
                probabilities=of_several_values(numbers, known) if chosen.late else [],
                width=self.knowledge.items.shape[1],
            )
        return plain_config(self.dataset, architecture, settings).model_copy(update={"knowledge": shape})

    def batch(self, rows: Rows, index: Tensor, config: RankerConfig) -> Batch:
        """What the ranker `config` reads of rows `index`, (B,), of a split."""
        user, item = rows.user[index], rows.item[index]
        features = self.fields(rows, index)
        past = rows.stop[index] - rows.first[index]  # (B,)
        batch = Batch(user, item, features, past.float().log1p())
        if config.history_length:
            batch.history = self._history(rows.stop[index], past, config.history_length)
        if config.knowledge is not None:
            place = self._known(rows, config)[index]
            answers, similarity = self._columns(config.knowledge)
            batch.knowledge = KnowledgeInput(
                self.answers[place][:, answers], self.embeddings[item], self.similarity[place][:, similarity]
            )
        return batch

    def fields(self, rows: Rows, index: Tensor) -> Fields:
        """User, condition and context fields of rows `index`, (B,): KIND.FIELD to (B, ...)."""
        features = {f"user.{name}": values[rows.user[index]] for name, values in self.user_features.items()}
        return features | {name: values[index] for name, values in rows.features.items()}

    def numbers(self, rows: Rows, config: RankerConfig) -> np.ndarray:
        """Similarities and feedback predictions of rows that the ranker `config` takes, (I, Q) float32.

        Raises:
            InputError: there is no knowledge.
        """
        assert config.knowledge is not None
        known = self._known(rows, config)
        return self.similarity[known][:, self._columns(config.knowledge)[1]].numpy()

    def _known(self, rows: Rows, config: RankerConfig) -> Tensor:
        """Where rows lie in the knowledge, (I,)."""
        if rows.known is None:
            raise InputError(
                f"{config.architecture} takes knowledge, and these data have none; give the output of 'lum query'"
            )
        return rows.known

    def _columns(self, shape: KnowledgeShape) -> tuple[slice | list[int], slice | list[int]]:
        """Which columns of answers and of similarities a ranker takes."""
        assert self.knowledge is not None
        have = (self.knowledge.answered, shape.answers), (self.knowledge.questions, shape.similarities)
        first, second = (
            slice(None) if known == wanted else [known.index(name) for name in wanted] for known, wanted in have
        )
        return first, second

    def batches(self, rows: Rows, order: Tensor, config: RankerConfig) -> Iterator[tuple[Batch, Tensor]]:
        """Batches of rows in an order, with their labels (B,)."""
        for index in order.split(config.settings.batch_size):
            yield self.batch(rows, index, config), rows.label[index]

    def _history(self, stop: Tensor, past: Tensor, most: int) -> Behaviours:
        """The last `most` behaviours before `stop`, (B,), of which there are `past`, (B,)."""
        length = min(most, int(past.max()) if len(past) else 0)
        back = torch.arange(1, length + 1)  # (L,)
        mask = back <= past[:, None]  # (B, L)
        place = (stop[:, None] - back).masked_fill_(~mask, 0)  # (B, L)
        condition = {name: values[place] for name, values in self.behaviour_condition.items()}
        return Behaviours(self.behaviour_item[place], condition, mask)

    def _rows(self, impressions: Impressions) -> Rows:
        sequences = self.dataset.sequences
        user = sequences.user_index(impressions.user)
        begin = np.where(user < 0, 0, sequences.offsets[np.maximum(user, 0)])  # (I,) into all events
        end = begin + np.where(user < 0, 0, impressions.prefix)
        features = {f"condition.{name}": values for name, values in impressions.condition.items()}
        features |= {f"context.{name}": values for name, values in impressions.context.items()}
        places = None if self.knowledge is None else torch.from_numpy(self.knowledge.places(impressions.row))
        return Rows(
            row=torch.from_numpy(impressions.row),
            user=torch.from_numpy(impressions.user),
            item=torch.from_numpy(impressions.item),
            label=torch.from_numpy(impressions.label),
            features=to_tensors(features),
            first=torch.from_numpy(self.kept_before[begin]),
            stop=torch.from_numpy(self.kept_before[end]),
            prefix=torch.from_numpy(impressions.prefix),
            time=torch.from_numpy(impressions.time),
            known=places,
        )


def behaviour_specs(dataset: Dataset) -> list[FieldSpec]:
    """The fields of a behaviour. Time fields are left out, for end-to-end models too: with them those are worse
    (docs/experiments.md)."""
    times = dataset.info.data_schema.time_fields
    return [spec for spec in dataset.specs("condition") if spec.name not in times]


def plain_config(dataset: Dataset, architecture: Architecture, settings: RankSettings) -> RankerConfig:
    """What a ranker without knowledge looks like."""
    info = dataset.info
    asked = [spec for spec in info.condition if not spec.feedback]  # an impression has no feedback yet
    kinds = (("user", info.user), ("condition", asked), ("context", info.context))
    return RankerConfig(
        architecture=architecture,
        settings=settings,
        features=[s.model_copy(update={"name": f"{kind}.{s.name}"}) for kind, specs in kinds for s in specs],
        item=info.item,
        behaviour=behaviour_specs(dataset),
        items=len(dataset.vocabulary("items")),
        users=len(dataset.vocabulary("users")),
    )


def chosen_questions(questions: list[str], names: list[str] | None) -> list[str]:
    """The questions that are named, in their order; all where none are.

    Raises:
        InputError: the knowledge has no question of a name.
    """
    unknown = sorted(set(names or []) - set(questions))
    if unknown:
        raise InputError(f"rank.knowledge: the knowledge has no question '{unknown[0]}'; it has {', '.join(questions)}")
    return [name for name in questions if names is None or name in names]


def check_questions(settings: KnowledgeSettings, asked: list[str], feedback_names: list[str]) -> None:
    """Knowledge with these questions and feedback predictions has all that the settings name.

    Raises:
        InputError: it lacks one.
    """
    chosen_questions([*asked, *feedback_names], settings.matching_questions)
    chosen_questions(asked, settings.direct_questions)


def _kept_events(dataset: Dataset, where: dict[str, list[Any]] | None) -> np.ndarray:
    """(N,) bool: which events are behaviours."""
    condition = dataset.sequences.condition
    kept = np.ones(len(dataset.sequences.item), bool)
    for name, ids in where_ids(dataset, where).items():
        found = np.isin(condition[name], ids)
        kept &= found.any(-1) if found.ndim > 1 else found
    return kept


def where_ids(dataset: Dataset, where: dict[str, list[Any]] | None) -> dict[str, np.ndarray]:
    """Field to the ids of the values that `rank.history_where` names.

    Raises:
        InputError: it names a field or a value that the dataset does not have.
    """
    vocabularies = dataset.vocabularies("condition") if where else {}
    ids: dict[str, np.ndarray] = {}
    for name, values in (where or {}).items():
        if name not in vocabularies:
            known = ", ".join(vocabularies) or "none"
            raise InputError(f"rank.history_where: '{name}' is no categorical condition field; there are: {known}")
        ids[name] = vocabularies[name].encode(values)
        if (ids[name] == 0).any():
            value, there = values[int(np.argmin(ids[name]))], ", ".join(vocabularies[name].values[:8])
            raise InputError(f"rank.history_where.{name}: the dataset has no value '{value}'; it has {there} ...")
    return ids
