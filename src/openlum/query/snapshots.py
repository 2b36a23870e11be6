"""Knowledge per user as of one or several times, joined to rows: each row gets the newest that it may know.

A snapshot as of a time uses the events strictly before that time. So a row at the same second may have it: it has no event of
that second.

Shapes: n rows, M user vectors, E width of a vector, S predictions of the matching head and comparisons by content, H
last items.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from openlum.data.dataset import Dataset
from openlum.data.knowledge import Knowledge
from openlum.data.time_fields import time_fields
from openlum.errors import InputError
from openlum.model import LargeUserModel
from openlum.model.content import RECENT, content_names
from openlum.query.answers import embed_items
from openlum.query.content import RECENT_ITEMS, compare_rows, item_contents
from openlum.query.matching import match_impressions
from openlum.query.questions import feedback_column_names, matched_column_names
from openlum.query.replay import outside_impressions, with_nulls

BATCH_ROWS = 4096
"""Rows whose predictions are computed at a time."""
NEWEST = """
select snapshots.index from keys asof left join snapshots
on keys.user = snapshots.user and keys.second >= snapshots.second
order by keys.position
"""


class Snapshots:
    """Knowledge per user, published once or several times.

    Args:
        published: the directories. All rows are in memory.
        has_items: whether the rows have items: then they get similarities, and with a model predictions.
        head: predicts the feedback to the items; None for no predictions.

    Raises:
        InputError: the directories are not per user, are of different models or questions, or have a user twice as of one time.
    """

    def __init__(
        self,
        published: Sequence[Knowledge],
        has_items: bool,
        head: "Head | None" = None,
    ) -> None:
        _check_same_form(published)
        self.info, self.head, self.has_items = published[0].info, head, has_items
        if head is not None:
            head.check_fits(published[0])
        self.table = pa.concat_tables([one.to_arrow() for one in published])
        self._snapshots = pa.table(
            {
                "user": self.table["user"],
                "second": _seconds(self.table["as_of"]),
                "index": np.arange(len(self.table)),
            }
        )
        if len(self._snapshots.group_by(["user", "second"]).aggregate([])) < len(self._snapshots):
            raise InputError("knowledge: a user occurs twice as of the same time; name each directory once")
        newest = max(published, key=lambda one: pc.max(one.to_arrow(["as_of"])["as_of"]).as_py())
        self._items = newest.items(["item", "embedding"]) if has_items else None
        self.figures: dict[str, Any] = {"snapshots": len(pc.unique(self.table["as_of"])), "rows_without_snapshot": 0}

    @property
    def schema(self) -> pa.Schema:
        """The added columns: those of the snapshots, `similarity.NAME`, and what the matching head predicts."""
        columns = [field for field in self.table.schema if field.name != "user"]
        similarity = [f"similarity.{name}" for name in self.info.questions] if self.has_items else []
        predicted = self.head.names if self.head else []
        return pa.schema(columns + [(name, pa.float32()) for name in [*similarity, *predicted]])

    def columns(self, keys: pa.Table) -> pa.Table:
        """Return the added columns of some rows; null for rows whose user has no snapshot yet, and for unknown items.

        Args:
            keys: of the rows, from `OutsideLog.keys`.
        """
        index = self._newest(keys)
        self.figures["rows_without_snapshot"] += index.null_count
        found = self.table.take(index)
        added = found.drop_columns(["user"])
        if self._items is not None:
            item = pc.index_in(keys["item"], self._items["item"]).combine_chunks()
            embedding = _unit(self._items["embedding"].take(item), self.info.width)[:, 0]
            scores = {
                f"similarity.{name}": (_unit(found[f"answer.{name}"], self.info.width)[:, 0] * embedding).sum(-1)
                for name in self.info.questions
            }
            if self.head is not None:
                scores |= dict(zip(self.head.names, self.head.predict(keys, found).T, strict=True))
            for name, values in scores.items():
                added = added.append_column(name, pa.array(values, pa.float32()))
            added = with_nulls(added, np.asarray(pc.or_(index.is_null(), item.is_null())))
        return added

    def is_unknown(self, role: str, keys: pa.Table) -> pa.ChunkedArray:
        """Return which rows have a user without any snapshot, or an item that has no embedding in the newest one, (n,) bool."""
        known = self.table["user"] if role == "user" or self._items is None else self._items["item"]
        return pc.invert(pc.is_in(keys[role], known))

    def _newest(self, keys: pa.Table) -> pa.Array:
        """Return the index of the newest snapshot of each row's user that is not later than the row, (n,); null for none."""
        positions = keys.select(["user", "second"]).append_column("position", pa.array(np.arange(len(keys))))
        with duckdb.connect() as connection:
            connection.register("keys", positions)
            connection.register("snapshots", self._snapshots)
            return connection.execute(NEWEST).to_arrow_table()["index"].combine_chunks()


class Head:
    """The matching head of a model, for rows of a log and the snapshots of their users.

    Args:
        model: with the head.
        dataset: that encodes the items and conditions of the rows.
    """

    def __init__(self, model: LargeUserModel, dataset: Dataset) -> None:
        if not model.config.trained_feedback_targets:
            raise InputError("the model was not trained to predict feedback; leave model and dataset out")
        self.model, self.dataset = model, dataset
        self.items = embed_items(model, len(dataset.raw_ids("items")))
        names = feedback_column_names(model.processor, model.config.trained_feedback_targets)
        matched = matched_column_names(["nightly"], model.processor, model.network.condition_specs, names)
        self.names = matched + [f"nightly.{name}" for name in content_names(model.config.content_fields)]
        """Names of the S predictions and comparisons by content."""
        self._contents = item_contents(model, len(self.items))

    def check_fits(self, knowledge: Knowledge) -> None:
        """Raise an `InputError` if another model published the vectors of knowledge."""
        names, model = self.model.network.user_vector_names, self.model.config.fingerprint
        if knowledge.info.vector_names != names or knowledge.info.model != model:
            raise InputError(f"{knowledge.path}: was published by another model; name the model that published it")
        if self._contents and RECENT_ITEMS not in knowledge.columns:
            raise InputError(
                f"{knowledge.path}: has no column '{RECENT_ITEMS}'; publish it again with 'lum query --users'"
            )

    def predict(self, keys: pa.Table, found: pa.Table) -> np.ndarray:
        """Return the predictions about the rows' items, and their comparisons by content, (n, S).

        Rows without a snapshot have any number.

        Args:
            keys: of the rows, from `OutsideLog.keys`.
            found: the snapshot of each row.
        """
        schema, last = self.dataset.info.data_schema, found["last_event"]
        rows = outside_impressions(keys, self.dataset)
        previous, has_previous = _seconds(last).fill_null(0).to_numpy(), np.asarray(last.is_valid())
        fields = time_fields(schema.time_fields, rows.time, previous, has_previous, schema.gap_unit)
        rows = replace(rows, condition=rows.condition | {name: ids.astype(np.int32) for name, ids in fields.items()})
        predicted = [np.empty((0, len(self.names)), np.float32)]
        for start in range(0, len(keys), BATCH_ROWS):
            part = slice(start, start + BATCH_ROWS)
            vectors = _unit(found["vectors"][part], self.model.config.settings.embedding_width)
            own = torch.from_numpy(vectors).to(self.model.device)
            scores = match_impressions(self.model, own, rows.take(part), self.items)
            if self._contents:
                compared = compare_rows(self._contents, self._last_items(found[RECENT_ITEMS][part]), rows.item[part])
                scores = np.concatenate([scores, compared], 1)
            predicted.append(scores)
        return np.concatenate(predicted)

    def _last_items(self, recent_items: pa.ChunkedArray) -> np.ndarray:
        """Return lists of raw ids as ids, (n, H), oldest first; 0 in the place of an item that is missing."""
        last = np.zeros((len(recent_items), RECENT), np.int64)
        for row, raw_ids in enumerate(recent_items.to_pylist()):
            if raw_ids:
                last[row, -len(raw_ids) :] = self.model.processor.items.encode(raw_ids)
        return last


def _check_same_form(published: Sequence[Knowledge]) -> None:
    """Raise an `InputError` if knowledge is not per user, or not all of one model, with the same questions."""
    first = published[0]
    for one in published:
        if one.info.form != "user":
            raise InputError(
                f"{one.path}: holds knowledge per impression, whose rows are those of a dataset; for other rows, name "
                "knowledge per user ('lum query --users'), or a dataset and a model and no knowledge"
            )
        for name in ("model", "questions", "asked", "vector_names", "width", "dtype"):
            if getattr(one.info, name) != getattr(first.info, name):
                raise InputError(
                    f"{one.path}: differs from {first.path} in '{name}'; join snapshots of one model with the same questions"
                )


def _seconds(times: Any) -> Any:
    """Return a column of times as seconds since 1970."""
    return pc.floor_temporal(times, unit="second").cast(pa.timestamp("s", "UTC")).cast(pa.int64())


def _unit(column: pa.ChunkedArray, width: int) -> np.ndarray:
    """Return a column of vectors that lie end to end as (n, M, E) float32 of unit length; zeros where it is null."""
    column = column.combine_chunks()
    vectors = np.zeros((len(column), column.type.list_size // width, width), np.float32)
    present = np.asarray(column.is_valid())
    flat = column.drop_null().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    vectors[present] = flat.reshape(-1, *vectors.shape[1:])
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(min=1e-9)
