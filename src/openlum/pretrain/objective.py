"""What a step minimises: next-condition-item InfoNCE, the contrast of feedback values where there is feedback, and judgements.

Shapes: L events of a batch, N positions, P positions at which feedback is asked for, R values of a feedback field, E width.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from openlum.model import History, LargeUserModel, ModelConfig, Questions
from openlum.model.batch import Fields, erase, erase_whole
from openlum.model.loss import feedback_loss, full_softmax_loss, sampled_softmax_loss
from openlum.model.user_encoder import UserState
from openlum.pretrain.contemporaries import Contemporaries
from openlum.pretrain.settings import PretrainSettings
from openlum.schema import FieldSpec

OTHERS = 2
"""Items of contemporaries that are judged with each that was taken, where there is no feedback."""


@dataclass
class Losses:
    """Of one batch, () each."""

    item: Tensor
    """Next-condition-item InfoNCE."""
    feedback: Tensor
    """Contrast of feedback values, summed over the feedback fields; 0 where there are none."""
    judged: Tensor
    """Cross-entropy of the feedback to items that questions are about, summed over the feedback fields; where there are none, of
    whether the item was taken."""


class Objective:
    """The training loss.

    Args:
        config: of the model.
        settings: of the training.
        frequency: (V,) how often each item is an event of the training period, as a share of all.
        catalogue: (C,) ids ascending: 0 and the items that may be negatives.
        others: events that stand for what a user did not take, where there is no feedback to judge by.
    """

    def __init__(
        self,
        config: ModelConfig,
        settings: PretrainSettings,
        frequency: np.ndarray,
        catalogue: Tensor,
        others: Contemporaries | None = None,
    ) -> None:
        self.config = config
        self.settings = settings
        self.frequency = torch.from_numpy(frequency).float()
        self.catalogue = catalogue
        self.others = others
        self.full = len(catalogue) - 1 <= settings.full_softmax_items

    def __call__(self, model: LargeUserModel, history: History) -> Losses:
        """The losses of a batch of histories. Draws from torch's global generator."""
        history = replace(history, condition=self._drop_conditions(history))
        history = replace(history, asked=self._ask_any(history))
        known = history.item > 0
        candidates = self._candidates(history.item)
        e = model.items(candidates.to(model.device))  # (C, E)
        place = torch.searchsorted(candidates, history.item)
        o, state = self.answer_items(model, history, e[place.to(model.device)])  # (n, E)
        target = place[known].to(model.device)
        if self.full:
            item_loss = full_softmax_loss(o, e, target, model.scale("item"))
        else:
            drawn = candidates, self._log_probability(candidates, len(history.item))
            drawn = drawn[0].to(model.device), drawn[1].to(model.device)
            item_loss = sampled_softmax_loss(o, e, drawn, target, model.scale("item"))
        feedback = 0.0 * model.scale("feedback")  # every parameter has a gradient, and so a state to resume from
        if self.settings.feedback_weight:
            for spec in self.config.feedback:
                asked = known & (history.condition[spec.name] > 0)
                asked &= torch.rand(len(asked)) < self.settings.feedback_positions
                positions = asked.nonzero().squeeze(1)  # (P,)
                if len(positions):
                    o = answer_feedback(model, state, history, positions, spec)
                    value = history.condition[spec.name][positions].to(model.device) - 1
                    e_target = e[place[positions].to(model.device)]
                    feedback = feedback + feedback_loss(o, e_target, value, model.scale("feedback"))
        return Losses(item_loss, feedback, self._judged(model, state, history, e, place))

    def answer_items(self, model: LargeUserModel, history: History, items: Tensor) -> tuple[Tensor, UserState]:
        """Answers (n, E) that look for the items of the events whose item is known, each as of its event's second, and the state.

        Args:
            model: that reads the histories.
            history: of B users.
            items: (L, E) embeddings of their items.
        """
        state = model.read(history.to(model.device), with_answers=False, items=items)[1]
        positions = (history.item > 0).nonzero().squeeze(1)  # (n,)
        assert history.before is not None
        asked = history.condition if history.asked is None else history.asked
        condition = {name: field[positions] for name, field in asked.items()}
        questions = Questions(condition, history.user_of(positions), history.before[positions])
        return model.answer(state, questions.to(model.device)), state

    def _judged(self, model: LargeUserModel, state: UserState, history: History, e: Tensor, place: Tensor) -> Tensor:
        """Questions about the items of a sample of events, each as of the event's second; e is (C, E), place (L,) in it."""
        parameters = model.about, *model.judges.parameters()
        total = 0.0 * torch.stack([parameter.sum() for parameter in parameters]).sum()  # as above
        if not self.settings.judge_weight:
            return total
        if not self.config.feedback:
            return total + self._taken(model, state, history)
        values = {spec.name: history.condition[spec.name] for spec in self.config.feedback}
        some = torch.stack(list(values.values())).amax(0) > 0
        some &= (history.item > 0) & (torch.rand(len(some)) < self.settings.judge_positions)
        positions = some.nonzero().squeeze(1)  # (P,)
        if not len(positions):
            return total
        items = e[place[positions].to(model.device)]
        for value, logits in zip(values.values(), judge_feedback(model, state, history, positions, items), strict=True):
            target = value[positions].to(model.device) - 1
            if (target >= 0).any():
                total = total + F.cross_entropy(logits, target, ignore_index=-1)
        return total

    def _taken(self, model: LargeUserModel, state: UserState, history: History) -> Tensor:
        """Questions about the items of a sample of events, and about contemporaries', which weigh as much as the event's own."""
        some = (history.item > 0) & (torch.rand(len(history.item)) < self.settings.judge_positions)
        assert self.others is not None
        asked, taken = self.others.questions(history, some.nonzero().squeeze(1), OTHERS)
        if not len(taken):
            return torch.zeros(())
        event = taken.cumsum(0) - 1  # (Q,)
        weight = torch.where(taken > 0, 1.0, 1 / torch.bincount(event[taken == 0])[event])  # (Q,)
        loss = F.cross_entropy(model.judge(state, asked.to(model.device))[0], taken.to(model.device), reduction="none")
        return (weight.to(model.device) * loss).sum() / weight.sum()

    def total(self, losses: Losses) -> Tensor:
        """The number that training minimises and early stopping watches, ()."""
        weighted = self.settings.item_weight * losses.item + self.settings.feedback_weight * losses.feedback
        return weighted + self.settings.judge_weight * losses.judged

    def _drop_conditions(self, history: History) -> Fields:
        n = len(history.item)
        blank = torch.rand(n) < self.settings.condition_blank
        where = {s.name: blank | (torch.rand(n) < self.settings.condition_dropout) for s in self.config.condition}
        return erase(history.condition, self.config.condition, where)

    def _ask_any(self, history: History) -> Fields | None:
        if not self.settings.ask_any:
            return None
        some = torch.rand(len(history.item)) < self.settings.ask_any
        return erase(history.condition, self.config.condition, {spec.name: some for spec in self.config.condition})

    def _candidates(self, items: Tensor) -> Tensor:
        """Ids of the whole catalogue, or of the batch's items and of negatives drawn evenly from it, ascending, (C,)."""
        if self.full:
            return self.catalogue
        drawn = self.catalogue[torch.randint(1, len(self.catalogue), (self.settings.negatives,))]
        return torch.cat([items, drawn]).unique()

    def _log_probability(self, candidates: Tensor, events: int) -> Tensor:
        """Log-probability that an item is among the candidates: drawn evenly, or met as one of the batch's events, (C,)."""
        expected = events * self.frequency[candidates] + self.settings.negatives / (len(self.catalogue) - 1)
        return torch.log(-torch.expm1(-expected))


def answer_feedback(
    model: LargeUserModel, state: UserState, history: History, positions: Tensor, spec: FieldSpec
) -> Tensor:
    """At some events, the answers to the question for each value of a feedback field, (P, R, E).

    The question has the event's own condition, without what other feedback there was, and sees what came before the event's
    second, as it will when an impression of that second is asked about.

    Args:
        model: that read the histories into `state`.
        state: of the histories.
        history: that was read.
        positions: (P,) ascending indices of events.
        spec: the feedback field.
    """
    values = spec.size - 1
    user = history.user_of(positions)
    asked = _as_asked(model.config, history, positions)
    condition = {name: field.repeat_interleave(values, 0) for name, field in asked.items()}
    condition[spec.name] = torch.arange(1, values + 1).repeat(len(positions))
    assert history.before is not None
    prefix = history.before[positions].repeat_interleave(values)
    questions = Questions(condition, user.repeat_interleave(values), prefix)
    return model.answer(state, questions.to(model.device)).view(
        len(positions), values, model.config.settings.embedding_width
    )


def judge_feedback(
    model: LargeUserModel, state: UserState, history: History, positions: Tensor, items: Tensor
) -> list[Tensor]:
    """What the model makes of the items of some events, (P, R) logits for each feedback field; see `answer_feedback`.

    Args:
        model: that read the histories into `state`.
        state: of the histories.
        history: that was read.
        positions: (P,) ascending indices of events.
        items: (P, E) embeddings of their items.
    """
    user = history.user_of(positions)
    assert history.before is not None
    questions = Questions(
        _as_asked(model.config, history, positions), user, history.before[positions], history.item[positions]
    )
    return model.judge(state, questions.to(model.device), items)


def _as_asked(config: ModelConfig, history: History, positions: Tensor) -> Fields:
    """The conditions of some events, (P, ...), without what feedback there was."""
    asked = {name: field[positions] for name, field in history.condition.items()}
    return erase_whole(asked, config.condition, {spec.name for spec in config.condition if spec.feedback})
