"""Causal attention within histories, and the attention of questions over a history.

There are two kinds of attention. Softmax attention uses FlashAttention on CUDA and SDPA on the CPU. The pointwise attention of
HSTU, used where `bias` is given, computes `SiLU(q k + bias) v`. It does not divide by the sum of the weights, so the result
still shows how often something happened (Zhai et al. 2024, section 3.2).

Shapes: T tokens of B users end to end, Q questions, H heads, d width of a head, P relative positions. Within a group of users
(openlum/model/plan.py): b users, padded to n tokens and m questions each.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from openlum.model.plan import HistoryPlan, QuestionPlan

MAX_SCORES = 1 << 23
"""Maximum number of attention scores of questions in memory. More questions are computed in chunks."""


def causal_attention(q: Tensor, k: Tensor, v: Tensor, plan: HistoryPlan) -> Tensor:
    """Return softmax attention, (T, H, d), of every token over itself and the earlier tokens of the same user.

    Args:
        q, k, v: (T, H, d).
        plan: of the histories.
    """
    if not len(q):
        return q
    if q.is_cuda:
        return _causal_cuda(q, k, v, plan)
    groups = zip(*(plan.groups.pad(x) for x in (q, k, v)), strict=True)  # (b, H, n, d) each
    return plan.groups.unpad([F.scaled_dot_product_attention(qs, ks, vs, is_causal=True) for qs, ks, vs in groups])


def _causal_cuda(q: Tensor, k: Tensor, v: Tensor, plan: HistoryPlan) -> Tensor:
    """Return `causal_attention` by variable-length FlashAttention, which computes in half precision."""
    from torch.nn.attention.varlen import varlen_attn

    dtype, starts, longest = q.dtype, plan.device_offsets, max(plan.lengths)
    q, k, v = (x if x.dtype in (torch.float16, torch.bfloat16) else x.to(torch.bfloat16) for x in (q, k, v))
    out = varlen_attn(q, k, v, starts, starts, longest, longest, window_size=(-1, 0))
    return cast(Tensor, out).to(dtype)


def pointwise_attention(q: Tensor, k: Tensor, v: Tensor, plan: HistoryPlan, bias: Tensor) -> Tensor:
    """Return, for every token, the sum of `SiLU(q k + bias) v` over itself and the earlier tokens of the same user.

    Args:
        q, k, v: (T, H, d).
        plan: of the histories.
        bias: (H, P) by the distance between query and key. No user has more than P tokens.

    Returns:
        (T, H, d).
    """
    if not len(q):
        return q
    groups = zip(*(plan.groups.pad(x) for x in (q, k, v)), strict=True)  # (b, H, n, d) each
    return plan.groups.unpad([_pointwise(group, bias) for group in groups])


def _pointwise(padded: tuple[Tensor, ...], bias: Tensor) -> Tensor:
    """Return pointwise attention (b, H, n, d) of padded queries, keys and values (b, H, n, d) with a bias (H, P)."""
    q, k, v = padded
    n = q.shape[2]
    future = torch.ones(n, n, dtype=torch.bool, device=q.device).triu(1)
    scores = q @ k.transpose(2, 3) + relative_bias(bias[:, :n], n)  # (b, H, n, n)
    return F.silu(scores).masked_fill(future, 0.0) @ v


def relative_bias(bias: Tensor, n: int) -> Tensor:
    """Return the bias of every pair of positions: entry [i, j] is the bias of distance i - j, or 0 if j > i.

    The result consists of windows of the reversed bias. Their gradient costs a fraction of the gradient of an index lookup.

    Args:
        bias: (H, P) by distance.
        n: number of key positions.

    Returns:
        (H, P, n).
    """
    if not n:
        return bias.new_zeros(*bias.shape, 0)
    return F.pad(bias.flip(1), (0, n - 1)).unfold(1, n, 1).flip(1)


def question_attention(
    q: Tensor,
    own: tuple[Tensor, Tensor],
    history: tuple[Tensor, Tensor],
    plan: QuestionPlan,
    bias: Tensor | None = None,
) -> Tensor:
    """Return the attention of every question over its prefix of its user's history and over itself.

    A question attends to no other question.

    Args:
        q: (Q, H, d) queries of the questions, in the order of the plan.
        own: keys and values of the questions, (Q, H, d) each.
        history: keys and values of the histories, (T, H, d) each.
        plan: of the questions.
        bias: (H, P) for pointwise attention; None for softmax attention.

    Returns:
        (Q, H, d).
    """
    if not len(q):
        # The history has no effect, but every rank of a parallel training must compute the same gradients, here 0.
        return q + 0.0 * sum(x.sum() for x in (*history, *own, *([] if bias is None else [bias])))
    question_groups = zip(*(plan.questions.pad(x) for x in (q, *own)), plan.prefixes, strict=True)
    history_groups = zip(*(plan.histories.pad(x) for x in history), strict=True)  # (b, H, n, d) each
    return plan.questions.unpad(
        [_answer_in_chunks(group, k, v, bias) for group, (k, v) in zip(question_groups, history_groups, strict=True)]
    )


def _answer_in_chunks(questions: tuple[Tensor, ...], k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Return the same as `_answer`, computed for at most `MAX_SCORES` scores at a time."""
    *vectors, prefix = questions
    chunk_size = max(MAX_SCORES // k[..., 0].numel(), 1)
    chunks = zip(*(x.split(chunk_size, 2) for x in (*vectors, prefix)), strict=True)
    return torch.cat([_answer(chunk, k, v, bias) for chunk in chunks], 2)


def _answer(questions: tuple[Tensor, ...], k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Return the attention (b, H, m, d) of questions over the keys and values of histories and over themselves.

    Args:
        questions: queries, own keys and own values, (b, H, m, d) each, and prefixes, (b, 1, m).
        k, v: (b, H, n, d) of the histories.
        bias: (H, P) for pointwise attention; None for softmax attention.
    """
    q, own_k, own_v, prefix = questions
    hidden = torch.arange(k.shape[2], device=k.device) >= prefix.unsqueeze(3)  # (b, 1, m, n)
    if bias is None:
        q = q * q.shape[-1] ** -0.5
    scores = q @ k.transpose(2, 3)  # (b, H, m, n)
    own_score = (q * own_k).sum(-1, keepdim=True)  # (b, H, m, 1)
    if bias is None:
        weights = torch.cat([scores.masked_fill_(hidden, float("-inf")), own_score], -1).softmax(-1)
        history_weights, own_weight = weights[..., :-1], weights[..., -1:]
    else:
        pair_bias = relative_bias(bias[:, : k.shape[2] + 1], k.shape[2])[:, prefix.squeeze(1)]  # (H, b, m, n)
        history_weights = F.silu(scores + pair_bias.transpose(0, 1)).masked_fill(hidden, 0.0)
        own_weight = F.silu(own_score + bias[:, :1, None])
    return history_weights @ v + own_weight * own_v
