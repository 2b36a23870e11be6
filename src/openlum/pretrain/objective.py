"""The training loss: next-condition-item InfoNCE, contrast of feedback values, and feedback prediction.

Shapes: L events of a batch, C candidates, E embedding width, n positions of questions that search for items, P positions of
questions about feedback, Q questions, R values of a feedback field, V items.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from openlum.field_spec import FieldSpec
from openlum.model import History, ModelConfig, Questions
from openlum.model.batch import Fields, erase, erase_fields, join_questions
from openlum.model.losses import feedback_contrast_loss, full_softmax_loss, sampled_softmax_loss
from openlum.model.network import Network
from openlum.model.outputs import Outputs
from openlum.pretrain.moments import draw_moments
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.shown_items import ShownItems
from openlum.pretrain.time_matched_negatives import TimeMatchedNegatives

NEGATIVES_PER_EVENT = 2
"""Number of time-matched negatives for each item that a user took, if there are no feedback fields."""
SHOWN_PER_EVENT = 5
"""Largest mean number of impressions per event that a step asks about, if there are no feedback fields."""


@dataclass
class Losses:
    """The losses of one batch, () each."""

    item: Tensor
    """Next-condition-item InfoNCE."""
    feedback_contrast: Tensor
    """Contrast of feedback values, summed over the feedback fields; 0 without feedback fields."""
    feedback_prediction: Tensor
    """Cross-entropy of the predicted feedback, summed over the feedback fields; without feedback fields, cross-entropy of whether
    the user took the item, summed over the impressions of an event."""
    matching_head: Tensor
    """The same for the matching head, with the observed feedback and with the feedback that questions about the item predict."""


class Objective:
    """The training loss.

    Args:
        config: of the model.
        settings: of the training.
        frequency: (V,) share of each item in the training events.
        catalogue: (C,) ascending ids: 0 and the items that may be negatives.
        time_matched_negatives: the negatives of feedback prediction, if there are no feedback fields.
        shown_items: the impressions that feedback prediction also learns from, if there are no feedback fields.
    """

    def __init__(
        self,
        config: ModelConfig,
        settings: PretrainSettings,
        frequency: np.ndarray,
        catalogue: Tensor,
        time_matched_negatives: TimeMatchedNegatives | None = None,
        shown_items: ShownItems | None = None,
    ) -> None:
        self.config = config
        self.settings = settings
        self.frequency = torch.from_numpy(frequency).float()
        self.catalogue = catalogue
        self.time_matched_negatives = time_matched_negatives
        self.shown_items = shown_items
        self.full_softmax = len(catalogue) - 1 <= settings.full_softmax_items

    def __call__(self, network: Network, history: History) -> Losses:
        """Return the losses of a batch of histories. The random draws come from torch's global generator.

        The user encoder processes all questions in one pass. Questions about feedback see the events before the event's second,
        as the questions of impressions do. So the feedback losses do not depend on other events of the same second.

        Args:
            network: that is trained.
            history: with `prefix` and `event_index`.
        """
        history = replace(history, condition=self._drop_conditions(history))
        candidates, device = self._candidates(history.item), network.device
        positions = (history.item > 0).nonzero().squeeze(1)  # (n,)
        contrasts = self._contrast_positions(history)
        examples = self.feedback_examples(history)
        questions = [self.item_questions(history, positions)]
        questions += [
            feedback_contrast_questions(self.config, history, contrast_positions, spec)
            for spec, contrast_positions in contrasts
        ]
        moments, moment_index = draw_moments(examples.questions, self.settings.matching_head_moments)
        outputs = network(
            history.to(device),
            candidates.to(device),
            [group.to(device) for group in questions],
            examples.questions.to(device),
            moments.to(device),
            moment_index.to(device),
        )
        item_index = torch.searchsorted(candidates, history.item).to(device)  # (L,) in the candidates
        target_index = item_index[positions.to(device)]
        item_loss = self._item_loss(outputs, candidates.to(device), target_index, len(history.item))
        scale = outputs.scales["feedback"]
        # The first term gives every parameter a gradient, and so a state of the optimizer to resume from.
        contrast_loss = 0.0 * scale
        for (spec, contrast_positions), answers in zip(contrasts, outputs.answers[1:], strict=True):
            value = (history.condition[spec.name][contrast_positions] - 1).to(device)
            o = answers.vectors.unflatten(0, (len(contrast_positions), spec.size - 1))  # (P, R, E)
            e = outputs.items[item_index[contrast_positions.to(device)]]
            contrast_loss = contrast_loss + feedback_contrast_loss(o, e, value, scale)
        matched = outputs.matched.logits
        matching_head_loss = examples.loss(matched) + examples.distillation(matched, outputs.feedback_logits)
        # The similarities are learned after the training; like all parameters, theirs get a gradient.
        matching_head_loss = matching_head_loss + 0.0 * outputs.matched.similarities.sum()
        return Losses(item_loss, contrast_loss, examples.loss(outputs.feedback_logits), matching_head_loss)

    def item_questions(self, history: History, positions: Tensor) -> Questions:
        """Return questions that search for the items at positions, (n,), under the event's condition or with all fields *any*.

        The questions see every earlier event of the log, including events of the same second. The question of an impression never
        sees events of the same second. Still, models that were trained without these events answered impressions less
        accurately (docs/experiments/several-sets.md, 2026-11-30).
        """
        user_index = history.user_index(positions)
        condition = {name: field[positions] for name, field in history.condition.items()}
        if self.settings.question_blank:
            mask = torch.rand(len(positions)) < self.settings.question_blank
            condition = erase(condition, self.config.condition, {spec.name: mask for spec in self.config.condition})
        return Questions(condition, user_index, positions - history.offsets[user_index], history.item[positions])

    def total(self, losses: Losses) -> Tensor:
        """Return the weighted sum of the losses, (), which training minimises and early stopping compares."""
        weighted = (
            self.settings.item_weight * losses.item + self.settings.feedback_contrast_weight * losses.feedback_contrast
        )
        weighted = weighted + self.settings.feedback_prediction_weight * losses.feedback_prediction
        return weighted + self.settings.matching_head_weight * losses.matching_head

    def _item_loss(self, outputs: Outputs, candidates: Tensor, target_index: Tensor, events: int) -> Tensor:
        """Return the item loss, ().

        Args:
            outputs: of the network.
            candidates: (C,) ids.
            target_index: (n,) index of each next item in the candidates.
            events: number of events of the batch.
        """
        o, scale = outputs.answers[0].vectors, outputs.scales["item"]
        copies = outputs.answers[0].copied, outputs.answers[0].all_copied
        if self.full_softmax:
            return full_softmax_loss(o, outputs.items, target_index, scale, *copies)
        sample = candidates, self._log_probability(candidates.cpu(), events).to(candidates.device)
        return sampled_softmax_loss(o, outputs.items, sample, target_index, scale, *copies)

    def _contrast_positions(self, history: History) -> list[tuple[FieldSpec, Tensor]]:
        """Return each feedback field with the positions, (P,), of its contrast questions in the batch. There may be none."""
        contrasts = []
        for spec in self.config.feedback if self.settings.feedback_contrast_weight else []:
            mask = (history.item > 0) & (history.condition[spec.name] > 0)
            mask &= torch.rand(len(mask)) < self.settings.feedback_contrast_positions
            contrasts.append((spec, mask.nonzero().squeeze(1)))
        return contrasts

    def feedback_examples(self, history: History) -> "FeedbackExamples":
        """Return the questions about the items of a sample of a history's events; without feedback fields, those of
        `_taken_examples`. The random draws come from torch's generator."""
        share = self.settings.feedback_prediction_positions if self.settings.feedback_prediction_weight else 0.0
        mask = (history.item > 0) & (torch.rand(len(history.item)) < share)
        if self.time_matched_negatives:
            return self._taken_examples(history, mask.nonzero().squeeze(1), self.time_matched_negatives)
        values = [history.condition[spec.name] for spec in self.config.feedback]
        has_feedback = torch.stack([torch.zeros_like(history.item), *values]).amax(0) > 0
        positions = (mask & has_feedback).nonzero().squeeze(1)
        questions = feedback_prediction_questions(self.config, history, positions)
        return FeedbackExamples(questions, [value[positions] - 1 for value in values], torch.ones(len(positions)))

    def _taken_examples(
        self, history: History, positions: Tensor, negatives: TimeMatchedNegatives
    ) -> "FeedbackExamples":
        """Return questions about the items of events, (P,) positions, and about negatives, which have the same total weight.

        If there are impressions, there are also questions about those before the events. The loss is then that of an event with
        all its impressions. The negatives are new in every step: without them, models memorise the impressions.
        """
        questions, labels = negatives.questions(history, positions, NEGATIVES_PER_EVENT)
        event = labels.cumsum(0) - 1  # (Q,)
        weight = torch.where(labels > 0, 1.0, 1 / torch.bincount(event[labels == 0])[event])  # (Q,)
        if not self.shown_items:
            return FeedbackExamples(questions, [labels], weight)
        shown, shown_labels = self.shown_items.questions(history, positions, SHOWN_PER_EVENT)
        weight = torch.cat([weight, torch.ones(len(shown_labels))])
        factor = float(weight.sum()) / max(len(positions), 1)
        return FeedbackExamples(join_questions([questions, shown]), [torch.cat([labels, shown_labels])], weight, factor)

    def _drop_conditions(self, history: History) -> Fields:
        """Return the condition fields with *any* at random events, as `condition_blank` and `condition_dropout` say."""
        n = len(history.item)
        blank = torch.rand(n) < self.settings.condition_blank
        masks = {s.name: blank | (torch.rand(n) < self.settings.condition_dropout) for s in self.config.condition}
        return erase(history.condition, self.config.condition, masks)

    def _candidates(self, items: Tensor) -> Tensor:
        """Return the ascending ids, (C,), of the catalogue; with sampling, of the batch's items and uniformly drawn negatives."""
        if self.full_softmax:
            return self.catalogue
        negatives = self.catalogue[torch.randint(1, len(self.catalogue), (self.settings.negatives,))]
        return torch.cat([items, negatives]).unique()

    def _log_probability(self, candidates: Tensor, events: int) -> Tensor:
        """Return the log-probability, (C,), that an item is a candidate: as an item of the batch or as a drawn negative."""
        expected = events * self.frequency[candidates] + self.settings.negatives / (len(self.catalogue) - 1)
        return torch.log(-torch.expm1(-expected))


@dataclass
class FeedbackExamples:
    """Questions about items, with the feedback that each item received."""

    questions: Questions
    """Q questions."""
    targets: list[Tensor]
    """For each of the model's feedback targets: (Q,) index of the observed value, or -1."""
    weight: Tensor
    """(Q,) weight of each question."""
    factor: float = 1.0
    """Factor of the loss."""

    @property
    def item(self) -> Tensor:
        """(Q,) ids of the items."""
        assert self.questions.item is not None
        return self.questions.item

    def loss(self, logits: list[Tensor]) -> Tensor:
        """Return the cross-entropy, (): a weighted mean over the questions with a value, summed over the feedback targets, times
        the factor.

        Args:
            logits: (Q, R) of each feedback target.
        """
        # The first term gives every parameter a gradient, even without questions.
        total = 0.0 * torch.stack([target_logits.sum() for target_logits in logits]).sum()
        for target_logits, target in zip(logits, self.targets, strict=False):
            target = target.to(target_logits.device)
            loss = F.cross_entropy(target_logits, target, ignore_index=-1, reduction="none")
            weight = self.weight.to(target_logits.device) * (target >= 0)
            total = total + self.factor * weighted_mean(loss, weight)
        return total

    def distillation(self, logits: list[Tensor], teacher: list[Tensor]) -> Tensor:
        """Return the cross-entropy, (), of logits with the probabilities of a teacher, which gets no gradient, times the factor.

        Args:
            logits: (Q, R) of each feedback target.
            teacher: (Q, R) logits of each feedback target.
        """
        probabilities = [target.detach().softmax(1) for target in teacher]
        return self.factor * distillation_loss(logits, probabilities, self.weight)


def distillation_loss(logits: list[Tensor], probabilities: list[Tensor], weight: Tensor) -> Tensor:
    """Return the cross-entropy, (), of logits with probabilities, (Q, R) each: a mean with weights (Q,), summed over targets."""
    losses = [
        F.cross_entropy(student, target, reduction="none")
        for student, target in zip(logits, probabilities, strict=True)
    ]
    return weighted_mean(torch.stack(losses).sum(0), weight)


def weighted_mean(losses: Tensor, weight: Tensor) -> Tensor:
    """Return the mean, (), of losses (Q,) with weights (Q,)."""
    weight = weight.to(losses.device)
    return (weight * losses).sum() / weight.sum().clamp(min=1.0)


def feedback_contrast_questions(config: ModelConfig, history: History, positions: Tensor, spec: FieldSpec) -> Questions:
    """Return, for events, a question with each value of a feedback field: P R questions.

    A question has the condition of the event, without its other feedback, and sees the events before the event's second, as the
    question of an impression does.

    Args:
        config: of the model.
        history: with the events.
        positions: (P,) ascending indices of events.
        spec: the feedback field, of R values.
    """
    return with_each_value(feedback_prediction_questions(config, history, positions), spec)


def with_each_value(questions: Questions, spec: FieldSpec) -> Questions:
    """Return questions about items, (Q,), with each of the R values of a feedback field: Q R questions that search for items."""
    values = spec.size - 1
    condition = {name: field.repeat_interleave(values, 0) for name, field in questions.condition.items()}
    condition[spec.name] = torch.arange(1, values + 1).repeat(len(questions.user_index))
    user_index = questions.user_index.repeat_interleave(values)
    return Questions(condition, user_index, questions.prefix.repeat_interleave(values))


def feedback_prediction_questions(config: ModelConfig, history: History, positions: Tensor) -> Questions:
    """Return questions about the items of events, (P,) indices. Condition and prefix are as in `feedback_contrast_questions`."""
    assert history.prefix is not None
    condition = {name: field[positions] for name, field in history.condition.items()}
    feedback = {spec.name for spec in config.condition if spec.feedback}
    condition = erase_fields(condition, config.condition, feedback)
    return Questions(condition, history.user_index(positions), history.prefix[positions], history.item[positions])
