"""The answers of the model about the impressions of one shard, as a table.

The table has one row per impression with the columns

- `row`: id of the impression;
- `user`, `item`: their ids in the log; null for an item that the dataset does not know;
- `answer.NAME` for each question: fixed_size_list<float16>[E] of unit length, or int8, to be divided by the vector's length;
- `similarity.NAME` for each question: float32, cosine of the answer and the embedding of the impression's item; it is raised if
  the user met the item before, as `Network.score_items` says;
- `feedback.FIELD=VALUE` for each value of a feedback field: float32, log-odds that the user gives this feedback to the
  impression's item. If the log has no feedback fields, `feedback.taken=yes` is the log-odds that the user takes the item, rather
  than an item that other users took in the same days or, if the log has impressions, that was shown to the user.

Shapes: n rows, G questions, J feedback predictions, E width of an answer, V items.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from torch import Tensor

from openlum.config import Question
from openlum.data.sequences import Impressions, concatenate
from openlum.data.shard import Shard, ShardedDataset
from openlum.model import LargeUserModel
from openlum.query.answers import answer_impressions, before_the_day, embed_items
from openlum.query.questions import QuestionSet, feedback_column_names
from openlum.query.settings import QuerySettings


def query_shard(
    model: LargeUserModel,
    shard: Shard,
    questions: dict[str, Question],
    settings: QuerySettings | None = None,
    items: Tensor | None = None,
) -> pa.Table:
    """Return the answers to questions about all impressions of a shard, by user and time. It reads the shard and writes nothing.

    Args:
        model: that answers.
        shard: of a dataset that fits the model.
        questions: name to condition fields and raw values, as in `QuerySettings`; those of `settings` do not count.
        settings: of the run.
        items: (V, E) embeddings of the dataset's items, from `embed_items`, if they are computed already.

    Example:
        >>> shard = Dataset("runs/market/dataset").shards()[0]                                  # doctest: +SKIP
        >>> query_shard(model, shard, {"click": {"feedback": "click", "*": "$row"}}).num_rows   # doctest: +SKIP
    """
    settings = (settings or QuerySettings()).model_copy(update={"questions": questions})
    query = ShardQuery(model, shard.dataset, settings, items)
    return query.table(shard, query.impressions(shard))


class ShardQuery:
    """A query run over the shards of a dataset: what is the same for every shard.

    Args:
        model: that answers.
        dataset: with the shards.
        settings: with the questions.
        items: (V, E) embeddings of the dataset's items, if they are computed already.
    """

    def __init__(
        self, model: LargeUserModel, dataset: ShardedDataset, settings: QuerySettings, items: Tensor | None = None
    ) -> None:
        self.model, self.dataset, self.settings = model, dataset, settings
        self.questions = QuestionSet(model.processor, model.config.condition, settings.questions)
        self.feedback_names = (
            feedback_column_names(model.processor, model.config.trained_feedback_targets)
            if settings.predict_feedback
            else []
        )
        self.items = embed_items(model, len(dataset.raw_ids("items"))) if items is None else items

    @property
    def schema(self) -> pa.Schema:
        """The columns of the table."""
        value = pa.int8() if self.settings.dtype == "int8" else pa.float16()
        vector = pa.list_(value, self.items.shape[1])
        columns = [("row", pa.int64()), ("user", pa.string()), ("item", pa.string())]
        for name in self.questions.names:
            columns += [(f"answer.{name}", vector), (f"similarity.{name}", pa.float32())]
        return pa.schema(columns + [(f"feedback.{name}", pa.float32()) for name in self.feedback_names])

    def impressions(self, shard: Shard) -> Impressions:
        """Return the impressions of all splits of a shard, by user and time, as of the time that the settings name."""
        impressions = concatenate([shard.impressions(split) for split in self.dataset.impression_sets])
        impressions = impressions.take(np.lexsort((impressions.row, impressions.prefix, impressions.user)))
        return before_the_day(shard.sequences, impressions) if self.settings.as_of == "day" else impressions

    def table(self, shard: Shard, impressions: Impressions) -> pa.Table:
        """Return the answers for some impressions of a shard."""
        return pa.concat_tables([self.schema.empty_table(), *self.tables(shard, impressions)])

    def tables(self, shard: Shard, impressions: Impressions) -> Iterator[pa.Table]:
        """Yield the answers for some impressions of a shard, batch by batch."""
        users, items = self.dataset.raw_ids("users"), self.dataset.raw_ids("items")
        for index, answers, similarity, feedback in answer_impressions(
            self.model, shard.sequences, impressions, self.questions, self.settings, self.items
        ):
            item = impressions.item[index]
            columns = [pa.array(impressions.row[index]), users.take(impressions.user[index]), items.take(item)]
            for question in range(len(self.questions)):
                columns += [
                    vectors(answers[:, question].numpy(), self.settings.dtype),
                    pa.array(similarity[:, question].numpy()),
                ]
            columns += [pa.array(values) for values in feedback.numpy().T]
            yield pa.Table.from_arrays(columns, schema=self.schema)

    def item_table(self) -> pa.Table:
        """Return the embeddings of the items: columns `id` (in the dataset, from 0), `item` (in the log) and `embedding`."""
        ids = np.arange(len(self.items), dtype=np.int32)
        embedding = vectors(self.items.numpy(), self.settings.dtype)
        return pa.table({"id": ids, "item": self.dataset.raw_ids("items"), "embedding": embedding})


def vectors(values: np.ndarray, dtype: str) -> pa.FixedSizeListArray:
    """Return vectors (n, E) of unit length as a column of the type `float16` or `int8`.

    With `int8`, the largest entry of each vector becomes 127 or -127. The scale is not stored, because the vector is known to
    have length 1.
    """
    if dtype == "int8":
        values = np.rint(values * (127 / np.abs(values).max(1, keepdims=True).clip(min=1e-9)))
    flat = pa.array(np.ascontiguousarray(values, dtype).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
