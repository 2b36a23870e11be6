"""The inputs of rankers, read from `dataset/` and `knowledge/`. Every input of a row lies strictly before the row's time.

Shapes: I rows of a split, B rows of a batch, i rows of a buffer, L behaviours of a history, Q questions, E width of an answer, V
items.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from openlum.data.dataset import SPLITS, Dataset, Split
from openlum.data.sequences import Impressions, Sequences
from openlum.data.shard import Shard
from openlum.errors import InputError
from openlum.model.batch import Fields, to_device, to_tensors
from openlum.rank.buffer import Buffer, Rows, SeeShard, in_buffers, row_index, shard_rows
from openlum.rank.event_index import EventIndex, index_by_item
from openlum.rank.fusion import multi_value_feedback
from openlum.rank.inputs import (
    ACTIVITY_SCALE,
    ITEM_ACTIVITY,
    behaviour_specs,
    history_where_ids,
    plain_config,
    select_questions,
    tier_scores,
)
from openlum.rank.knowledge import RowKnowledge
from openlum.rank.registry import RANKERS
from openlum.rank.settings import KnowledgeShape, RankerConfig, RankSettings


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


class RankingData:
    """The data that rankers are trained and evaluated on.

    The rows of every split are in memory, without their fields. Fields, behaviours and knowledge are in memory for a buffer of
    shards at a time (`rank.buffer_rows`). If all shards fit into one buffer, they are read once and kept.

    Args:
        dataset: from `lum prepare`.
        settings: of the rankers.
        knowledge: about the same dataset; None for plain rankers only.
    """

    def __init__(self, dataset: Dataset, settings: RankSettings, knowledge: RowKnowledge | None = None) -> None:
        self.dataset, self.settings, self.knowledge = dataset, settings, knowledge
        self.behaviour_specs = behaviour_specs(dataset)
        self.user_features = to_tensors(dataset.user_features())
        self.item_features = to_tensors(dataset.item_features())
        self._where = history_where_ids(dataset, settings.history_where)
        self._shards = dict(enumerate(dataset.shards()))
        self._sizes = np.array([shard.events for shard in self._shards.values()])
        self._trained = np.zeros((2, len(dataset.vocabulary("items"))), bool)
        self._whole: Buffer | None = None
        self.rows: dict[Split, Rows] = self._read_rows()
        if knowledge is not None:
            self._embeddings = torch.from_numpy(knowledge.items)
            self._row_ids = {split: rows.row.numpy() for split, rows in self.rows.items()}
            index = knowledge.index_of(np.concatenate(list(self._row_ids.values())))
            lengths = [len(ids) for ids in self._row_ids.values()]
            self._knowledge_index = dict(zip(self._row_ids, np.split(index, np.cumsum(lengths)[:-1]), strict=True))

    @property
    def is_whole(self) -> bool:
        """Whether all shards are in one buffer."""
        return self._whole is not None

    @cached_property
    def item_events(self) -> EventIndex:
        """The events of all users by item and time. They stay in memory: 8 bytes an event, and one or more a feedback field."""
        return index_by_item(self.dataset)

    def trained_items(self, config: RankerConfig) -> Tensor:
        """Return the items that the training of the ranker `config` sees, as targets or in histories, (V,) bool."""
        trained = torch.zeros(config.items, dtype=torch.bool)
        trained[self.rows["train"].item.long()] = True
        behaviours, events = torch.from_numpy(self._trained)
        if config.history_length:
            trained |= behaviours
        elif RANKERS.load(config.architecture).end_to_end:
            trained |= events
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
            scores = tier_scores(names, chosen.tier, chosen.matching_questions) if chosen.matching else []
            shape = KnowledgeShape(
                answers=select_questions(self.knowledge.answer_names, direct),
                similarities=scores,
                probabilities=multi_value_feedback(scores, names) if chosen.late_fusion else [],
                width=self.knowledge.items.shape[1],
            )
        return plain_config(self.dataset, architecture, settings).model_copy(update={"knowledge": shape})

    def buffers(self, rows: Rows, order: Tensor) -> Iterator[tuple[Buffer, Tensor]]:
        """Yield the rows of a split at the indices `order`, (n,), buffer by buffer.

        Shards come in the order of their first rows in `order`. The indices of a buffer, (m,), keep their order, so that a random
        order is random within each buffer. A buffer can be used until the next one is read.
        """
        if self._whole is not None:
            yield self._whole, order
            return
        shard = rows.shard[order]
        for numbers in in_buffers(shard, self._sizes, self.settings.buffer_rows):
            buffer = self._read(numbers, [rows.split])
            yield buffer, order[torch.isin(shard, torch.tensor(numbers, dtype=torch.int32))]
            buffer.clear()

    def by_shard(self, rows: Rows) -> Iterator[tuple[Buffer, Shard, Tensor]]:
        """Yield the shards that have rows of a split, with a buffer that has the shard, and the indices of its rows, (m,)."""
        for number in rows.shard.unique().tolist() or [0]:
            index = (rows.shard == number).nonzero().squeeze(1)
            buffer = self._whole or self._read([number], [rows.split])
            yield buffer, self._shards[number], index
            if buffer is not self._whole:
                buffer.clear()

    def batch(self, rows: Rows, index: Tensor, config: RankerConfig) -> Batch:
        """Return the inputs of the ranker `config` for rows of a split at `index`, (B,). For many rows, `batches` is faster."""
        numbers = rows.shard[index].unique().tolist() or [0]
        return self._batch(self._whole or self._read(numbers, [rows.split]), rows, index, config)

    def batches(self, rows: Rows, order: Tensor, config: RankerConfig) -> Iterator[tuple[Batch, Tensor]]:
        """Yield batches of rows with their labels (B,), in an order, buffer by buffer; see `buffers`."""
        for index, batch in self.indexed_batches(rows, order, config):
            yield batch, rows.label[index]

    def indexed_batches(self, rows: Rows, order: Tensor, config: RankerConfig) -> Iterator[tuple[Tensor, Batch]]:
        """Yield the same batches with the indices of their rows, (B,)."""
        for buffer, buffer_order in self.buffers(rows, order):
            for index in buffer_order.split(config.settings.batch_size):
                yield index, self._batch(buffer, rows, index, config)

    def fields(self, buffer: Buffer, rows: Rows, index: Tensor) -> Fields:
        """Return user, condition and context fields of the rows at `index`, (B,): KIND.FIELD to (B, ...).

        If rankers read it, the activity of the items is among them.
        """
        user, place = rows.user[index].long(), buffer.index(rows, index)
        features = {f"user.{name}": values[user] for name, values in self.user_features.items()}
        if self.settings.item_activity:
            features[ITEM_ACTIVITY.name] = buffer.item_activity(rows.split)[place]
        return features | {
            name: with_long_ids(values[place]) for name, values in buffer.rows[rows.split].features.items()
        }

    def column(self, rows: Rows, name: str) -> Tensor:
        """Return one condition or context field of all rows, (I, ...); `name` is KIND.FIELD. Ids are int32."""
        parts, order = [], []
        for buffer, index in self.buffers(rows, torch.arange(len(rows))):
            parts.append(buffer.rows[rows.split].features[name][buffer.index(rows, index)])
            order.append(index)
        return torch.cat(parts)[torch.cat(order).argsort()]

    def scores(self, rows: Rows, names: list[str]) -> np.ndarray:
        """Return similarities and feedback logits of rows by name, (I, Q) float32. There must be knowledge."""
        assert self.knowledge is not None
        columns = [self.knowledge.score_names.index(name) for name in names]
        scores = np.empty((len(rows), len(columns)), np.float32)
        for buffer, index in self.buffers(rows, torch.arange(len(rows))):
            scores[index.numpy()] = buffer.knowledge(rows.split)[1][buffer.index(rows, index)][:, columns]
        return scores

    def buffer_scores(self, buffer: Buffer, rows: Rows, index: Tensor, config: RankerConfig) -> np.ndarray:
        """Return the same as `knowledge_scores` for the rows of a buffer at `index`, (B, Q)."""
        assert config.knowledge is not None
        self._check_knowledge(config)
        scores = buffer.knowledge(rows.split)[1][buffer.index(rows, index)]
        return scores[:, self._knowledge_columns(config.knowledge)[1]].numpy()

    def knowledge_scores(self, rows: Rows, config: RankerConfig) -> np.ndarray:
        """Return the similarities and feedback logits of rows that the ranker `config` reads, (I, Q) float32.

        Raises:
            InputError: there is no knowledge.
        """
        assert config.knowledge is not None
        self._check_knowledge(config)
        return self.scores(rows, config.knowledge.similarities)

    def _read_rows(self) -> dict[Split, Rows]:
        """Read all shards once, and return the rows of each split, by row id. The buffer stays open if it has all shards."""
        parts: dict[Split, list[Rows]] = {split: [] for split in SPLITS}

        def see(number: int, sequences: Sequences, mask: np.ndarray, impressions: dict[Split, Impressions]) -> None:
            early = sequences.time < self.dataset.info.valid_time
            self._trained[0, sequences.item[mask & early]] = self._trained[1, sequences.item[early]] = True
            for split, split_impressions in impressions.items():
                parts[split].append(shard_rows(number, split, split_impressions))
                self._sizes[number] += len(split_impressions)

        if self._sizes.sum() + sum(self.dataset.info.impressions.values()) <= self.settings.buffer_rows:
            self._whole = self._read(list(self._shards), SPLITS, see)
        else:
            for number in self._shards:
                self._read([number], SPLITS, see)
        return {split: row_index(parts.pop(split)) for split in SPLITS}

    def _read(self, numbers: list[int], splits: Sequence[Split], see: SeeShard = lambda *shard: None) -> Buffer:
        shards = {number: self._shards[number] for number in numbers}
        names = [spec.name for spec in self.behaviour_specs]
        sources = self._knowledge_of_rows, self._activity_of_rows
        return Buffer(self.dataset, shards, splits, names, self._where, *sources, see)

    def _activity_of_rows(self, split: Split, row: np.ndarray) -> Tensor:
        """Return the activity of the items of rows by id, (i,), as network rankers read it, (i, A)."""
        rows = self.rows[split]
        index = np.searchsorted(rows.row.numpy(), row)
        activity = self.dataset.item_activity.features(rows.item.numpy()[index], rows.time.numpy()[index])
        return torch.from_numpy(activity / np.float32(ACTIVITY_SCALE))

    def _knowledge_of_rows(self, split: Split, row: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return answers (i, Q, E) and scores (i, Q) of rows by id, (i,)."""
        assert self.knowledge is not None
        index = self._knowledge_index[split][np.searchsorted(self._row_ids[split], row)]
        answers, scores = self.knowledge.read(index)
        return torch.from_numpy(answers), torch.from_numpy(scores)

    def _batch(self, buffer: Buffer, rows: Rows, index: Tensor, config: RankerConfig) -> Batch:
        """Return the inputs of the ranker `config` for rows of a buffer at `index`, (B,)."""
        place, buffer_rows = buffer.index(rows, index), buffer.rows[rows.split]
        stop = buffer_rows.history_stop[place]
        behaviours = stop - buffer_rows.history_start[place]  # (B,)
        item = rows.item[index].long()
        features = self.fields(buffer, rows, index)
        batch = Batch(rows.user[index].long(), item, features, behaviours.float().log1p())
        if config.history_length:
            batch.history = _history(buffer, stop, behaviours, config.history_length)
        if config.knowledge is not None:
            self._check_knowledge(config)
            answers, scores = buffer.knowledge(rows.split)
            answer_columns, score_columns = self._knowledge_columns(config.knowledge)
            batch.knowledge = KnowledgeInput(
                answers[place][:, answer_columns], self._embeddings[item], scores[place][:, score_columns]
            )
        return batch

    def _check_knowledge(self, config: RankerConfig) -> None:
        """Raise an `InputError` if there is no knowledge."""
        if self.knowledge is None:
            raise InputError(
                f"the ranker '{config.architecture}' reads knowledge, and this data has none; give the output of 'lum query'"
            )

    def _knowledge_columns(self, shape: KnowledgeShape) -> tuple[slice | list[int], slice | list[int]]:
        """Return the columns of answers and of scores that a ranker reads."""
        assert self.knowledge is not None
        needed = (
            (self.knowledge.answer_names, shape.answers),
            (self.knowledge.score_names, shape.similarities),
        )
        answers, scores = (
            slice(None) if names == selected else [names.index(name) for name in selected] for names, selected in needed
        )
        return answers, scores


def _history(buffer: Buffer, stop: Tensor, behaviours: Tensor, max_length: int) -> Behaviours:
    """Return the last `max_length` behaviours before the index `stop`, (B,). `behaviours`, (B,), is their number."""
    length = min(max_length, int(behaviours.max()) if len(behaviours) else 0)
    back = torch.arange(1, length + 1)  # (L,)
    mask = back <= behaviours[:, None]  # (B, L)
    index = (stop[:, None] - back).masked_fill_(~mask, 0)  # (B, L)
    condition = {name: with_long_ids(values[index]) for name, values in buffer.condition.items()}
    return Behaviours(buffer.item[index].long(), condition, mask)


def with_long_ids(values: Tensor) -> Tensor:
    """Return a field with int64 ids in place of int32 ids, which embedding tables read; numbers stay the same."""
    return values if values.is_floating_point() else values.long()
