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
        parts = []
        targets, values = plan.questions.pad(target[:, None, None]), plan.histories.pad(state["value"][:, None])
        for (scores, items), own, value, prefix in zip(
            self._scores(x, state, plan), targets, values, plan.prefixes, strict=True
        ):
            matches = (items == own) & (scores > NO_COPY)  # (b, 1, m, n)
            matched = scores.masked_fill(~matches, NO_COPY)
            totals = [F.pad(part, (0, 1), value=NO_COPY).logsumexp(-1, keepdim=True) for part in (scores, matched)]
            number = matches.sum(-1, keepdim=True).to(x.dtype).log1p()
            parts.append(torch.cat([*totals, self._read(matched, value, prefix), number], -1))  # (b, 1, m, 2 + W + 1)
        pointed = plan.questions.unpad(parts)[:, 0]
        return Pointed(pointed[:, 0], pointed[:, 1], pointed[:, 2:])

    def copies(self, x: Tensor, state: PointerState, plan: QuestionPlan) -> Copies:
        """Return the copy scores of all events that questions see. The arguments are those of `forward`."""
        order = plan.questions.pad(torch.arange(len(x), device=x.device)[:, None, None])
        none = torch.empty(0, dtype=torch.int64, device=x.device)
        found = [(none, none, x.new_empty(0))]
        for (scores, items), question, is_question in zip(
            self._scores(x, state, plan), order, plan.questions.masks(), strict=True
        ):
            seen = (scores > NO_COPY) & is_question
            found.append((question.expand_as(scores)[seen], items.expand_as(scores)[seen], scores[seen]))
        return Copies(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _read(self, matched: Tensor, value: Tensor, prefix: Tensor) -> Tensor:
        """Return the reading of events, (b, 1, m, W): a softmax over the scores and a score of 0 for nothing.

        Values are rotated by the number of events since, as in rotary positions, so the reading tells how long ago they were.

        Args:
            matched: (b, 1, m, n) scores, `NO_COPY` for events that are not read.
            value: (b, 1, n, W) values of the events.
            prefix: (b, 1, m) prefixes of the questions.
        """
        weights = F.pad(matched, (0, 1)).softmax(-1)[..., :-1]
        cosine, sine = self.rotary(torch.arange(value.shape[2], device=value.device))  # (n, 1, W / 2) each
        reading = weights @ rotate(value, (cosine[:, 0], sine[:, 0]))
        cosine, sine = (part.view(*prefix.shape, -1) for part in self.rotary(prefix.flatten()))
        return rotate(reading, (cosine, -sine))

    def _scores(self, x: Tensor, state: PointerState, plan: QuestionPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield for every group the copy scores, (b, 1, m, n), and the items of the events, (b, 1, 1, n).

        Hidden events and unknown items have the score `NO_COPY`.
        """
        threshold, slope = self.choices(x)[:, None].split(1, -1)  # (Q, 1, 1) each
        query = self.query(x)[:, None] * KEY_WIDTH**-0.5
        questions = (plan.questions.pad(part) for part in (query, threshold, slope))
        events = (plan.histories.pad(part) for part in (state["key"][:, None], state["item"][:, None, None]))
        for q, t, s, k, item, prefix in zip(*questions, *events, plan.prefixes, strict=True):
            since = prefix[..., None] - 1 - torch.arange(k.shape[2], device=x.device)  # (b, 1, m, n) events since
            scores = q @ k.transpose(2, 3) - t - s * since.clamp(min=0).to(x.dtype).log1p()
            item = item.transpose(2, 3)
            yield scores.masked_fill((since < 0) | (item == 0), NO_COPY), item


def add_copies(logits: Tensor, copies: Copies, begin: int = 0) -> None:
    """Add copies to the logits of all items, (n, V), in place: the logits of the questions from index `begin` on."""
    chosen = (copies.question >= begin) & (copies.question < begin + len(logits))
    question, item, weight = copies.question[chosen] - begin, copies.item[chosen], copies.score[chosen].exp()
    item = known_ids(item, logits.shape[1])
    weights = torch.zeros_like(logits).index_put_((question, item), weight.to(logits.dtype), accumulate=True)
    torch.logaddexp(logits, weights.log(), out=logits)
    logits[:, 0] = -torch.inf
