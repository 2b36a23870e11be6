"""The pointer: how questions look at single events of a history, so that the model can copy what repeats.

The user encoder sums up a history in vectors, in which single items blur. The pointer gives every event of a history a *copy
score*. A next item is then either generated, by its inner product with the answer, or copied from the history; both share one
softmax, and an item that is in the catalogue and in the history has the sum of its probabilities (CopyNet, Gu et al. 2016;
RepeatNet, Ren et al. 2019). A prediction of feedback reads the events that had the target item: how many they were, how long ago
they were, and what feedback they had.

Shapes: L events of B users end to end, Q questions, D width, K width of keys, W width of values, V items. Within a group of users
(openlum/model/plan.py): b users, padded to n events and m questions each.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openlum.model.blocks.transformer import Rotary, rotate
from openlum.model.fields import known_ids
from openlum.model.initialisation import unit_rows_, zero_
from openlum.model.plan import QuestionPlan
from openlum.model.settings import ModelSettings
from openlum.model.state import PointerState

KEY_WIDTH = 32
VALUE_WIDTH = 16
MATCH_WIDTH = VALUE_WIDTH + 1
NO_COPY = -1e4
"""The copy score of an item that is not in the history: its probability is 0."""


class Pointed(NamedTuple):
    """What questions see of the single events of their histories."""

    total: Tensor
    """(Q,) logarithm of the summed weights of all events."""
    matched: Tensor
    """(Q,) logarithm of the summed weights of the events with the target item; about `NO_COPY` if there are none."""
    matches: Tensor
    """(Q, W + 1): a weighted mean of the values of these events, by the number of events since, and the logarithm of one plus
    their number."""


class Copies(NamedTuple):
    """The copy scores of k events that questions see."""

    question: Tensor
    """(k,) index of the question."""
    item: Tensor
    """(k,) item id of the event."""
    score: Tensor
    """(k,) copy score."""


class Pointer(nn.Module):
    """Copy scores of events, and readings of the events with a target item.

    The score of an event is a product of query and key, less a threshold, less a slope times the logarithm of one plus the number
    of events since. The question chooses query, threshold and slope.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.key = nn.Linear(settings.width, KEY_WIDTH, bias=False)
        self.query = nn.Linear(settings.width, KEY_WIDTH, bias=False)
        self.value = nn.Linear(settings.width, VALUE_WIDTH, bias=False)
        self.choices = nn.Linear(settings.width, 2)  # threshold and slope
        self.rotary = Rotary(VALUE_WIDTH)
        for linear in (self.key, self.query, self.value):
            unit_rows_(linear.weight)
        zero_(self.choices.weight)
        zero_(self.choices.bias)

    def remember(self, item: Tensor, tokens: Tensor) -> PointerState:
        """Return what the pointer keeps of events: item ids (L,), and keys and values of their item tokens (L, D)."""
        return {"item": item, "key": self.key(tokens), "value": self.value(tokens)}

    def forward(self, x: Tensor, target: Tensor, state: PointerState, plan: QuestionPlan) -> Pointed:
        """Return what questions see of their prefixes of the history.

        Args:
            x: (Q, D) outputs of the questions, in the order of the plan.
            target: (Q,) ids of the target items; 0 for none.
            state: of the histories.
            plan: of the questions over events.
        """
        if not len(x):  # every rank of a parallel training must compute the same gradients, here 0
            zero = 0.0 * (self.choices(x).sum() + self.query(x).sum() + state["key"].sum() + state["value"].sum())
            empty = x.new_zeros(0) + zero
            return Pointed(empty, empty, x.new_zeros(0, MATCH_WIDTH) + zero)
        value = rotate(state["value"][:, None], self.rotary(plan.history_positions))
        parts = []
        for (scores, items, is_seen), own, values in zip(
            self._scores(x, state, plan),
            plan.questions.pad(target[:, None, None]),
            plan.histories.pad(value),
            strict=True,
        ):
            matches = (items == own).logical_and_(is_seen)  # (b, 1, m, n)
            matched = torch.where(matches, scores, NO_COPY)
            total, matched_total = (part.logsumexp(-1, keepdim=True) for part in (scores, matched))
            # A softmax over the scores and a score of 0 for nothing.
            reading = (matched - F.softplus(matched_total)).exp() @ values
            number = matches.sum(-1, keepdim=True).to(x.dtype).log1p()
            parts.append(torch.cat([total, matched_total, number, reading], -1))  # (b, 1, m, 3 + W)
        pointed = plan.questions.unpad(parts)
        total, matched_total, number, reading = pointed.split([1, 1, 1, VALUE_WIDTH], -1)
        # Values are rotated by the number of events since, as in rotary positions, so the reading tells how long ago they were.
        cosine, sine = self.rotary(plan.positions)
        reading = rotate(reading, (cosine, -sine))
        return Pointed(total[:, 0, 0], matched_total[:, 0, 0], torch.cat([reading, number], -1)[:, 0])

    def copies(self, x: Tensor, state: PointerState, plan: QuestionPlan) -> Copies:
        """Return the copy scores of all events that questions see. The arguments are those of `forward`."""
        order = plan.questions.pad(torch.arange(len(x), device=x.device)[:, None, None])
        none = torch.empty(0, dtype=torch.int64, device=x.device)
        found = [(none, none, x.new_empty(0))]
        for (scores, items, is_seen), question, is_question in zip(
            self._scores(x, state, plan), order, plan.questions.masks(), strict=True
        ):
            seen = is_seen & is_question
            found.append((question.expand_as(scores)[seen], items.expand_as(scores)[seen], scores[seen]))
        return Copies(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _scores(self, x: Tensor, state: PointerState, plan: QuestionPlan) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield for every group the copy scores, (b, 1, m, n), the items of the events, (b, 1, 1, n), and whether the question
        sees the event, (b, 1, m, n) bool.

        Hidden events and unknown items have the score `NO_COPY`.
        """
        choices = self.choices(x)[:, None]  # (Q, 1, 2)
        query = self.query(x)[:, None] * KEY_WIDTH**-0.5
        # The last feature of query and key is the threshold.
        queries = plan.questions.pad(torch.cat([query, -choices[..., :1]], -1))
        keys = plan.histories.pad(F.pad(state["key"], (0, 1), value=1.0)[:, None])
        slopes, items = plan.questions.pad(choices[..., 1:]), plan.histories.pad(state["item"][:, None, None])
        for q, slope, k, item, prefix in zip(queries, slopes, keys, items, plan.prefixes, strict=True):
            item = item.transpose(2, 3)
            since = prefix[..., None] - torch.arange(k.shape[2], device=x.device)  # (b, 1, m, n) events since, from 1
            is_seen = (since > 0) & (item > 0)
            log_since = since.clamp_(min=1).to(x.dtype).log_()
            scores = torch.addcmul(q @ k.transpose(2, 3), slope, log_since, value=-1)
            yield scores.masked_fill_(~is_seen, NO_COPY), item, is_seen


def add_copies(logits: Tensor, copies: Copies, begin: int = 0) -> None:
    """Add copies to the logits of all items, (n, V), in place: the logits of the questions from index `begin` on."""
    copied = summed_copies(copies, logits.shape[1], begin, begin + len(logits))
    pair = copied.question * logits.shape[1] + copied.item
    logits.put_(pair, torch.logaddexp(logits.take(pair), copied.score.to(logits.dtype)))
    logits[:, 0] = -torch.inf


def summed_copies(copies: Copies, items: int, begin: int, end: int) -> Copies:
    """Return one copy for each question and item: the logarithm of the summed weights of the events with the item.

    Args:
        copies: of single events.
        items: V; later items become item 0.
        begin: index of the first question whose copies are returned. It becomes question 0.
        end: index after the last question.
    """
    chosen = (copies.question >= begin) & (copies.question < end)
    question, item = copies.question[chosen] - begin, known_ids(copies.item[chosen], items)
    pair, index = (question * items + item).unique(return_inverse=True)
    weights = copies.score.new_zeros(len(pair)).index_add_(0, index, copies.score[chosen].exp())
    return Copies(pair // items, pair % items, weights.log())
