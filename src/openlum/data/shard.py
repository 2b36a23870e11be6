"""Shards of a dataset: everything about some of the users. One part of `sequences/` and the parts of `impressions/` with the same
name are a shard, so training, querying and evaluation need one shard at a time."""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa

from openlum.data.info import DatasetInfo, ImpressionSet
from openlum.data.sequences import Impressions, Sequences
from openlum.data.vocabulary import Vocabulary


class ShardedDataset(Protocol):
    """What a shard needs of its dataset; `openlum.data.dataset.Dataset` describes the methods."""

    info: DatasetInfo
    """The content of `dataset.json`."""

    @property
    def impression_count(self) -> int:
        """Number of impressions with and without a label."""

    @property
    def impression_sets(self) -> list[ImpressionSet]:
        """The splits, and `unlabelled` if there are impressions without a label."""

    def shards(self) -> "list[Shard]":
        """Return the shards."""

    def sequences_of(self, names: Sequence[str]) -> Sequences:
        """Return the events of the users of shards."""

    def impressions_of(self, name: str, split: ImpressionSet) -> Impressions:
        """Return the impressions of the users of a shard."""

    def raw_ids(self, name: Literal["items", "users"]) -> pa.Array:
        """Return the raw ids of items or users."""

    def vocabularies(self, kind: str) -> dict[str, Vocabulary]:
        """Return the vocabularies of a kind of fields, such as `item`, by field name."""

    def item_features(self) -> dict[str, np.ndarray]:
        """Return each item field, indexed by item id."""


class Shard:
    """Everything about some users. Nothing is read before it is used, and the dataset caches what was read last.

    Args:
        dataset: that has the shard.
        name: file name of the shard's parts.
        events: number of events.
    """

    def __init__(self, dataset: ShardedDataset, name: str, events: int) -> None:
        self.dataset, self.name, self.events = dataset, name, events

    @property
    def sequences(self) -> Sequences:
        """The events of the shard's users."""
        return self.dataset.sequences_of([self.name])

    def impressions(self, split: ImpressionSet) -> Impressions:
        """Return the impressions of the shard's users of one split, or those without a label. There may be none."""
        return self.dataset.impressions_of(self.name, split)
