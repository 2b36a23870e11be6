"""Rows of rankers, and the buffer of shards whose events, fields and knowledge are in memory at a time.

Shapes: I rows of a split, n behaviours of the users of a buffer, i rows of a buffer, N events of a shard, V items, Q questions,
E width of an answer, A features of an activity.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from openlum.data.dataset import Dataset, Split
from openlum.data.sequences import Impressions, Sequences, concatenate, event_mask
from openlum.data.shard import Shard
from openlum.model.batch import Fields

ActivityOfRows = Callable[[Split, np.ndarray], Tensor]
"""A function from a split and row ids (i,) to the activity of the items, (i, A) float32."""
KnowledgeOfRows = Callable[[Split, np.ndarray], tuple[Tensor, Tensor]]
"""A function from a split and row ids (i,) to their answers (i, Q, E) float16 and scores (i, Q) float32."""
SeeShard = Callable[[int, Sequences, np.ndarray, dict[Split, Impressions]], None]
"""Called with a shard's number, sequences, behaviour mask (N,) and impressions by split, while they are in memory."""


@dataclass
class Rows:
    """The rows of one split, the impressions with a label, without their fields. They stay in memory: 40 bytes a row."""

    split: Split
    """The split."""
    row: Tensor
    """(I,) int64 row ids."""
    user: Tensor
    """(I,) int32 user ids."""
    item: Tensor
    """(I,) int32 target item ids."""
    label: Tensor
    """(I,) float32."""
    prefix: Tensor
    """(I,) int32: number of the user's events that lie before the row."""
    time: Tensor
    """(I,) int64 seconds since 1970."""
    shard: Tensor
    """(I,) int32: number of the shard that has the row."""
    place: Tensor
    """(I,) int32: index of the row among the shard's rows of the split."""
    request: Tensor | None = None
    """(I,) int64: equal for rows of one user that were candidates together; None if the log does not name requests."""

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: Tensor) -> "Rows":
        """Return the rows at `index`."""
        return Rows(self.split, **{name: column[index] for name, column in self.columns().items()})

    def columns(self) -> dict[str, Tensor]:
        """Return the columns that the log has, (I,) each."""
        return {name: column for name, column in vars(self).items() if isinstance(column, Tensor)}


def row_index(parts: list["Rows"]) -> Rows:
    """Return the rows of several shards as one, by row id."""
    names = parts[0].columns()
    joined = Rows(parts[0].split, **{name: torch.cat([part.columns()[name] for part in parts]) for name in names})
    return joined.take(joined.row.argsort(stable=True))


@dataclass
class BufferRows:
    """The rows of one split in a buffer, shard by shard."""

    row: np.ndarray
    """(i,) row ids."""
    features: Fields
    """condition.FIELD and context.FIELD to (i, ...). Ids are int32."""
    history_start: Tensor
    """(i,) index of the user's first behaviour in the buffer."""
    history_stop: Tensor
    """(i,) index one past the last behaviour that lies before the row."""
    first: Tensor
    """Index of the first row of each shard of the dataset, by number; -1 for a shard that is not in the buffer."""


class Buffer:
    """The behaviours and rows of some shards.

    Args:
        dataset: with the shards.
        shards: number and shard of each.
        splits: whose rows are read.
        fields: names of the condition fields of a behaviour.
        where: an event is a behaviour if each of these condition fields has one of these ids.
        knowledge: reads the knowledge of rows, when it is used for the first time.
        activity: computes the activity of the rows' items, when it is used for the first time.
        see: called with each shard.
    """

    def __init__(
        self,
        dataset: Dataset,
        shards: Mapping[int, Shard],
        splits: Sequence[Split],
        fields: Sequence[str],
        where: Mapping[str, np.ndarray],
        knowledge: KnowledgeOfRows,
        activity: ActivityOfRows,
        see: SeeShard = lambda *shard: None,
    ) -> None:
        self._dataset, self._shards, self._knowledge_of_rows = dataset, dict(shards), knowledge
        self._knowledge: dict[Split, tuple[Tensor, Tensor]] = {}
        self._activity_of_rows, self._activity = activity, dict[Split, Tensor]()
        item, condition = [np.empty(0, np.int32)], {name: [] for name in fields}  # type: ignore[var-annotated]
        rows: dict[Split, list[tuple[Impressions, np.ndarray, np.ndarray]]] = {split: [] for split in splits}
        number = 0
        for shard_number, shard in self._shards.items():
            sequences = shard.sequences
            mask = event_mask(sequences, where)
            before = number + np.concatenate([[0], np.cumsum(mask)])  # (N + 1,)
            item.append(sequences.item[mask])
            for name, values in condition.items():
                values.append(sequences.condition[name][mask])
            by_split = {split: shard.impressions(split) for split in splits}
            for split, impressions in by_split.items():
                user_index = sequences.user_index(impressions.user)
                start = np.where(
                    user_index < 0, 0, sequences.offsets[np.maximum(user_index, 0)]
                )  # (i,) into the events
                stop = start + np.where(user_index < 0, 0, impressions.prefix)
                rows[split].append((impressions, before[start], before[stop]))
            number += int(mask.sum())
            see(shard_number, sequences, mask, by_split)
        self.item = torch.from_numpy(np.concatenate(item))
        """(n,) item ids of the behaviours of all users, end to end, int32."""
        self.condition: Fields = {name: torch.from_numpy(np.concatenate(values)) for name, values in condition.items()}
        """Condition fields of the behaviours, (n, ...). Ids are int32."""
        self.rows = {split: self._joined(rows.pop(split)) for split in splits}
        """The rows of each split."""

    @cached_property
    def names(self) -> list[str]:
        """Names of the shards."""
        return [shard.name for shard in self._shards.values()]

    @property
    def sequences(self) -> Sequences:
        """The events of all users of the buffer. The dataset keeps what was read last."""
        return self._dataset.sequences_of(self.names)

    def index(self, rows: Rows, index: Tensor) -> Tensor:
        """Return the index in the buffer, (B,), of the rows of a split at `index`, (B,)."""
        first = self.rows[rows.split].first[rows.shard[index].long()]
        assert not len(first) or int(first.min()) >= 0, "a row is not in this buffer"
        return first + rows.place[index]

    def knowledge(self, split: Split) -> tuple[Tensor, Tensor]:
        """Return answers (i, Q, E) float16 and scores (i, Q) float32 of the rows of a split."""
        if split not in self._knowledge:
            self._knowledge[split] = self._knowledge_of_rows(split, self.rows[split].row)
        return self._knowledge[split]

    def item_activity(self, split: Split) -> Tensor:
        """Return the activity of the items of the rows of a split, (i, A) float32."""
        if split not in self._activity:
            self._activity[split] = self._activity_of_rows(split, self.rows[split].row)
        return self._activity[split]

    def clear(self) -> None:
        """Let everything leave the memory."""
        self.item, self.condition, self.rows, self._knowledge, self._activity = torch.empty(0), {}, {}, {}, {}

    def _joined(self, parts: list[tuple[Impressions, np.ndarray, np.ndarray]]) -> BufferRows:
        impressions, start, stop = (list(values) for values in zip(*parts, strict=True))
        first = torch.full((len(self._dataset.shards()),), -1)
        lengths = np.array([len(part) for part in impressions])
        first[list(self._shards)] = torch.from_numpy(np.cumsum(lengths) - lengths)
        joined = concatenate(impressions)
        features = {f"condition.{name}": values for name, values in joined.condition.items()}
        features |= {f"context.{name}": values for name, values in joined.context.items()}
        return BufferRows(
            joined.row,
            {name: torch.from_numpy(values) for name, values in features.items()},
            torch.from_numpy(np.concatenate(start)),
            torch.from_numpy(np.concatenate(stop)),
            first,
        )


def shard_rows(number: int, split: Split, impressions: Impressions) -> Rows:
    """Return the rows of one shard."""
    return Rows(
        split,
        row=torch.from_numpy(impressions.row),
        user=torch.from_numpy(impressions.user),
        item=torch.from_numpy(impressions.item),
        label=torch.from_numpy(impressions.label),
        prefix=torch.from_numpy(impressions.prefix.astype(np.int32)),
        time=torch.from_numpy(impressions.time),
        shard=torch.full((len(impressions),), number, dtype=torch.int32),
        place=torch.arange(len(impressions), dtype=torch.int32),
        request=None if impressions.request is None else torch.from_numpy(impressions.request),
    )


def in_buffers(shard: Tensor, sizes: np.ndarray, buffer_rows: int) -> Iterator[list[int]]:
    """Yield the numbers of the shards of each buffer: at most `buffer_rows` events and rows, but at least one shard.

    Args:
        shard: (n,) the shard of each row, in the order of the rows. Shards come in the order of their first rows.
        sizes: the number of events and rows of each shard of the dataset.
        buffer_rows: the size of a buffer.
    """
    first = np.full(len(sizes), len(shard))
    first[shard.numpy()[::-1]] = np.arange(len(shard))[::-1]  # the first of equal indices is written last
    numbers: list[int] = []
    for number in np.argsort(first, kind="stable")[: int((first < len(shard)).sum())]:
        if numbers and sizes[numbers].sum() + sizes[number] > buffer_rows:
            yield numbers
            numbers = []
        numbers.append(int(number))
    if numbers:
        yield numbers
