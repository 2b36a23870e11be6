"""The contrastive losses: among items for one question (InfoNCE), and among feedback values for one item.

Shapes: N positions, E embedding width, V items of the catalogue, C candidates, R values of a feedback field.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openlum.model.pointer import NO_COPY

MAX_LOGITS = 1 << 20
"""Maximum number of logits of the full softmax in memory: they stay in the processor's cache."""


def positions_per_chunk(e: Tensor) -> int:
    """Return how many positions to compare with items (V, E) at a time, so that there are about `MAX_LOGITS` logits."""
    return max(MAX_LOGITS // len(e), 64)


class _FullSoftmax(torch.autograd.Function):
    """Cross-entropy over the whole catalogue that computes its gradient in the forward pass, one chunk of positions at a time.

    The (N, V) matrix of logits is never in memory.
    """

    @staticmethod
    def forward(ctx: Any, o: Tensor, e: Tensor, target: Tensor, copied: Tensor, all_copied: Tensor) -> Tensor:
        """Return the mean loss, (), of scaled answers (N, E) with targets (N,) among items (V, E), and copy scores (N,)."""
        grad_o, grad_e = torch.empty_like(o), torch.zeros_like(e)
        grad_copied, grad_all_copied = torch.empty_like(copied), torch.empty_like(all_copied)
        loss = o.new_zeros(())
        chunk_size = positions_per_chunk(e)
        # All chunks share one buffer: allocating memory for each chunk costs a third of the time of the arithmetic.
        buffer = o.new_empty(chunk_size, len(e))
        for begin in range(0, len(o), chunk_size):
            rows = slice(begin, begin + chunk_size)
            chunk, chunk_target = o[rows], target[rows, None]  # (n, E), (n, 1)
            logits = torch.mm(chunk, e.T, out=buffer[: len(chunk)])  # (n, V)
            logits[:, 0] = float("-inf")  # item 0 is the unknown item, which is never an answer
            positive, largest = logits.gather(1, chunk_target), logits.amax(1, keepdim=True)
            grad = logits.sub_(largest).exp_()
            total = grad.sum(1, keepdim=True)
            generated = total.log() + largest  # (n, 1)
            both, target_both = (
                torch.logaddexp(generated, all_copied[rows, None]),
                torch.logaddexp(positive, copied[rows, None]),
            )
            loss += (both - target_both).sum()
            grad *= (generated - both).exp() / (total * len(o))
            grad.scatter_add_(1, chunk_target, -(positive - target_both).exp() / len(o))
            torch.mm(grad, e, out=grad_o[rows])
            grad_e.addmm_(grad.T, chunk)
            grad_all_copied[rows] = (all_copied[rows] - both[:, 0]).exp() / len(o)
            grad_copied[rows] = -(copied[rows] - target_both[:, 0]).exp() / len(o)
        ctx.save_for_backward(grad_o, grad_e, grad_copied, grad_all_copied)
        return loss / max(len(o), 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, Tensor, Tensor]:
        grad_o, grad_e, grad_copied, grad_all_copied = (grads[0] * gradient for gradient in ctx.saved_tensors)
        return grad_o, grad_e, None, grad_copied, grad_all_copied


def full_softmax_loss(
    o: Tensor, e: Tensor, target: Tensor, scale: Tensor, copied: Tensor | None = None, all_copied: Tensor | None = None
) -> Tensor:
    """Return InfoNCE with every other item as a negative: the mean of `-log p(target)`, 0 without positions.

    The weight of an item is `exp(scale o e)`, plus its weight as a copy (CopyNet, Gu et al. 2016); p is its share of all weights.

    Args:
        o: (N, E) answers, unit length.
        e: (V, E) item embeddings, unit length. Row 0 is left out.
        target: (N,) ids of the next items, none of them 0.
        scale: () inverse temperature.
        copied: (N,) logarithm of the weight of the target as a copy; by default nothing is copied.
        all_copied: (N,) logarithm of the weight of all copies.
    """
    copied, all_copied = (o.new_full((len(o),), NO_COPY) if x is None else x for x in (copied, all_copied))
    return _FullSoftmax.apply(o * scale, e, target, copied, all_copied)


def sampled_softmax_loss(
    o: Tensor,
    e: Tensor,
    candidates: tuple[Tensor, Tensor],
    target_index: Tensor,
    scale: Tensor,
    copied: Tensor | None = None,
    all_copied: Tensor | None = None,
) -> Tensor:
    """Return InfoNCE with sampled negatives that all positions share, or 0 without positions.

    The log-probability that an item becomes a candidate is subtracted from its logit. With this correction, the sum over the
    candidates is an unbiased estimate of the sum over the catalogue, whatever the popularity of the items (log-frequency
    correction: Bengio and Senecal, 2008; Yi et al., RecSys 2019). Neither the positive itself nor item 0, unknown, is a negative.

    Args:
        o: (N, E) answers, unit length.
        e: (C, E) embeddings of the candidates, unit length.
        candidates: ids of the candidates, (C,) all different, and log-probabilities that an item becomes a candidate, (C,).
        target_index: (N,) index of each position's item in the candidates.
        scale: () inverse temperature.
        copied, all_copied: as in `full_softmax_loss`.
    """
    ids, log_probability = candidates
    logits = scale * (o @ e.T)  # (N, C)
    positive = logits.gather(1, target_index[:, None])  # (N, 1)
    is_positive = torch.arange(len(ids), device=ids.device) == target_index[:, None]  # (N, C)
    negatives = (logits - log_probability).masked_fill(is_positive | (ids == 0), float("-inf"))
    total, positive = torch.cat([positive, negatives], 1).logsumexp(-1), positive.squeeze(1)
    if copied is not None and all_copied is not None:
        total, positive = torch.logaddexp(total, all_copied), torch.logaddexp(positive, copied)
    return (total - positive).sum() / max(len(target_index), 1)


def feedback_contrast_loss(o: Tensor, e: Tensor, value: Tensor, scale: Tensor) -> Tensor:
    """Return the contrast of a field's feedback values for one item: the mean of `-log softmax_r(scale * sim(o_r, e))[value]`, 0
    without positions.

    Args:
        o: (N, R, E) answers to the question with each feedback value, unit length.
        e: (N, E) embedding of the item that received the feedback, unit length.
        value: (N,) index of the observed feedback value.
        scale: () inverse temperature.
    """
    logits = scale * (o @ e.unsqueeze(-1)).squeeze(-1)  # (N, R)
    return F.cross_entropy(logits, value, reduction="sum") / max(len(value), 1)
