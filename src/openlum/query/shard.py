"""The answers of the model about the impressions of one shard, as a table.

The table has one row per impression with the columns

- `row`: id of the impression;
- `user`, `item`: their ids in the log; null for an item that the dataset does not know;
- `answer.NAME` for each question: fixed_size_list<float16>[E] of unit length, or int8, to be divided by the vector's length;
- `similarity.NAME` for each question: float32, cosine of the answer and the embedding of the impression's item; it is raised if
  the user met the item before, as `Network.score_items` says;
- `feedback.FIELD=VALUE` for each value of a feedback field: float32, log-odds that the user gives this feedback to the
  impression's item. If the log has no feedback fields, `feedback.taken=yes` is the log-odds that the user takes the item, rather
  than an item that other users took in the same days or, if the log has impressions, that was shown to the user;
- `fresh.FIELD=VALUE` and `nightly.FIELD=VALUE`: the same, as the matching head predicts it from user vectors as of the impression
  and as of the beginning of its day (UTC);
- `TIER.similarity.QUESTION` and `TIER.similarity_in_context.QUESTION` for these tiers and each fixed question (`any`, or
  FIELD:VALUE): the similarity to its answer as of the impression, without and with the impression's condition, as the matching
  head predicts it;
- `content.FIELD.COMPARISON` for each item field of type `vector`, if the log has no feedback fields: float32, the impression's
  item compared with the user's last items (`model/content.py`); `nightly.content.FIELD.COMPARISON`: the same as of the beginning
  of its day, if the matching head predicts the tier `nightly`.

Shapes: n rows, G questions, J feedback predictions, E width of an answer, V items.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from openlum.artefact.json_file import fingerprint
from openlum.config import Question
from openlum.data.sequences import Impressions, concatenate
from openlum.data.shard import Shard, ShardedDataset
from openlum.model import LargeUserModel
from openlum.query.answers import answer_impressions, before_the_day, embed_items
from openlum.query.checks import KnowledgeSize, impression_knowledge_size
from openlum.query.columns import vector_type, vectors
from openlum.query.content import content_column_names, content_scores, item_contents
from openlum.query.earlier import EarlierKnowledge
from openlum.query.matching import matched_scores
from openlum.query.questions import feedback_column_names, matched_column_names, question_set
from openlum.query.settings import QuerySettings

AS_OF = {
    "impression": "the events strictly before the impression's time",
    "day": "the events before the impression's day (UTC)",
}


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
    return query.table(shard, query.rows(shard))


class ShardQuery:
    """A query run over the shards of a dataset: what is the same for every shard.

    Args:
        model: that answers.
        dataset: with the shards.
        settings: with the questions.
        items: (V, E) embeddings of the dataset's items, if they are computed already.
        earlier: has the answers of some impressions, which are left out.
    """

    folder = source = "impressions"
    rejected = None

    def __init__(
        self,
        model: LargeUserModel,
        dataset: ShardedDataset,
        settings: QuerySettings,
        items: Tensor | None = None,
        earlier: EarlierKnowledge | None = None,
    ) -> None:
        self.model, self.dataset, self.settings, self.earlier = model, dataset, settings, earlier
        self.questions = question_set(model, settings.questions, dataset)
        predicted = feedback_column_names(model.processor, model.config.trained_feedback_targets)
        self.feedback_names = predicted if settings.predict_feedback else []
        self.matched_names = matched_column_names(
            settings.matching_head, model.processor, model.network.condition_specs, predicted
        )
        self.items = embed_items(model, len(dataset.raw_ids("items"))) if items is None else items
        self.content_names = content_column_names(settings.matching_head, model.config.content_fields)
        self._contents = item_contents(model, len(self.items))

    @property
    def score_names(self) -> list[str]:
        """Names of all scores, in the order of their columns."""
        return [*self.questions.names, *self.feedback_names, *self.matched_names, *self.content_names]

    @property
    def schema(self) -> pa.Schema:
        """The columns of the table."""
        vector = vector_type(self.settings.dtype, self.items.shape[1])
        columns = [("row", pa.int64()), ("user", pa.string()), ("item", pa.string())]
        for name in self.questions.names:
            columns += [(f"answer.{name}", vector), (f"similarity.{name}", pa.float32())]
        columns += [(f"feedback.{name}", pa.float32()) for name in self.feedback_names]
        return pa.schema(columns + [(name, pa.float32()) for name in self.matched_names + self.content_names])

    @property
    def total(self) -> int:
        """Number of rows of all shards."""
        return self.dataset.impression_count - (0 if self.earlier is None else len(self.earlier.row))

    @property
    def first_part(self) -> int:
        """Number of the first shard in the names of the parts. Those of earlier knowledge are smaller."""
        return 0 if self.earlier is None else self.earlier.next_shard

    def rows(self, shard: Shard) -> Impressions:
        """Return the impressions of all splits of a shard, by user and time, as of the time that the settings name."""
        rows = concatenate([shard.impressions(split) for split in self.dataset.impression_sets])
        return self.in_order(shard, self.earlier.without_answered(rows, self.dataset) if self.earlier else rows)

    def in_order(self, shard: Shard, impressions: Impressions) -> Impressions:
        """Return impressions by user and time, as of the time that the settings name."""
        impressions = impressions.take(np.lexsort((impressions.row, impressions.prefix, impressions.user)))
        return before_the_day(shard.sequences, impressions) if self.settings.as_of == "day" else impressions

    def table(self, shard: Shard, impressions: Impressions) -> pa.Table:
        """Return the answers for some impressions of a shard."""
        return pa.concat_tables([self.schema.empty_table(), *self.tables(shard, impressions)])

    def tables(self, shard: Shard, impressions: Impressions) -> Iterator[pa.Table]:
        """Yield the answers for some impressions of a shard, batch by batch."""
        users, items = self.dataset.raw_ids("users"), self.dataset.raw_ids("items")
        matched, content = self._matched(shard, impressions), self._content(shard, impressions)
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
            columns += [pa.array(values) for values in (*feedback.numpy().T, *matched[index].T, *content[index].T)]
            yield pa.Table.from_arrays(columns, schema=self.schema)

    def _matched(self, shard: Shard, impressions: Impressions) -> np.ndarray:
        """Return the predictions of the matching head for some impressions of a shard: the columns `matched_names`."""
        parts = [np.empty((len(impressions), 0), np.float32)]
        for tier in self.settings.matching_head if self.matched_names else []:
            rows = before_the_day(shard.sequences, impressions) if tier == "nightly" else impressions
            parts.append(matched_scores(self.model, shard.sequences, rows, self.items, self.settings.batch_events))
        return np.concatenate(parts, 1)

    def _content(self, shard: Shard, impressions: Impressions) -> np.ndarray:
        """Return the comparisons by content of some impressions of a shard: the columns `content_names`."""
        moments = [impressions]
        if "nightly" in self.settings.matching_head:
            moments.append(before_the_day(shard.sequences, impressions))
        return np.concatenate(
            [content_scores(self._contents, shard.sequences, row.user, row.prefix, row.item) for row in moments], 1
        )

    @property
    def size(self) -> KnowledgeSize:
        """The approximate size of the knowledge."""
        scores = len(self.score_names)
        return impression_knowledge_size(self.dataset, self.settings, self.items.shape[1], len(self.questions), scores)

    def description(self) -> dict[str, Any]:
        """Return the keys of `knowledge.json` that follow from the inputs of the run."""
        settings, config, dataset = self.settings, self.model.config, self.dataset.info.fingerprint
        return {
            "form": "impression",
            "questions": self.questions.names,
            "fixed_questions": self.questions.fixed_names,
            "feedback_names": self.feedback_names,
            "matched_names": self.matched_names,
            "content_names": self.content_names,
            "asked": settings.questions,
            "width": self.items.shape[1],
            "dtype": settings.dtype,
            "as_of": AS_OF[settings.as_of],
            "model": config.fingerprint,
            "dataset": dataset,
            "fingerprint": fingerprint(
                config.fingerprint,
                dataset,
                settings.questions,
                settings.predict_feedback,
                settings.matching_head,
                settings.as_of,
                settings.dtype,
            ),
        }

    def summary(self) -> dict[str, Any]:
        """Return the section `query` of `summary.json`."""
        figures = {"rows": self.dataset.impression_count, "questions": len(self.questions)}
        return figures if self.earlier is None else figures | {"new_rows": self.total}
