"""The moments of user vectors in training.

A user vector costs as much as a question, and a question about feedback needs all M vectors of its user. So vectors are computed
as of some moments only, and a question reads those of the latest moment that is not after it. The matching head thus learns from
vectors that miss the last events too, like vectors of the night before.

Shapes: Q questions, P moments.
"""

import torch
from torch import Tensor

from openlum.model import Questions
from openlum.model.batch import Moments


def draw_moments(questions: Questions, share: float) -> tuple[Moments, Tensor]:
    """Return moments at which some of the questions are asked, and the index, (Q,), of the moment of each question.

    A question's moment is the latest one of its user that is not after the question. The first question of every user has a
    moment of its own. The random draws come from torch's global generator.

    Args:
        questions: about feedback.
        share: of the different moments of the questions that are drawn.
    """
    user, prefix = questions.user_index, questions.prefix
    order = prefix.argsort(stable=True)
    order = order[user[order].argsort(stable=True)]  # by user, then by prefix
    user, prefix = user[order], prefix[order]
    is_first = torch.ones(len(user), dtype=torch.bool)
    is_first[1:] = user[1:] != user[:-1]
    is_new = is_first.clone()
    is_new[1:] |= prefix[1:] != prefix[:-1]
    drawn = is_new & (is_first | (torch.rand(len(user)) < share))
    index = torch.empty_like(order)
    index[order] = drawn.cumsum(0) - 1
    return Moments(user[drawn], prefix[drawn]), index
