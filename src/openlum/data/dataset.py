"""The reader of `dataset/`: what `lum prepare` wrote, as flat arrays.

`log/` holds what the rest was computed from, for `lum prepare --append` (see `log.py`), and `rejected/` the refused rows;
nothing here reads them.

Columns in the Parquet files are named KIND.FIELD: `condition.rating`, `item.genres`, `user.gender`, `context.position`.
Encoded values: categorical int32 ids, multi lists of int32 ids, numeric float32 (standardised;
null where missing), vector float32 lists.

Shapes: U users, N events, I impressions, V items with item 0 (unknown), M values of a multi field, W width of a vector.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from openlum.arguments.values import as_path
from openlum.artefact.directory import check_parts, read_json, read_manifest
from openlum.artefact.parts import Fits, damaged, list_of, number, read_parts, text, whole
from openlum.config import Settings, parse_settings
from openlum.data.encoded import check_ids, encoded, event_offsets, values_of
from openlum.data.profile import Profile
from openlum.data.time_fields import moment_begins, time_fields
from openlum.data.vocabulary import Vocabulary
from openlum.errors import InputError
from openlum.schema import FieldSpec, Schema

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
UNLABELLED: Literal["unlabelled"] = "unlabelled"
ImpressionSet = Literal[Split, "unlabelled"]
"""A split, or the impressions without a label, which are in none."""
KINDS = ("condition", "item", "user", "context")
"""Of fields."""
MADE_BY = "lum prepare"


class DatasetInfo(Settings):
    """The content of `dataset.json`."""

    name: str
    """Name of the data set."""
    data_schema: Schema
    """The schema it was prepared from."""
    condition: list[FieldSpec]
    """Condition fields, those of the log first, then the time fields."""
    item: list[FieldSpec]
    """Item fields, without the id."""
    user: list[FieldSpec]
    """User fields, without the id."""
    context: list[FieldSpec]
    """Context fields of impressions."""
    counts: dict[str, int]
    """events, users, items, impressions (those without a label among them), impressions_unlabelled; of every table that was read
    TABLE_in, TABLE (accepted) and TABLE_rejected."""
    rejected: dict[str, int] = {}
    """Reason to number of refused rows; the rows lie in rejected/."""
    notes: dict[str, int] = {}
    """What was handled without refusing a row (out of order, items without a row in the item table ...), counted."""
    valid_time: int
    """First second of the validation period."""
    test_time: int
    """First second of the test period."""
    impressions: dict[Split, int]
    """Rows in each split of the impressions."""
    label_rule: str
    """In words: where the impressions and their labels come from."""
    profile: Profile
    """What the data set looks like."""
    preparations: int = 1
    """1, and one more for every log appended."""
    fingerprint: str
    """Changes whenever the content does."""


@dataclass(frozen=True)
class Sequences:
    """All users' events, end to end; a user's events in order of time."""

    user: np.ndarray
    """(U,) user ids, ascending."""
    offsets: np.ndarray
    """(U + 1,) where each user's events begin."""
    time: np.ndarray
    """(N,) int64 seconds since 1970."""
    item: np.ndarray
    """(N,) int64 item ids."""
    condition: dict[str, np.ndarray]
    """Field to (N,), (N, M) or (N, W)."""
    moment: np.ndarray
    """(N,) index of the first event at the same second of the same user; the events before it are known when it happens."""
    valid_at: np.ndarray
    """(U,) leave-last-out: index in the user's events of the one held out for validation; their number where there is none."""
    test_at: np.ndarray
    """(U,) the same for the test."""

    def position_of(self, users: np.ndarray) -> np.ndarray:
        """Index into `user` of user ids, -1 for users without events."""
        if not len(self.user):
            return np.full(len(users), -1)
        found = np.minimum(np.searchsorted(self.user, users), len(self.user) - 1)
        return np.where(self.user[found] == users, found, -1)


@dataclass(frozen=True)
class Impressions:
    """Rows of one split, or those without a label, in the order of their row ids."""

    row: np.ndarray
    """(I,) int64 row ids, unique over all splits and the rows without a label."""
    user: np.ndarray
    """(I,) user ids."""
    time: np.ndarray
    """(I,) int64 seconds since 1970."""
    item: np.ndarray
    """(I,) item ids."""
    label: np.ndarray
    """(I,) float32, 0 or 1; NaN where there is no label."""
    prefix: np.ndarray
    """(I,) how many of the user's events lie strictly before the row's time: all that a feature of the row may use."""
    condition: dict[str, np.ndarray]
    """Field to (I,), (I, M) or (I, W); feedback fields are *any*, for they are not known yet."""
    context: dict[str, np.ndarray]
    """Field to values, as in `condition`."""


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

    def vocabulary(self, name: str) -> Vocabulary:
        """The vocabulary `items`, `users` or KIND.FIELD."""
        file = self.path / "vocab" / f"{name}.parquet"
        vocabulary = Vocabulary.load(file)
        sizes = {f"{kind}.{spec.name}": spec.size for kind in KINDS for spec in self.specs(kind)}
        size = sizes[name] if name in sizes else self._most(name) + 1
        if len(vocabulary) != size:
            raise damaged(file, f"has {len(vocabulary) - 1:,} values, not the {size - 1:,} of dataset.json", MADE_BY)
        return vocabulary

    def vocabularies(self, kind: str) -> dict[str, Vocabulary]:
        """Field to vocabulary, for the categorical and multi fields of `condition`, `item`, `user` or `context`."""
        derived = self.info.data_schema.time_fields if kind == "condition" else []
        return {
            spec.name: self.vocabulary(f"{kind}.{spec.name}")
            for spec in self.specs(kind)
            if spec.in_vocabulary and spec.name not in derived
        }

    def specs(self, kind: str) -> list[FieldSpec]:
        """The fields of `condition`, `item`, `user` or `context`."""
        return list(getattr(self.info, kind))

    @cached_property
    def sequences(self) -> Sequences:
        """Every user's events."""
        logged = [s for s in self.info.condition if s.name not in self.info.data_schema.time_fields]
        lists = {"item": list_of(whole), "time": list_of(whole)}
        lists |= {f"condition.{spec.name}": list_of(encoded(spec)) for spec in logged}
        path = self.path / "sequences"
        table = self._table("sequences", lists | dict.fromkeys(("user", "valid_at", "test_at"), whole)).sort_by("user")
        offsets = event_offsets(table, list(lists), path)
        time = table["time"].combine_chunks().flatten().to_numpy().astype(np.int64)
        item = table["item"].combine_chunks().flatten().to_numpy().astype(np.int64)
        user = table["user"].to_numpy().astype(np.int64)
        check_ids(item, self._most("items"), path, "item")
        check_ids(user, self._most("users"), path, "user")
        if (np.diff(user) == 0).any():
            raise damaged(path, f"has user {user[:-1][np.diff(user) == 0][0]} twice", MADE_BY)
        first = np.zeros(len(time), bool)
        first[offsets[:-1][np.diff(offsets) > 0]] = True
        if (np.diff(time, prepend=time[:1])[~first] < 0).any():
            raise damaged(path, "column 'time' is not in order", MADE_BY)
        condition = {
            s.name: values_of(table[f"condition.{s.name}"].combine_chunks().flatten(), s, path) for s in logged
        }
        moment = moment_begins(time, first)
        condition |= self._time_fields(time, time[moment - 1], ~first[moment])
        return Sequences(
            user=user,
            offsets=offsets,
            time=time,
            item=item,
            condition=condition,
            moment=moment,
            valid_at=table["valid_at"].to_numpy().astype(np.int64),
            test_at=table["test_at"].to_numpy().astype(np.int64),
        )

    def labels(self, split: Split) -> set[float]:
        """The different labels of a split."""
        return set(self._table(f"impressions/{split}", {"label": number})["label"].unique().to_pylist())

    @property
    def impression_sets(self) -> list[ImpressionSet]:
        """The splits, and `unlabelled` where there are impressions without a label."""
        return [*SPLITS, UNLABELLED] if self.info.counts.get("impressions_unlabelled") else [*SPLITS]

    def impressions(self, split: ImpressionSet) -> Impressions:
        """The rows of one split, or those without a label."""
        here = [s for s in self.info.condition if s.name not in self.info.data_schema.time_fields and not s.feedback]
        columns = dict.fromkeys(("row", "user", "time", "item", "prefix"), whole) | {"label": number}
        columns |= {f"condition.{spec.name}": encoded(spec) for spec in here}
        columns |= {f"context.{spec.name}": encoded(spec) for spec in self.info.context}
        path = self.path / "impressions" / split
        table = self._table(f"impressions/{split}", columns).sort_by("row")
        user, time = table["user"].to_numpy().astype(np.int64), table["time"].to_numpy().astype(np.int64)
        prefix = table["prefix"].to_numpy().astype(np.int64)
        check_ids(user, self._most("users"), path, "user")
        check_ids(table["item"].to_numpy(), self._most("items"), path, "item")
        lengths = np.append(np.diff(self.sequences.offsets), 0)[
            self.sequences.position_of(user)
        ]  # 0 where there are none
        if ((prefix < 0) | (prefix > lengths)).any():
            raise damaged(path, "column 'prefix' counts more events than its users have", MADE_BY)
        condition: dict[str, np.ndarray] = {}
        for spec in self.info.condition:
            if spec.name in self.info.data_schema.time_fields:
                continue
            if spec.feedback:
                shape = (len(table), spec.width) if spec.type in ("multi", "vector") else (len(table),)
                condition[spec.name] = np.zeros(shape, np.int64) if spec.size else np.full(shape, np.nan, np.float32)
            else:
                condition[spec.name] = values_of(table[f"condition.{spec.name}"].combine_chunks(), spec, path)
        condition |= self._times_of_rows(user, time, prefix)
        return Impressions(
            row=table["row"].to_numpy().astype(np.int64),
            user=user,
            time=time,
            item=table["item"].to_numpy().astype(np.int64),
            label=table["label"].to_numpy().astype(np.float32),
            prefix=prefix,
            condition=condition,
            context={
                s.name: values_of(table[f"context.{s.name}"].combine_chunks(), s, path) for s in self.info.context
            },
        )

    def with_prefix(self, rows: Impressions, prefix: np.ndarray) -> Impressions:
        """The same rows, (I,), that may see fewer events; the time since the last one is told accordingly."""
        condition = rows.condition | self._times_of_rows(rows.user, rows.time, prefix)
        return replace(rows, prefix=prefix, condition=condition)

    def item_features(self) -> dict[str, np.ndarray]:
        """Field to (V,), (V, M) or (V, W); row = item id."""
        return self._features("item")

    def item_titles(self) -> list[str]:
        """(V,) a title for people to read; the raw id where the item has none."""
        titles: list[str] = self._table("items.parquet", {"title": text})["title"].to_pylist()
        return titles

    def user_features(self) -> dict[str, np.ndarray]:
        """Field to values by user id, as `item_features`."""
        return self._features("user")

    def _features(self, kind: Literal["item", "user"]) -> dict[str, np.ndarray]:
        name, specs = f"{kind}s.parquet", self.specs(kind)
        if not specs:
            return {}
        table = self._table(name, {f"{kind}.{spec.name}": encoded(spec) for spec in specs})
        if len(table) != self._most(f"{kind}s") + 1:
            raise damaged(self.path / name, f"has {len(table):,} rows, not one for each id", MADE_BY)
        return {s.name: values_of(table[f"{kind}.{s.name}"].combine_chunks(), s, self.path / name) for s in specs}

    def _most(self, name: str) -> int:
        """The largest id of `items` or `users`."""
        if name not in self.info.counts:
            raise damaged(self.path / "dataset.json", f"key 'counts.{name}' is missing", MADE_BY)
        return self.info.counts[name]

    def _table(self, name: str, columns: dict[str, Fits]) -> pa.Table:
        """Read a part, unless the dataset is no more the one that was opened."""
        now = read_manifest(self.path)
        if (now and now.parts) != (self._manifest and self._manifest.parts):
            raise InputError(f"{self.path}: another process has replaced it since it was opened; run this again")
        return read_parts(self.path / name, columns, MADE_BY)

    def _times_of_rows(self, user: np.ndarray, time: np.ndarray, prefix: np.ndarray) -> dict[str, np.ndarray]:
        """Time fields of rows, (I,), that see `prefix` events."""
        sequences = self.sequences
        last = sequences.offsets[np.maximum(sequences.position_of(user), 0)] + prefix - 1
        previous = sequences.time[np.maximum(last, 0)] if len(sequences.time) else time
        return self._time_fields(time, previous, prefix > 0)

    def _time_fields(self, time: np.ndarray, previous: np.ndarray, has_previous: np.ndarray) -> dict[str, np.ndarray]:
        schema = self.info.data_schema
        return time_fields(schema.time_fields, time, previous, has_previous, schema.gap_unit)
