"""The loader of training batches from shards. A buffer of some shards is in memory at a time.

The order of an epoch is a function of the seed and the epoch: first the order of the shards, which are put into buffers, then the
order of the spans within each buffer. The state of the loader is therefore a position.

Shapes: U users of a buffer, B spans in a batch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from openlum.data.dataset import Dataset
from openlum.data.packing import Spans, batches, training_spans
from openlum.data.sequences import Sequences
from openlum.data.shard import Shard

SHARD_ORDER = 2**32 - 1
"""The third number of the seed of the order of the shards; the other draws have the number of their buffer."""
DEALT_SHARDS = 8
"""With at least this many shards for each rank, a shard belongs to one rank. Otherwise the ranks share every shard."""


@dataclass(frozen=True)
class Share:
    """The share of one of several processes that train together."""

    rank: int
    """Number of the process, from 0."""
    world_size: int
    """Number of processes."""
    largest: Callable[[int], int]
    """Returns the largest of the numbers that the ranks pass, to all of them: with torch.distributed, `all_reduce` with `MAX`."""


WHOLE = Share(0, 1, lambda number: number)
"""The share of a process that trains alone."""


class TrainingLoader:
    """A loader of batches of spans, buffer by buffer and epoch by epoch.

    `open` reads the buffer at the current position into `sequences`, and `batches` yields its remaining batches. Afterwards the
    position is the next buffer, or the next epoch. With few shards, rank r of w takes every w-th span of each buffer; with many,
    it takes every w-th shard.

    All ranks have the same number of buffers in an epoch, and the same number of batches in a buffer, because ranks that train
    together wait for each other in every step. They agree on the largest number of batches that a rank has. The last batches of
    the others are empty. So an epoch has every training event once, and all ranks are at the same position.

    Args:
        dataset: with the shards.
        training_end: returns the number of training events of each user, (U,).
        max_events: longest span.
        batch_events: events of a batch.
        buffer_events: events in a buffer; a buffer has at least one shard.
        seed: of the order.
        share: of this process, if several processes train together.
    """

    def __init__(
        self,
        dataset: Dataset,
        training_end: Callable[[Sequences], np.ndarray],
        *,
        max_events: int,
        batch_events: int,
        buffer_events: int,
        seed: int,
        share: Share = WHOLE,
    ) -> None:
        self.dataset, self.training_end, self.shards = dataset, training_end, dataset.shards()
        self.max_events, self.batch_events, self.buffer_events = max_events, batch_events, buffer_events
        self.seed, self.share = seed, share
        self.is_dealt = len(self.shards) >= DEALT_SHARDS * self.share.world_size
        self.epoch, self.buffer, self.batch = 0, 0, 0
        self.names: list[str] = []
        """Names of the shards in the open buffer."""
        self._sequences: Sequences | None = None

    @property
    def sequences(self) -> Sequences:
        """The sequences of the open buffer, which the spans of its batches refer to."""
        assert self._sequences is not None
        return self._sequences

    def state(self) -> dict[str, int]:
        """Return the position of the next batch: `epoch`, `buffer` in the epoch and `batch` in the buffer."""
        return {"epoch": self.epoch, "buffer": self.buffer, "batch": self.batch}

    def load_state(self, state: dict[str, int]) -> None:
        """Continue at a position that `state` returned."""
        self.epoch, self.buffer, self.batch = state["epoch"], state["buffer"], state["batch"]

    def names_at_position(self) -> list[str]:
        """Return the names of the shards in the buffer at the current position."""
        return sorted(shard.name for shard in self.buffers(self.epoch)[self.buffer])

    def open(self) -> None:
        """Read the buffer at the current position, unless it is open already."""
        names = self.names_at_position()
        if names != self.names:
            self.close()  # before the next buffer is read
            self._sequences, self.names = self.dataset.sequences_of(names), names

    def close(self) -> None:
        """Let the open buffer leave the memory. The position stays."""
        self._sequences, self.names = None, []

    def batches(self) -> Iterator[Spans]:
        """Yield the remaining batches of the open buffer, and go to the next buffer. Every rank must call it for every buffer."""
        spans = self.spans()
        own = list(batches(spans, self.batch_events))
        for index in range(self.batch, self.share.largest(len(own))):
            self.batch = index + 1
            yield own[index] if index < len(own) else spans.take(slice(0))
        self.skip_buffer()

    def epoch_batches(self, open_buffer: Callable[[], None] | None = None) -> Iterator[Spans]:
        """Yield the remaining batches of the epoch, with spans of `sequences`.

        Args:
            open_buffer: called before the batches of every buffer; by default `open`, which it must call.
        """
        epoch = self.epoch
        while self.epoch == epoch:
            (open_buffer or self.open)()
            yield from self.batches()

    def skip_buffer(self) -> None:
        """Go to the next buffer, or to the next epoch."""
        self.buffer, self.batch = self.buffer + 1, 0
        if self.buffer == len(self.buffers(self.epoch)):
            self.epoch, self.buffer = self.epoch + 1, 0

    def spans(self) -> Spans:
        """Return this process's spans of the open buffer in the order of the current epoch."""
        rank, world_size = self.share.rank, self.share.world_size
        number = self.buffer * world_size + rank if self.is_dealt else self.buffer
        seed = (self.seed, self.epoch, number) if number else (self.seed, self.epoch)
        spans = training_spans(self.training_end(self.sequences), self.max_events, np.random.default_rng(seed))
        return spans if self.is_dealt else spans.take(slice(rank, None, world_size))

    def buffers(self, epoch: int) -> list[list[Shard]]:
        """Return this process's shards of an epoch in buffers, in the order of the epoch.

        A buffer ends at the same turn for all ranks, before any of them has more than `buffer_events`. If the last turn has too
        few shards for all ranks, it belongs to the last buffer, so that no buffer of a rank is empty.
        """
        order = np.random.default_rng((self.seed, epoch, SHARD_ORDER)).permutation(len(self.shards))
        rank, dealt = (self.share.rank, self.share.world_size) if self.is_dealt else (0, 1)
        buffers: list[list[Shard]] = []
        events = np.zeros(dealt, np.int64)  # in the last buffer of each rank
        for first in range(0, len(order), dealt):
            turn = [self.shards[index] for index in order[first : first + dealt]]
            sizes = np.array([shard.events for shard in turn] + [0] * (dealt - len(turn)))
            if len(turn) == dealt and (not buffers or (events + sizes).max() > self.buffer_events):
                buffers.append([])
                events[:] = 0
            buffers[-1] += turn[rank : rank + 1]
            events += sizes
        return buffers
