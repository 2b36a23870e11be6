"""Answers for rows that were never prepared, each as of its own time: the events of the dataset before its second.

Shapes: n rows.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openlum.data.dataset import Dataset
from openlum.data.encoded import any_values, to_numpy
from openlum.data.sequences import Impressions
from openlum.data.shard import Shard
from openlum.model import LargeUserModel
from openlum.query.settings import QuerySettings
from openlum.query.shard import ShardQuery


def outside_impressions(keys: pa.Table, dataset: Dataset) -> Impressions:
    """Return rows of a log as impressions that see no event yet.

    Args:
        keys: of the rows, from `OutsideLog.keys`, with ids of the dataset. Without items, they are of item 0.
        dataset: that encoded the ids.
    """
    n, times, condition = len(keys), dataset.info.data_schema.time_fields, {}
    for spec in dataset.specs("condition"):
        name = f"condition.{spec.name}"
        if name in keys.column_names:
            condition[spec.name] = to_numpy(keys[name].combine_chunks(), spec, dataset.path)
        elif spec.name not in times:
            condition[spec.name] = any_values(spec, n)
    has_items = "item_id" in keys.column_names
    return Impressions(
        row=np.arange(n),
        user=keys["user_id"].to_numpy(),
        time=keys["second"].to_numpy(),
        item=keys["item_id"].to_numpy() if has_items else np.zeros(n, np.int32),
        label=np.full(n, np.nan, np.float32),
        prefix=np.zeros(n, np.int64),
        condition=condition,
        context={},
    )


class Replay:
    """Answers as of the time of each row, from the histories of a dataset, as `lum query` gives them for impressions.

    Args:
        model: that answers.
        dataset: with the histories.
        settings: with the questions.
        has_items: whether the rows have items. Without items there are no similarities and no predictions.
    """

    def __init__(self, model: LargeUserModel, dataset: Dataset, settings: QuerySettings, has_items: bool) -> None:
        if not has_items:
            settings = settings.model_copy(update={"predict_feedback": False, "matching_head": []})
        self.dataset, self.query, self.has_items = dataset, ShardQuery(model, dataset, settings), has_items
        self.figures: dict[str, Any] = {"questions": len(self.query.questions)}

    @property
    def schema(self) -> pa.Schema:
        """The added columns."""
        added = [field for field in self.query.schema if field.name not in ("row", "user", "item")]
        return pa.schema([f for f in added if self.has_items or not f.name.startswith(("similarity.", "content."))])

    def columns(self, keys: pa.Table) -> pa.Table:
        """Return the added columns of some rows; null for a user or an item that the dataset does not have.

        Args:
            keys: of the rows, from `OutsideLog.keys`.
        """
        rows, shards = outside_impressions(keys, self.dataset), self.dataset.shards()
        tables, waiting = [self.query.schema.empty_table()], rows.user > 0
        for shard in shards:
            is_own = waiting & (shard.sequences.user_index(rows.user) >= 0)
            tables.append(self._answers(shard, rows.take(np.flatnonzero(is_own))))
            waiting &= ~is_own
        tables.append(self._answers(shards[0], rows.take(np.flatnonzero(waiting))))  # users without events
        answered = pa.concat_tables(tables)
        index = np.full(len(keys), -1)
        index[answered["row"].to_numpy()] = np.arange(len(answered))
        table = answered.take(pa.array(index, mask=index < 0)).select(self.schema.names)
        return with_nulls(table, rows.item == 0) if self.has_items else table

    def is_unknown(self, role: str, keys: pa.Table) -> pa.ChunkedArray:
        """Return which rows have a user or an item that the dataset does not have, (n,) bool."""
        return pc.equal(keys[f"{role}_id"], 0)

    def _answers(self, shard: Shard, rows: Impressions) -> pa.Table:
        """Return the answers for rows of a shard's users as of the times of the rows."""
        if not len(rows):
            return self.query.schema.empty_table()
        prefix = shard.sequences.prefix_at(rows.user, rows.time)
        return self.query.table(shard, self.query.in_order(shard, rows.with_prefix(shard.sequences, prefix)))


def with_nulls(table: pa.Table, is_missing: np.ndarray) -> pa.Table:
    """Return a table without the scores of rows, (n,) bool: their numbers become null, and their vectors stay."""
    missing = pa.array(is_missing)
    for index, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            table = table.set_column(index, field, pc.if_else(missing, pa.scalar(None, field.type), table[field.name]))
    return table
