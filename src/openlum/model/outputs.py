"""What the network returns: answers with their copy scores, and everything that the losses of a training step need.

Shapes: Q questions, C candidate items, D width, E embedding width, R values of a feedback field, F fixed questions.
"""

from typing import NamedTuple

from torch import Tensor


class Answers(NamedTuple):
    """The answers to questions that search for items.

    An item of embedding e has the logit `log(exp(scale o e) + exp(copied))`: it is generated from the answer o, or copied from
    the history.
    """

    vectors: Tensor
    """(Q, E), of unit length."""
    copied: Tensor
    """(Q,) copy score of the question's item, about `NO_COPY` if the history does not have it."""
    all_copied: Tensor
    """(Q,) logarithm of the summed weights of all events. Both scores are `NO_COPY` for questions without an item."""
    outputs: Tensor
    """(Q, D) outputs of the user encoder, for `Network.copies`."""


class Matched(NamedTuple):
    """What the matching head predicts for questions about items."""

    logits: list[Tensor]
    """Feedback logits for each of `config.feedback_targets`: (Q, R)."""
    similarities: Tensor
    """(Q, 2 F) similarities of the items to the answers to the fixed questions: as they are, then in the context."""


class Outputs(NamedTuple):
    """Everything that the losses of a training step need."""

    items: Tensor
    """(C, E) embeddings of the candidates, of unit length."""
    answers: list[Answers]
    """For each group of questions that search for items."""
    feedback_logits: list[Tensor]
    """For each of `config.feedback_targets`: (Q, R)."""
    matched: Matched
    """What the matching head predicts about the same items."""
    scales: dict[str, Tensor]
    """Inverse temperatures, () each, of the `item` and the `feedback` loss."""
