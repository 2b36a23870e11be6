"""One row of knowledge computed again, alone, from a history that ends before its time.

Nothing here uses prefixes, windows or batches of the bulk run: the later events do not exist in what the model is given.

Shapes: G questions, J feedback predictions, M user vectors, E width of a vector, n events before the time.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from openlum.data.knowledge import KnowledgeInfo
from openlum.data.packing import Spans, window_start
from openlum.data.sequences import Impressions, Sequences
from openlum.data.shard import ShardedDataset
from openlum.data.time_fields import moment_starts
from openlum.field_spec import SECONDS
from openlum.model import History, LargeUserModel, Questions
from openlum.model.batch import Fields, Moments, to_tensors
from openlum.model.content import RECENT, compare_content, content_names
from openlum.model.state import HistoryState
from openlum.query.answers import log_odds
from openlum.query.content import RECENT_ITEMS
from openlum.query.questions import question_set


def history_before(sequences: Sequences, user: int, second: int) -> Sequences:
    """Return the events of one user before a second, as the sequences of a user without any other event."""
    index = int(sequences.user_index(np.array([user]))[0])
    begin, end = (0, 0) if index < 0 else sequences.offsets[index : index + 2]
    own = np.arange(begin, end)
    own = own[sequences.time[own] < second]
    time, n = sequences.time[own], np.array([len(own)])
    return replace(
        sequences,
        user=np.array([user], np.int32),
        offsets=np.array([0, len(own)]),
        time=time,
        item=sequences.item[own],
        condition={name: values[own] for name, values in sequences.condition.items()},
        moment_start=moment_starts(time, np.arange(len(own)) == 0),
        valid_at=n,
        test_at=n,
    )


@dataclass(frozen=True)
class _Moment:
    """A user's history before a time, encoded."""

    history: Sequences
    state: HistoryState
    prefix: int
    """Number of the encoded events, all of which a question sees."""

    @property
    def seen(self) -> np.ndarray:
        """(1,) number of events of the history."""
        return np.array([len(self.history.time)])

    def questions(self, condition: Fields, n: int, item: int | None, learned: torch.Tensor | None = None) -> Questions:
        """Return n questions with these condition fields, (n, ...), about an item, if there is one.

        `learned` is that of `Questions`.
        """
        zeros = torch.zeros(n, dtype=torch.int64)
        return Questions(condition, zeros, zeros + self.prefix, None if item is None else zeros + item, learned)


class ReplayedRow:
    """Computes rows of knowledge again, one at a time.

    Args:
        model: that answered.
        info: of the knowledge.
        dataset: that it is about.
    """

    def __init__(self, model: LargeUserModel, info: KnowledgeInfo, dataset: ShardedDataset) -> None:
        self.model, self.info = model.eval(), info
        self.questions, self.raw_items = question_set(model, info.asked, dataset), dataset.raw_ids("items")

    @torch.inference_mode()
    def of_impression(self, sequences: Sequences, row: Impressions, by_day: bool) -> dict[str, Any]:
        """Return the answers and scores of one impression, by column.

        Args:
            sequences: with the whole history of its user.
            row: the impression. Its prefix is not used.
            by_day: whether its answers use the events before its day (UTC) only.
        """
        model, info, item = self.model, self.info, int(row.item[0])
        second = int(row.time[0])
        midnight = second - second % SECONDS["d"]
        fresh = self._moment(sequences, int(row.user[0]), midnight if by_day else second)
        row, count = self._seen_from(fresh, row), len(self.questions)
        condition = to_tensors(row.condition)
        row_values = to_tensors(self.questions.row_values(fresh.history, row.user, fresh.seen, row))
        conditions, learned = self.questions.conditions(row_values, 1), self.questions.learned(1)
        asked = fresh.questions(conditions, count, item, learned).to(model.device)
        target = model.items(torch.tensor([item], device=model.device))  # (1, E)
        answers = model.network.answer(fresh.state, asked)
        similarity = model.network.similarity(answers, target.expand(count, -1))
        columns: dict[str, Any] = {}
        for name, vector, score in zip(info.questions, answers.vectors, similarity, strict=True):
            columns |= {f"answer.{name}": vector.cpu().numpy(), f"similarity.{name}": score.item()}
        if info.feedback_names:
            question = fresh.questions(condition, 1, item).to(model.device)
            odds = log_odds(model.predict_feedback_logits(fresh.state, question))[0].tolist()
            columns |= {f"feedback.{name}": value for name, value in zip(info.feedback_names, odds, strict=True)}
        for tier in ("fresh", "nightly"):
            names = [name for name in info.matched_names if name.startswith(f"{tier}.")]
            if names:
                kept = self._moment(sequences, int(row.user[0]), midnight) if tier == "nightly" else fresh
                context = to_tensors(self._seen_from(kept, row).condition)
                question = kept.questions(context, 1, item).to(model.device)
                matched = model.network.match(self._user_vectors(kept), question)
                values = log_odds(matched.logits)[0].tolist() + matched.similarities[0].tolist()
                columns |= dict(zip(names, values, strict=True))
        if info.content_names:
            columns |= self._content(fresh.history, item, "")
            if any(name.startswith("nightly.") for name in info.content_names):
                columns |= self._content(history_before(sequences, int(row.user[0]), midnight), item, "nightly.")
        return columns

    @torch.inference_mode()
    def of_user(self, sequences: Sequences, user: int, second: int) -> dict[str, Any]:
        """Return the vectors and answers of one user as of a second, by column, and `events`, `last_event` (its second) and
        `recent_items`."""
        moment = self._moment(sequences, user, second)
        time = moment.history.time
        columns: dict[str, Any] = {"events": len(time), "last_event": int(time[-1]) if len(time) else None}
        columns["vectors"] = self._user_vectors(moment).flatten().cpu().numpy()
        columns[RECENT_ITEMS] = self.raw_items.take(pa.array(moment.history.item[-RECENT:])).to_pylist()
        row_values = to_tensors(self.questions.row_values(moment.history, np.array([user]), moment.seen))
        conditions, learned = self.questions.conditions(row_values, 1), self.questions.learned(1)
        asked = moment.questions(conditions, len(self.questions), None, learned).to(self.model.device)
        answers = self.model.answer_questions(moment.state, asked) if len(self.questions) else ()
        return columns | {f"answer.{n}": v.cpu().numpy() for n, v in zip(self.info.questions, answers, strict=True)}

    def _content(self, history: Sequences, item: int, prefix: str) -> dict[str, float]:
        """Return the comparisons of an item with the items of a history, by column, whose names begin with `prefix`."""
        fields, device = self.model.config.content_fields, self.model.device
        own, last = (torch.from_numpy(ids.astype(np.int64)).to(device) for ids in (np.array([item]), history.item))
        values = compare_content(self.model.network.item_encoder, fields, own, last)[0].tolist()
        return {prefix + name: value for name, value in zip(content_names(fields), values, strict=True)}

    def _moment(self, sequences: Sequences, user: int, second: int) -> _Moment:
        history = history_before(sequences, user, second)
        n = np.array([len(history.time)])
        start = window_start(n, self.model.config.settings.max_events)
        window = History.gather(history, Spans(np.array([0]), start, n)).to(self.model.device)
        return _Moment(history, self.model.encode_history(window), int(n[0] - start[0]))

    def _seen_from(self, moment: _Moment, row: Impressions) -> Impressions:
        """Return an impression with the time fields that follow from the history of a moment."""
        times = moment.history.row_time_fields(row.user, row.time, moment.seen)
        return replace(row, condition=row.condition | times)

    def _user_vectors(self, moment: _Moment) -> torch.Tensor:
        """Return the user vectors as of a moment, (1, M, E)."""
        at = Moments(torch.zeros(1, dtype=torch.int64), torch.tensor([moment.prefix])).to(self.model.device)
        return self.model.network.user_vectors(moment.state, at)
