"""The two directions of the loss: items under one condition (InfoNCE), and feedback values for one item.

Shapes: N positions, E embedding width, V items of the catalogue, C candidates, R values of a feedback field.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LOGITS_AT_ONCE = 1 << 20
"""Logits held at once by the full softmax: small enough to stay in the processor's cache."""


def positions_at_once(e: Tensor) -> int:
    """How many positions are compared with items (V, E) at once."""
    return max(LOGITS_AT_ONCE // len(e), 64)


class _FullSoftmax(torch.autograd.Function):
    """Cross-entropy over the whole catalogue that computes its gradient on the way, a few positions at a time.

    The (N, V) matrix of logits never exists.
    """

    @staticmethod
    def forward(ctx: Any, o: Tensor, e: Tensor, target: Tensor) -> Tensor:
        """(N, E) answers (scaled), (V, E) items, (N,) targets to the mean loss, ()."""
        grad_o, grad_e = torch.empty_like(o), torch.zeros_like(e)
        loss = o.new_zeros(())
        at_once = positions_at_once(e)
        # One buffer for all turns: memory that is new each time costs a third of the arithmetic's time.
        held = o.new_empty(at_once, len(e))
        for begin in range(0, len(o), at_once):
            here = o[begin : begin + at_once]  # (n, E)
            wanted = target[begin : begin + at_once, None]  # (n, 1)
            logits = torch.mm(here, e.T, out=held[: len(here)])  # (n, V)
            logits[:, 0] = float("-inf")  # item 0 is unknown, never an answer
            hit, most = logits.gather(1, wanted), logits.amax(1, keepdim=True)
            grad = logits.sub_(most).exp_()
            total = grad.sum(1, keepdim=True)
            loss += (total.log() + most - hit).sum()
            grad /= total * len(o)
            grad.scatter_add_(1, wanted, torch.full_like(total, -1 / len(o)))
            torch.mm(grad, e, out=grad_o[begin : begin + at_once])
            grad_e.addmm_(grad.T, here)
        ctx.save_for_backward(grad_o, grad_e)
        return loss / max(len(o), 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_o, grad_e = ctx.saved_tensors
        return grads[0] * grad_o, grads[0] * grad_e, None


def full_softmax_loss(o: Tensor, e: Tensor, target: Tensor, scale: Tensor) -> Tensor:
    """InfoNCE with every other item as a negative: mean of `-log softmax(scale * o e^T)[target]`, 0 where there are no positions.

    Args:
        o: (N, E) answers, unit length.
        e: (V, E) item embeddings, unit length; row 0 is left out.
        target: (N,) the items that followed, none of them 0.
        scale: () inverse temperature.
    """
    return _FullSoftmax.apply(o * scale, e, target)


def sampled_softmax_loss(
    o: Tensor, e: Tensor, candidates: tuple[Tensor, Tensor], place: Tensor, scale: Tensor
) -> Tensor:
    """InfoNCE with negatives that all positions share, each logit less the log of how often its item becomes a candidate.

    With that correction the sum over the candidates estimates the one over the catalogue without bias, whatever the
    popularity of the items (log-frequency correction: Bengio and Senecal, 2008; Yi et al., RecSys 2019). The candidate that
    is the positive itself is no negative, nor is item 0, unknown. 0 where there are no positions.

    Args:
        o: (N, E) answers, unit length.
        e: (C, E) embeddings of the candidates, unit length.
        candidates: their ids, (C,) all different, and log-probabilities of being drawn, (C,).
        place: (N,) where in the candidates each position's item is.
        scale: () inverse temperature.
    """
    ids, log_probability = candidates
    logits = scale * (o @ e.T)  # (N, C)
    hit = logits.gather(1, place[:, None])  # (N, 1)
    positive = torch.arange(len(ids), device=ids.device) == place[:, None]  # (N, C)
    negatives = (logits - log_probability).masked_fill(positive | (ids == 0), float("-inf"))
    return (torch.cat([hit, negatives], 1).logsumexp(-1) - hit.squeeze(1)).sum() / max(len(place), 1)


def feedback_contrast_loss(o: Tensor, e: Tensor, value: Tensor, scale: Tensor) -> Tensor:
    """Contrast the values of a feedback field for one item: mean of `-log softmax_r(scale * sim(o_r, e))[value]`.

    Args:
        o: (N, R, E) answers to the question for each value, unit length.
        e: (N, E) the item that the feedback was given to, unit length.
        value: (N,) index of the value that happened.
        scale: () inverse temperature.
    """
    return F.cross_entropy(scale * (o @ e.unsqueeze(-1)).squeeze(-1), value)
