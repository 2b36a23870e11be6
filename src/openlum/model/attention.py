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

MAX_SCORES, MAX_CUDA_SCORES = 1 << 20, 1 << 23
"""Maximum number of attention scores in memory, on the CPU (they fit into its cache) and on CUDA. Attention of more queries is
computed in chunks."""
MIN_QUERIES = 32
"""On the CPU, a chunk of queries sees their longest prefix only, so chunks are small: of so many queries of each user, or of an
eighth of the number of keys, if that is more."""
HIDDEN = -1e4
"""The bias of a hidden key in pointwise attention: its weight, the SiLU, is 0."""


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
    n, q, biases = q.shape[2], q.flip(2), relative_bias(bias[:, : q.shape[2]], q.shape[2])  # the last query first
    size, parts = _chunk_size(k), []
    for start in range(0, n, size):
        rows, seen = slice(start, start + size), n - start  # the first query of the chunk sees the most keys
        scores = (q[:, :, rows] @ k[:, :, :seen].transpose(2, 3)).add_(biases[:, rows, :seen])  # (b, H, rows, seen)
        parts.append(F.silu(scores) @ v[:, :, :seen])
    return torch.cat(parts, 2).flip(2)


def _chunk_size(k: Tensor) -> int:
    """Return the number of queries of each user whose attention over keys (b, H, n, d) is computed at a time."""
    keys = k[..., 0].numel()
    return max(MAX_CUDA_SCORES // keys if k.is_cuda else min(MAX_SCORES // keys, max(MIN_QUERIES, k.shape[2] // 8)), 1)


def relative_bias(bias: Tensor, n: int) -> Tensor:
    """Return the bias of every pair of positions, the last query first.

    Entry [P - 1 - i, j] is the bias of distance i - j, or `HIDDEN` if j > i. The result consists of windows of the reversed bias:
    it takes no memory of its own, and its gradient costs a fraction of the gradient of an index lookup.

    Args:
        bias: (H, P) by distance.
        n: number of key positions.

    Returns:
        (H, P, n).
    """
    if not n:
        return bias.new_zeros(*bias.shape, 0)
    return F.pad(bias.flip(1), (0, n - 1), value=HIDDEN).unfold(1, n, 1)


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
    """Return the attention (b, H, m, d) of questions over the keys and values of histories and over themselves.

    Args:
        questions: queries, own keys and own values, (b, H, m, d) each, and prefixes, (b, 1, m).
        k, v: (b, H, n, d) of the histories.
        bias: (H, P) for pointwise attention; None for softmax attention.
    """
    n = k.shape[2]
    chunks = list(zip(*(x.split(_chunk_size(k), 2) for x in questions), strict=True))
    # Questions mostly come by time, so those of a chunk see a part of the history. A GPU would have to wait for the number.
    lengths = [int(prefix.max()) if k.device.type == "cpu" else n for *_, prefix in chunks]
    seen = [(chunk, k[:, :, :length], v[:, :, :length]) for chunk, length in zip(chunks, lengths, strict=True)]
    if bias is None:
        return torch.cat([_softmax_answer(*chunk) for chunk in seen], 2)
    # A question's distance to the last event of its prefix is 1. An event at the distance 0 comes after it.
    biases = relative_bias(
        F.pad(bias[:, 1 : n + 1], (1, 0), value=HIDDEN), n
    )  # (H, n + 1, n), the longest prefix first
    return torch.cat([_pointwise_answer(*chunk, biases, bias[:, :1, None]) for chunk in seen], 2)


def _softmax_answer(questions: tuple[Tensor, ...], k: Tensor, v: Tensor) -> Tensor:
    """Return softmax attention. The arguments are those of `_answer_in_chunks`."""
    q, own_k, own_v, prefix = questions
    # The questions are keys at the end of the history, each hidden from the others: so one call of SDPA does everything.
    seen = torch.arange(k.shape[2], device=k.device) < prefix.unsqueeze(3)  # (b, 1, m, n)
    own = torch.eye(q.shape[2], dtype=torch.bool, device=k.device).expand(*seen.shape[:3], -1)
    k, v = torch.cat([k, own_k], 2), torch.cat([v, own_v], 2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=torch.cat([seen, own], 3))


def _pointwise_answer(questions: tuple[Tensor, ...], k: Tensor, v: Tensor, biases: Tensor, own_bias: Tensor) -> Tensor:
    """Return pointwise attention. The other arguments are those of `_answer_in_chunks`.

    Args:
        biases: (H, n + 1, n) of every prefix and key, the longest prefix first.
        own_bias: (H, 1, 1) of a question itself.
    """
    q, own_k, own_v, prefix = questions
    pair_bias = biases[:, biases.shape[2] - prefix.squeeze(1), : k.shape[2]]  # (H, b, m, n)
    scores = (q @ k.transpose(2, 3)).add_(pair_bias.transpose(0, 1))
    return F.silu(scores) @ v + F.silu((q * own_k).sum(-1, keepdim=True) + own_bias) * own_v
