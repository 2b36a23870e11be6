"""What a step minimises: next-condition-item InfoNCE, the contrast of feedback values where there is feedback, and feedback predictions.

Shapes: L events of a batch, N positions, P positions at which feedback is asked for, R values of a feedback field, E width.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from openlum.model import History, LargeUserModel, ModelConfig, Questions
from openlum.model.batch import Fields, erase, erase_whole
from openlum.model.losses import feedback_contrast_loss, full_softmax_loss, sampled_softmax_loss
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.time_matched_negatives import TimeMatchedNegatives
from openlum.schema import FieldSpec

OTHERS = 2
"""Items of time-matched negatives that are judged with each that was taken, where there is no feedback."""


@dataclass
class Losses:
    """Of one batch, () each."""

    item: Tensor
    """Next-condition-item InfoNCE."""
    feedback_contrast: Tensor
    """Contrast of feedback values, summed over the feedback fields; 0 where there are none."""
    feedback_prediction: Tensor
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
        others: TimeMatchedNegatives | None = None,
    ) -> None:
        self.config = config
        self.settings = settings
        self.frequency = torch.from_numpy(frequency).float()
        self.catalogue = catalogue
        self.others = others
        self.full = len(catalogue) - 1 <= settings.full_softmax_items

    def __call__(self, model: LargeUserModel, history: History) -> Losses:
        """The losses of a batch of histories. Draws from torch's global generator.

        All questions go through the user encoder together. Those for feedback, and about items, are asked as of the event's
        second, as an impression's are: these losses do not depend on what else the second holds.
        """
        history = replace(history, condition=self._drop_conditions(history))
        candidates = self._candidates(history.item)
        e = model.items(candidates.to(model.device))  # (C, E)
        place = torch.searchsorted(candidates, history.item).to(model.device)  # (L,) in e
        state = model.encode_history(history.to(model.device), e[place])
        positions = (history.item > 0).nonzero().squeeze(1)  # (n,)
        contrasts = self._contrasts(history)
        about = self._about(history)
        questions = [self.looking_for_items(history, positions)]
        questions += [feedback_contrast_questions(self.config, history, some, spec) for spec, some in contrasts]
        items = None if self.others else e[torch.searchsorted(candidates, about.item).to(model.device)]
        answers, logits = model.answer_and_predict_feedback(
            state, [group.to(model.device) for group in questions], about.questions.to(model.device), items
        )
        item = self._item_loss(model, answers[0], e, candidates, place[positions.to(model.device)], len(history.item))
        feedback = 0.0 * model.scale("feedback")  # every parameter has a gradient, and so a state to resume from
        for (spec, some), o in zip(contrasts, answers[1:], strict=True):
            value = (history.condition[spec.name][some] - 1).to(model.device)
            o = o.unflatten(0, (len(some), spec.size - 1))  # (P, R, E)
            feedback = feedback + feedback_contrast_loss(
                o, e[place[some.to(model.device)]], value, model.scale("feedback")
            )
        return Losses(item, feedback, about.loss(logits))

    def looking_for_items(self, history: History, positions: Tensor) -> Questions:
        """Questions that look for the items of events, (n,) indices, each under the event's own condition or with nothing known.

        They see every event that the log has before, those of their own second too, which an impression's question never does:
        trained on earlier seconds alone, models were worse at what impressions ask (docs/experiments.md, 2026-11-30).
        """
        user = history.user_of(positions)
        condition = {name: field[positions] for name, field in history.condition.items()}
        if self.settings.question_blank:
            some = torch.rand(len(positions)) < self.settings.question_blank
            condition = erase(condition, self.config.condition, {spec.name: some for spec in self.config.condition})
        return Questions(condition, user, positions - history.offsets[user])

    def _item_loss(
        self, model: LargeUserModel, o: Tensor, e: Tensor, candidates: Tensor, target: Tensor, events: int
    ) -> Tensor:
        """Of answers (n, E) among candidates (C, E), of which `target`, (n,), are the items that followed."""
        if self.full:
            return full_softmax_loss(o, e, target, model.scale("item"))
        drawn = candidates.to(model.device), self._log_probability(candidates, events).to(model.device)
        return sampled_softmax_loss(o, e, drawn, target, model.scale("item"))

    def _contrasts(self, history: History) -> list[tuple[FieldSpec, Tensor]]:
        """Feedback fields and the events, (P,), at which each of their values is asked for; those without events are left out."""
        found = []
        for spec in self.config.feedback if self.settings.feedback_contrast_weight else []:
            some = (history.item > 0) & (history.condition[spec.name] > 0)
            some &= torch.rand(len(some)) < self.settings.feedback_contrast_positions
            if some.any():
                found.append((spec, some.nonzero().squeeze(1)))
        return found

    def _about(self, history: History) -> "FeedbackExamples":
        """Questions about the items of a sample of events; without feedback, about time-matched negatives' too, which weigh as much."""
        share = self.settings.feedback_prediction_positions if self.settings.feedback_prediction_weight else 0.0
        some = (history.item > 0) & (torch.rand(len(history.item)) < share)
        if self.others:
            questions, taken = self.others.questions(history, some.nonzero().squeeze(1), OTHERS)
            event = taken.cumsum(0) - 1  # (Q,)
            weight = torch.where(taken > 0, 1.0, 1 / torch.bincount(event[taken == 0])[event])  # (Q,)
            return FeedbackExamples(questions, [taken], weight)
        values = [history.condition[spec.name] for spec in self.config.feedback]
        with_feedback = torch.stack([torch.zeros_like(history.item), *values]).amax(0) > 0
        positions = (some & with_feedback).nonzero().squeeze(1)
        questions = feedback_prediction_questions(self.config, history, positions)
        return FeedbackExamples(questions, [value[positions] - 1 for value in values], torch.ones(len(positions)))

    def total(self, losses: Losses) -> Tensor:
        """The number that training minimises and early stopping watches, ()."""
        weighted = (
            self.settings.item_weight * losses.item + self.settings.feedback_contrast_weight * losses.feedback_contrast
        )
        return weighted + self.settings.feedback_prediction_weight * losses.feedback_prediction

    def _drop_conditions(self, history: History) -> Fields:
        n = len(history.item)
        blank = torch.rand(n) < self.settings.condition_blank
        where = {s.name: blank | (torch.rand(n) < self.settings.condition_dropout) for s in self.config.condition}
        return erase(history.condition, self.config.condition, where)

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


@dataclass
class FeedbackExamples:
    """Questions about items, and the feedback that each item got."""

    questions: Questions
    """Q of them."""
    targets: list[Tensor]
    """For each field that items are judged by, (Q,) the index of the value that happened, or -1."""
    weight: Tensor
    """(Q,) of each question."""

    @property
    def item(self) -> Tensor:
        """(Q,) ids of the items."""
        assert self.questions.item is not None
        return self.questions.item

    def loss(self, logits: list[Tensor]) -> Tensor:
        """Weighted mean of the cross-entropy over the questions with a value, summed over the fields, whose logits are (Q, R)."""
        # Every parameter has a gradient, also where nothing is asked.
        total = 0.0 * torch.stack([of_field.sum() for of_field in logits]).sum()
        for of_field, target in zip(logits, self.targets, strict=False):
            target = target.to(of_field.device)
            each = F.cross_entropy(of_field, target, ignore_index=-1, reduction="none")
            weight = self.weight.to(of_field.device) * (target >= 0)
            total = total + (weight * each).sum() / weight.sum().clamp(min=1.0)
        return total


def feedback_contrast_questions(config: ModelConfig, history: History, positions: Tensor, spec: FieldSpec) -> Questions:
    """At some events, the question for each value of a feedback field, P R questions.

    The question has the event's own condition, without what other feedback there was, and sees what came before the event's
    second, as it will when an impression of that second is asked about.

    Args:
        config: of the model.
        history: that is read.
        positions: (P,) ascending indices of events.
        spec: the feedback field, of R values.
    """
    values = spec.size - 1
    asked = feedback_prediction_questions(config, history, positions)
    condition = {name: field.repeat_interleave(values, 0) for name, field in asked.condition.items()}
    condition[spec.name] = torch.arange(1, values + 1).repeat(len(positions))
    return Questions(condition, asked.user.repeat_interleave(values), asked.prefix.repeat_interleave(values))


def feedback_prediction_questions(config: ModelConfig, history: History, positions: Tensor) -> Questions:
    """Questions about the items of some events, (P,) indices; see `feedback_contrast_questions`."""
    assert history.before is not None
    condition = {name: field[positions] for name, field in history.condition.items()}
    condition = erase_whole(condition, config.condition, {spec.name for spec in config.condition if spec.feedback})
    return Questions(condition, history.user_of(positions), history.before[positions], history.item[positions])
