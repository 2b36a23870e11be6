"""Attention over flat runs of tokens, with a back end per device, and the attention of questions over a history.

Two kinds: softmax attention, and the pointwise attention of HSTU (`bias` given): `SiLU(q k + bias) v`, which does not divide
by the sum of the weights, so that how often something happened is kept (Zhai et al. 2024, section 3.2).

Shapes: T tokens of B users end to end, Q questions, H heads, d width of a head, n tokens and m questions of one user, P
relative positions.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

SCORES_AT_ONCE = 1 << 23
"""Attention scores of questions held at once; more questions are taken in turns."""


def causal_attention(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> Tensor:
    """Every token attends to itself and to the earlier tokens of its own user.

    Args:
        q, k, v: (T, H, d).
        offsets: (B + 1,) int64 on the CPU: where each user's tokens begin.

    Returns:
        (T, H, d).
    """
    if q.is_cuda:
        return _causal_cuda(q, k, v, offsets)
    return _causal_cpu(q, k, v, offsets.diff().tolist())


def _causal_cuda(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> Tensor:
    """Variable-length FlashAttention; it computes in half precision."""
    from torch.nn.attention.varlen import varlen_attn

    dtype = q.dtype
    longest = int(offsets.diff().max())
    starts = offsets.to(device=q.device, dtype=torch.int32)
    q, k, v = (x if x.dtype in (torch.float16, torch.bfloat16) else x.to(torch.bfloat16) for x in (q, k, v))
    out = varlen_attn(q, k, v, starts, starts, longest, longest, window_size=(-1, 0))
    return cast(Tensor, out).to(dtype)


def _causal_cpu(q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Tensor:
    """Causal SDPA user by user, users of equal length together."""
    parts = [x.split(lengths) for x in (q, k, v)]  # B tensors (n, H, d) each
    same: dict[int, list[int]] = {}
    for user, length in enumerate(lengths):
        same.setdefault(length, []).append(user)
    out: list[Tensor] = [q] * len(lengths)
    for users in same.values():
        qs, ks, vs = (torch.stack([part[user] for user in users]).transpose(1, 2) for part in parts)  # (b, H, n, d)
        for user, answer in zip(users, F.scaled_dot_product_attention(qs, ks, vs, is_causal=True), strict=True):
            out[user] = answer.transpose(0, 1)
    return torch.cat(out)


def pointwise_attention(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, bias: Tensor) -> Tensor:
    """Every token sums over itself and the earlier tokens of its own user, with weights `SiLU(q k + bias)`.

    Args:
        q, k, v: (T, H, d).
        offsets: (B + 1,) int64 on the CPU: where each user's tokens begin.
        bias: (H, P) by how far back a token lies; no user has more than P tokens.

    Returns:
        (T, H, d).
    """
    lengths = offsets.diff().tolist()
    parts = [x.transpose(0, 1).split(lengths, 1) for x in (q, k, v)]  # B tensors (H, n, d) each
    out = []
    for n, one_q, one_k, one_v in zip(lengths, *parts, strict=True):
        future = torch.ones(n, n, dtype=torch.bool, device=q.device).triu(1)
        scores = one_q @ one_k.transpose(1, 2) + relative(bias[:, :n], n)  # (H, n, n)
        weight = F.silu(scores).masked_fill(future, 0.0)
        out.append(weight @ one_v)
    return torch.cat(out, 1).transpose(0, 1)


def relative(bias: Tensor, n: int) -> Tensor:
    """The bias of every pair of places: (H, P) by distance to (H, P, n), at [b, j] that of distance b - j, 0 where j is later.

    Made of windows of the reversed bias: their gradient costs a fraction of that of picking single values.
    """
    if not n:
        return bias.new_zeros(*bias.shape, 0)
    return F.pad(bias.flip(1), (0, n - 1)).unfold(1, n, 1).flip(1)


def question_attention(
    q: Tensor,
    own: tuple[Tensor, Tensor],
    history: tuple[Tensor, Tensor],
    sizes: tuple[list[int], list[int]],
    prefix: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """Every question attends to the first `prefix` tokens of its user's history and to itself, and to no other question.

    Args:
        q: (Q, H, d) queries of the questions, one user's next to each other.
        own: keys and values of the questions, (Q, H, d) each.
        history: keys and values of the histories, (T, H, d) each.
        sizes: of each of the B users, the number of history tokens and the number of questions.
        prefix: (Q,) tokens that each question sees.
        bias: (H, P) for pointwise attention; none for softmax.

    Returns:
        (Q, H, d).
    """
    tokens, questions = sizes
    keys, values = (x.split(tokens) for x in history)
    parts = [x.split(questions) for x in (q, *own, prefix)]
    out = []
    for user in range(len(tokens)):
        if questions[user]:
            at_once = max(SCORES_AT_ONCE // (q.shape[1] * max(tokens[user], 1)), 1)
            for turn in zip(*(part[user].split(at_once) for part in parts), strict=True):
                out.append(_one_user(turn, keys[user], values[user], bias))
    return torch.cat(out) if out else q


def _one_user(questions: tuple[Tensor, ...], k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Queries, own keys, own values (m, H, d) and prefixes (m,) of questions over (n, H, d) history tokens.

    With `bias`, (H, P), pointwise attention.
    """
    q, own_k, own_v, prefix = questions
    q, own_k, own_v, k, v = (x.transpose(0, 1) for x in (q, own_k, own_v, k, v))  # (H, m, d), (H, n, d)
    unseen = torch.arange(k.shape[1], device=k.device) >= prefix[:, None]  # (m, n)
    if bias is None:
        q = q * q.shape[-1] ** -0.5
    scores = q @ k.transpose(1, 2)  # (H, m, n)
    itself = (q * own_k).sum(-1, keepdim=True)  # (H, m, 1)
    if bias is None:
        weight = torch.cat([scores.masked_fill(unseen, float("-inf")), itself], -1).softmax(-1)
        seen, own = weight[..., :-1], weight[..., -1:]
    else:
        of_pair = relative(bias[:, : k.shape[1] + 1], k.shape[1])[:, prefix]  # (H, m, n)
        seen = F.silu(scores + of_pair).masked_fill(unseen, 0.0)
        own = F.silu(itself + bias[:, :1, None])
    return (seen @ v + own * own_v).transpose(0, 1)
