"""The reader of `dataset/`: the output of `lum prepare` as flat arrays.

`log/` holds the accepted rows for `lum prepare --append` (see `prepare/stored_log.py`), and `rejected/` the rejected rows. The
reader uses neither.

Columns in the Parquet files are named KIND.FIELD: `condition.rating`, `item.genres`, `user.gender`, `context.position`.
Encoded values: categorical int32 ids, multi lists of int32 ids, numeric float32 (standardised; null where missing), vector
float32 lists.

Shapes: U users, N events, I impressions, V items with item 0 (unknown), M values of a multi field, W width of a vector.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from openlum.arguments.values import as_path
from openlum.artefact.directory import check_parts
from openlum.artefact.json_file import read_json
from openlum.artefact.manifest import read_manifest
from openlum.artefact.parts import TypeCheck, damaged, is_integer, is_number, is_text, part_files, read_parts
from openlum.config import parse_settings
from openlum.data.encoded import column_type, to_numpy
from openlum.data.histories import raw_histories
from openlum.data.info import KINDS, MADE_BY, SPLITS, UNLABELLED, DatasetInfo, ImpressionSet, Split
from openlum.data.item_activity import ItemActivity
from openlum.data.part_reader import (
    event_count,
    largest_id,
    part_names,
    read_impressions,
    sequence_columns,
    to_sequences,
)
from openlum.data.sequences import Impressions, Sequences, join_sequences
from openlum.data.shard import Shard
from openlum.data.vocabulary import Vocabulary
from openlum.errors import InputError
from openlum.field_spec import FieldSpec
from openlum.notebook import html_table

__all__ = [
    "KINDS",
    "SPLITS",
    "UNLABELLED",
    "Dataset",
    "DatasetInfo",
    "ImpressionSet",
    "Impressions",
    "Sequences",
    "Split",
]

CACHE_EVENTS = 1 << 21
"""By default, so many events of shards are kept in memory."""


class Dataset:
    """A prepared data set.

    Examples:
        >>> dataset = Dataset("runs/market/dataset")            # doctest: +SKIP
        >>> dataset.impressions("train").label.mean()           # doctest: +SKIP
    """

    def __init__(self, path: str | Path) -> None:
        self.path = as_path("path", path)
        self._manifest = check_parts(self.path, "dataset")
        file = self.path / "dataset.json"
        self.info = parse_settings(read_json(file, "lum prepare"), DatasetInfo, where=str(file))
        self.cache_events = CACHE_EVENTS
        self._cache: dict[tuple[str, ...], Sequences] = {}
        self._raw_ids: dict[str, pa.Array] = {}

    def vocabulary(self, name: str) -> Vocabulary:
        """Return the vocabulary `items`, `users` or KIND.FIELD."""
        file = self.path / "vocab" / f"{name}.parquet"
        vocabulary = Vocabulary.load(file)
        sizes = {f"{kind}.{spec.name}": spec.size for kind in KINDS for spec in self.specs(kind)}
        size = sizes[name] if name in sizes else self._largest_id(name) + 1
        if len(vocabulary) != size:
            raise damaged(file, f"has {len(vocabulary) - 1:,} values, but dataset.json has {size - 1:,}", MADE_BY)
        return vocabulary

    def raw_ids(self, name: Literal["items", "users"]) -> pa.Array:
        """Return the raw ids of items or users as text, in the order of their ids in the dataset; null for id 0."""
        if name not in self._raw_ids:
            file = self.path / "vocab" / f"{name}.parquet"
            table = read_parts(file, {"value": is_text, "id": is_integer}, MADE_BY).sort_by("id")
            if not np.array_equal(table["id"].to_numpy(), np.arange(1, self._largest_id(name) + 1)):
                raise damaged(file, f"must have one row for each of the {self._largest_id(name):,} ids", MADE_BY)
            values = pa.chunked_array([pa.nulls(1, pa.string()), *table["value"].cast(pa.string()).chunks])
            self._raw_ids[name] = values.combine_chunks()
        return self._raw_ids[name]

    def vocabularies(self, kind: str) -> dict[str, Vocabulary]:
        """Return, by field name, the vocabularies of the categorical and multi fields of a kind, such as `condition`."""
        time_field_names = self.info.data_schema.time_fields if kind == "condition" else []
        return {
            spec.name: self.vocabulary(f"{kind}.{spec.name}")
            for spec in self.specs(kind)
            if spec.in_vocabulary and spec.name not in time_field_names
        }

    def specs(self, kind: str) -> list[FieldSpec]:
        """Return the fields of `condition`, `item`, `user` or `context`."""
        return list(getattr(self.info, kind))

    @cached_property
    def sequences(self) -> Sequences:
        """The events of every user: all shards together, by user. Whatever is large uses `shards` instead."""
        self._cache.clear()
        return self._read_sequences(self._event_counts)

    @cached_property
    def item_activity(self) -> ItemActivity:
        """The activity of items as of any time. It stays in memory: 8 bytes an event."""
        return ItemActivity(self.groups_of_sequences())

    def shards(self) -> list[Shard]:
        """Return the shards. Together they have every user with events or impressions, each in one shard.

        Raises:
            InputError: a part is damaged, or there is none.
        """
        return [Shard(self, name, events) for name, events in self._event_counts.items()]

    def groups_of_sequences(self) -> Iterator[Sequences]:
        """Yield the events of all users, some shards at a time: at most `cache_events`, but at least one shard."""
        names: list[str] = []
        for name, events in self._event_counts.items():
            if names and sum(self._event_counts[other] for other in names) + events > self.cache_events:
                yield self.sequences_of(names)
                names = []
            names.append(name)
        yield self.sequences_of(names)

    def sequences_of(self, names: Sequence[str]) -> Sequences:
        """Return the events of the users of shards, by the names of the shards. What was read last is in memory.

        Before new events are read, sequences that were read earlier leave the memory, until all have at most `cache_events`.
        """
        key = tuple(sorted(names))
        if len(key) == len(self._event_counts):
            return self.sequences
        if key not in self._cache:
            room = self.cache_events - sum(self._event_counts[name] for name in key)
            while self._cache and sum(len(cached.item) for cached in self._cache.values()) > room:
                del self._cache[next(iter(self._cache))]
            self._cache[key] = self._read_sequences(key)
        self._cache[key] = self._cache.pop(key)  # the most recently used entry comes last
        return self._cache[key]

    @cached_property
    def _event_counts(self) -> dict[str, int]:
        """The name of each shard and its number of events."""
        self._check_current()
        directory = self.path / "sequences"
        names = part_names(directory)
        if not names:
            raise InputError(f"{directory}: has no Parquet file; run '{MADE_BY}' again")
        return {name: event_count(directory / name) for name in names}

    def _read_sequences(self, names: Iterable[str]) -> Sequences:
        parts = []
        for name in names:
            table = self._table(f"sequences/{name}", sequence_columns(self.info))
            parts.append(to_sequences(table, self.info, self.path / "sequences" / name))
            del table
            pa.default_memory_pool().release_unused()
        return join_sequences(parts)

    def histories(self, user_ids: Sequence[Any] | None = None) -> dict[str, list[dict[str, Any]]]:
        """Return the histories of users in raw values, as `LargeUserModel.ask` and `recommend` read them.

        An event is a mapping with `item`, `time` (seconds since 1970) and the condition fields that are known. A number in
        buckets is the largest number of its bucket. Hashed fields are left out: a dataset does not have their values.

        Args:
            user_ids: raw ids; None for all users with events.

        Returns:
            The raw id as text to the user's events, oldest first, in the order of `user_ids`. A known user without events has an
            empty history.

        Raises:
            InputError: the dataset has no user of an id.
        """
        return raw_histories(self, user_ids)

    def _repr_html_(self) -> str:
        """Return a table for a notebook."""
        info = self.info
        names = ("events", "users", "items", "impressions")
        figures: dict[str, Any] = {name: info.counts[name] for name in names if name in info.counts}
        figures |= {f"impressions, {split}": rows for split, rows in info.impressions.items()}
        figures |= {
            "rejected rows": sum(info.rejected.values()),
            "condition fields": ", ".join(s.name for s in info.condition),
        }
        return html_table(f"Dataset {info.name}", figures, self.path)

    def labels(self, split: Split) -> set[float]:
        """Return the distinct labels of a split."""
        return set(self._table(f"impressions/{split}", {"label": is_number})["label"].unique().to_pylist())

    @property
    def impression_sets(self) -> list[ImpressionSet]:
        """The splits, and `unlabelled` if there are impressions without a label."""
        return [*SPLITS, UNLABELLED] if self.info.counts.get("impressions_unlabelled") else [*SPLITS]

    @property
    def impression_count(self) -> int:
        """Number of impressions with and without a label."""
        return sum(self.info.impressions.values()) + self.info.counts.get("impressions_unlabelled", 0)

    def impressions(self, split: ImpressionSet) -> Impressions:
        """Return the impressions of one split, or the impressions without a label, of all users."""
        path = self.path / "impressions" / split
        self._check_current()
        return read_impressions([path], self.info, self.sequences, path)

    def impressions_of(self, name: str, split: ImpressionSet) -> Impressions:
        """Return the impressions of the users of one shard."""
        path = self.path / "impressions" / split / name
        self._check_current()
        paths = [path] if path.exists() and part_files(path) else []
        return read_impressions(paths, self.info, self.sequences_of([name]), path)

    def item_features(self) -> dict[str, np.ndarray]:
        """Return each item field as (V,), (V, M) or (V, W), indexed by item id."""
        return self._features("item")

    def item_titles(self) -> list[str]:
        """Return a title for each item, (V,); the raw id if the item has no title."""
        titles: list[str] = self._table("items.parquet", {"title": is_text})["title"].to_pylist()
        return titles

    def user_features(self) -> dict[str, np.ndarray]:
        """Return each user field, indexed by user id, as in `item_features`."""
        return self._features("user")

    def _features(self, kind: Literal["item", "user"]) -> dict[str, np.ndarray]:
        name, specs = f"{kind}s.parquet", self.specs(kind)
        if not specs:
            return {}
        table = self._table(name, {f"{kind}.{spec.name}": column_type(spec) for spec in specs})
        if len(table) != self._largest_id(f"{kind}s") + 1:
            raise damaged(self.path / name, f"has {len(table):,} rows, but must have one row for each id", MADE_BY)
        return {s.name: to_numpy(table[f"{kind}.{s.name}"].combine_chunks(), s, self.path / name) for s in specs}

    def _largest_id(self, name: str) -> int:
        """Return the largest id of `items` or `users`."""
        return largest_id(self.info, name, self.path / "dataset.json")

    def _table(self, name: str, columns: dict[str, TypeCheck]) -> pa.Table:
        """Read a part. See `_check_current` for the error that it may raise."""
        self._check_current()
        return read_parts(self.path / name, columns, MADE_BY)

    def _check_current(self) -> None:
        """Raise an `InputError` if the dataset on disk is no longer the dataset that was opened."""
        current = read_manifest(self.path)
        if (current and current.parts) != (self._manifest and self._manifest.parts):
            raise InputError(
                f"{self.path}: another process has replaced this dataset since it was opened; run the command again"
            )
