"""The reader of `dataset/`: the output of `lum prepare` as flat arrays.

`log/` holds the accepted rows for `lum prepare --append` (see `prepare/log.py`), and `rejected/` the rejected rows. The reader
uses neither.

Columns in the Parquet files are named KIND.FIELD: `condition.rating`, `item.genres`, `user.gender`, `context.position`.
Encoded values: categorical int32 ids, multi lists of int32 ids, numeric float32 (standardised; null where missing), vector
float32 lists.

Shapes: U users, N events, I impressions, V items with item 0 (unknown), M values of a multi field, W width of a vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from openlum.arguments.values import as_path
from openlum.artefact.directory import check_parts, read_json, read_manifest
from openlum.artefact.parts import TypeCheck, damaged, is_integer, is_list_of, is_number, is_text, read_parts
from openlum.config import Settings, parse_settings
from openlum.data.encoded import check_ids, column_type, event_offsets, to_numpy
from openlum.data.histories import raw_histories
from openlum.data.profile import Profile
from openlum.data.time_fields import moment_starts, time_fields
from openlum.data.vocabulary import Vocabulary
from openlum.errors import InputError
from openlum.notebook import html_table
from openlum.schema import FieldSpec, Schema

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
UNLABELLED: Literal["unlabelled"] = "unlabelled"
ImpressionSet = Literal[Split, "unlabelled"]
"""A split, or the impressions without a label, which belong to no split."""
KINDS = ("condition", "item", "user", "context")
"""The kinds of fields."""
MADE_BY = "lum prepare"


class DatasetInfo(Settings):
    """The content of `dataset.json`."""

    name: str
    """Name of the data set."""
    data_schema: Schema
    """The schema that the data set was prepared with."""
    condition: list[FieldSpec]
    """Condition fields: the fields of the log first, then the time fields."""
    item: list[FieldSpec]
    """Item fields, without the id."""
    user: list[FieldSpec]
    """User fields, without the id."""
    context: list[FieldSpec]
    """Context fields of impressions."""
    counts: dict[str, int]
    """Counts of events, users, items, impressions (with and without a label) and impressions_unlabelled. For every table that was
    read: TABLE_in (rows read), TABLE (accepted rows) and TABLE_rejected."""
    rejected: dict[str, int] = {}
    """Reason to the number of rejected rows; the rows are in rejected/."""
    notes: dict[str, int] = {}
    """Data-quality notes that reject no row (such as items without a row in the item table), with their counts."""
    valid_time: int
    """First second of the validation period."""
    test_time: int
    """First second of the test period."""
    impressions: dict[Split, int]
    """Number of impressions in each split."""
    label_rule: str
    """The source of the impressions and their labels, in words."""
    profile: Profile
    """Statistics of the data set."""
    preparations: int = 1
    """1 for a new dataset; each append adds 1."""
    fingerprint: str
    """Text that changes whenever the content changes."""


@dataclass(frozen=True)
class Sequences:
    """All users' events, end to end; each user's events are in the order of time."""

    user: np.ndarray
    """(U,) user ids, ascending."""
    offsets: np.ndarray
    """(U + 1,) where each user's events begin."""
    time: np.ndarray
    """(N,) int64 seconds since 1970."""
    item: np.ndarray
    """(N,) int64 item ids."""
    condition: dict[str, np.ndarray]
    """Field name to values, (N,), (N, M) or (N, W)."""
    moment_start: np.ndarray
    """(N,) index of the first event at the same second of the same user; the events before it are known when it happens."""
    valid_at: np.ndarray
    """(U,) leave-last-out: index, within the user's events, of the validation event; the number of events if none is held out."""
    test_at: np.ndarray
    """(U,) the same for the test event."""

    def user_index(self, users: np.ndarray) -> np.ndarray:
        """Return the index into `user` of user ids; -1 for users without events."""
        if not len(self.user):
            return np.full(len(users), -1)
        index = np.minimum(np.searchsorted(self.user, users), len(self.user) - 1)
        return np.where(self.user[index] == users, index, -1)


@dataclass(frozen=True)
class Impressions:
    """Impressions of one split, or impressions without a label, in the order of their row ids."""

    row: np.ndarray
    """(I,) int64 row ids, unique over all splits and the impressions without a label."""
    user: np.ndarray
    """(I,) user ids."""
    time: np.ndarray
    """(I,) int64 seconds since 1970."""
    item: np.ndarray
    """(I,) item ids."""
    label: np.ndarray
    """(I,) float32, 0 or 1; NaN where there is no label."""
    prefix: np.ndarray
    """(I,) the number of the user's events strictly before the row's time. Features of the row may use only these events."""
    condition: dict[str, np.ndarray]
    """Field name to values, (I,), (I, M) or (I, W); feedback fields are *any*, because they are not known yet."""
    context: dict[str, np.ndarray]
    """Field name to values, as in `condition`."""


class Dataset:
    """A prepared data set.

    Example:
        >>> dataset = Dataset("runs/market/dataset")            # doctest: +SKIP
        >>> dataset.impressions("train").label.mean()           # doctest: +SKIP
    """

    def __init__(self, path: str | Path) -> None:
        self.path = as_path("path", path)
        self._manifest = check_parts(self.path, "dataset")
        file = self.path / "dataset.json"
        self.info = parse_settings(read_json(file, "lum prepare"), DatasetInfo, where=str(file))

    def vocabulary(self, name: str) -> Vocabulary:
        """Return the vocabulary `items`, `users` or KIND.FIELD."""
        file = self.path / "vocab" / f"{name}.parquet"
        vocabulary = Vocabulary.load(file)
        sizes = {f"{kind}.{spec.name}": spec.size for kind in KINDS for spec in self.specs(kind)}
        size = sizes[name] if name in sizes else self._largest_id(name) + 1
        if len(vocabulary) != size:
            raise damaged(file, f"has {len(vocabulary) - 1:,} values, but dataset.json has {size - 1:,}", MADE_BY)
        return vocabulary

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
        """The events of every user."""
        logged = [s for s in self.info.condition if s.name not in self.info.data_schema.time_fields]
        lists = {"item": is_list_of(is_integer), "time": is_list_of(is_integer)}
        lists |= {f"condition.{spec.name}": is_list_of(column_type(spec)) for spec in logged}
        path = self.path / "sequences"
        table = self._table("sequences", lists | dict.fromkeys(("user", "valid_at", "test_at"), is_integer)).sort_by(
            "user"
        )
        offsets = event_offsets(table, list(lists), path)
        time = table["time"].combine_chunks().flatten().to_numpy().astype(np.int64)
        item = table["item"].combine_chunks().flatten().to_numpy().astype(np.int64)
        user = table["user"].to_numpy().astype(np.int64)
        check_ids(item, self._largest_id("items"), path, "item")
        check_ids(user, self._largest_id("users"), path, "user")
        if (np.diff(user) == 0).any():
            raise damaged(path, f"has two rows of user {user[:-1][np.diff(user) == 0][0]}", MADE_BY)
        first = np.zeros(len(time), bool)
        first[offsets[:-1][np.diff(offsets) > 0]] = True
        if (np.diff(time, prepend=time[:1])[~first] < 0).any():
            raise damaged(path, "column 'time' is not in ascending order", MADE_BY)
        condition = {s.name: to_numpy(table[f"condition.{s.name}"].combine_chunks().flatten(), s, path) for s in logged}
        moment_start = moment_starts(time, first)
        condition |= self._time_fields(time, time[moment_start - 1], ~first[moment_start])
        return Sequences(
            user=user,
            offsets=offsets,
            time=time,
            item=item,
            condition=condition,
            moment_start=moment_start,
            valid_at=table["valid_at"].to_numpy().astype(np.int64),
            test_at=table["test_at"].to_numpy().astype(np.int64),
        )

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

    def impressions(self, split: ImpressionSet) -> Impressions:
        """Return the impressions of one split, or the impressions without a label."""
        stored = [s for s in self.info.condition if s.name not in self.info.data_schema.time_fields and not s.feedback]
        columns = dict.fromkeys(("row", "user", "time", "item", "prefix"), is_integer) | {"label": is_number}
        columns |= {f"condition.{spec.name}": column_type(spec) for spec in stored}
        columns |= {f"context.{spec.name}": column_type(spec) for spec in self.info.context}
        path = self.path / "impressions" / split
        table = self._table(f"impressions/{split}", columns).sort_by("row")
        user, time = table["user"].to_numpy().astype(np.int64), table["time"].to_numpy().astype(np.int64)
        prefix = table["prefix"].to_numpy().astype(np.int64)
        check_ids(user, self._largest_id("users"), path, "user")
        check_ids(table["item"].to_numpy(), self._largest_id("items"), path, "item")
        lengths = np.append(np.diff(self.sequences.offsets), 0)[
            self.sequences.user_index(user)
        ]  # 0 where there are none
        if ((prefix < 0) | (prefix > lengths)).any():
            raise damaged(path, "column 'prefix' is negative or counts more events than the user has", MADE_BY)
        condition: dict[str, np.ndarray] = {}
        for spec in self.info.condition:
            if spec.name in self.info.data_schema.time_fields:
                continue
            if spec.feedback:
                shape = (len(table), spec.width) if spec.type in ("multi", "vector") else (len(table),)
                condition[spec.name] = np.zeros(shape, np.int64) if spec.size else np.full(shape, np.nan, np.float32)
            else:
                condition[spec.name] = to_numpy(table[f"condition.{spec.name}"].combine_chunks(), spec, path)
        condition |= self._row_time_fields(user, time, prefix)
        return Impressions(
            row=table["row"].to_numpy().astype(np.int64),
            user=user,
            time=time,
            item=table["item"].to_numpy().astype(np.int64),
            label=table["label"].to_numpy().astype(np.float32),
            prefix=prefix,
            condition=condition,
            context={s.name: to_numpy(table[f"context.{s.name}"].combine_chunks(), s, path) for s in self.info.context},
        )

    def with_prefix(self, rows: Impressions, prefix: np.ndarray) -> Impressions:
        """Return the same rows with another prefix, (I,), and with the time fields that this prefix implies."""
        condition = rows.condition | self._row_time_fields(rows.user, rows.time, prefix)
        return replace(rows, prefix=prefix, condition=condition)

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
        if name not in self.info.counts:
            raise damaged(self.path / "dataset.json", f"key 'counts.{name}' is missing", MADE_BY)
        return self.info.counts[name]

    def _table(self, name: str, columns: dict[str, TypeCheck]) -> pa.Table:
        """Read a part; raise an `InputError` if the dataset on disk is no longer the dataset that was opened."""
        current = read_manifest(self.path)
        if (current and current.parts) != (self._manifest and self._manifest.parts):
            raise InputError(
                f"{self.path}: another process has replaced this dataset since it was opened; run the command again"
            )
        return read_parts(self.path / name, columns, MADE_BY)

    def _row_time_fields(self, user: np.ndarray, time: np.ndarray, prefix: np.ndarray) -> dict[str, np.ndarray]:
        """Return the time fields of rows, (I,), that see `prefix` events."""
        sequences = self.sequences
        last = sequences.offsets[np.maximum(sequences.user_index(user), 0)] + prefix - 1
        previous = sequences.time[np.maximum(last, 0)] if len(sequences.time) else time
        return self._time_fields(time, previous, prefix > 0)

    def _time_fields(self, time: np.ndarray, previous: np.ndarray, has_previous: np.ndarray) -> dict[str, np.ndarray]:
        schema = self.info.data_schema
        return time_fields(schema.time_fields, time, previous, has_previous, schema.gap_unit)
