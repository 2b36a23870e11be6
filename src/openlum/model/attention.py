"""Causal attention within histories, and the attention of questions over a history.

There are two kinds of attention. Softmax attention uses FlashAttention on CUDA and SDPA on the CPU. The pointwise attention of
HSTU, used where `bias` is given, computes `SiLU(q k + bias) v`. It does not divide by the sum of the weights, so the result
still shows how often something happened (Zhai et al. 2024, section 3.2).

Shapes: T tokens of B users end to end, Q questions, H heads, d width of a head, P relative positions. Users of like length form a
group; within it: b users, padded to n tokens and m questions each. G padded rows of all groups.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SCORES = 1 << 23
"""Maximum number of attention scores of questions in memory. More questions are computed in chunks."""
MAX_PADDED_SIZE = 128
"""Users with at most this many rows are padded to a multiple of 8, so that more of them share a group."""


def causal_attention(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> Tensor:
    """Return softmax attention of every token over itself and the earlier tokens of the same user.

    Args:
        q, k, v: (T, H, d).
        offsets: (B + 1,) int64 on the CPU: index of each user's first token, then T.

    Returns:
        (T, H, d).
    """
    if q.is_cuda:
        return _causal_cuda(q, k, v, offsets)
    return _causal_cpu(q, k, v, offsets.diff().tolist())


def _causal_cuda(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> Tensor:
    """Return `causal_attention` by variable-length FlashAttention, which computes in half precision."""
    from torch.nn.attention.varlen import varlen_attn

    dtype = q.dtype
    longest = int(offsets.diff().max())
    starts = offsets.to(device=q.device, dtype=torch.int32)
    q, k, v = (x if x.dtype in (torch.float16, torch.bfloat16) else x.to(torch.bfloat16) for x in (q, k, v))
    out = varlen_attn(q, k, v, starts, starts, longest, longest, window_size=(-1, 0))
    return cast(Tensor, out).to(dtype)


def _causal_cpu(q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Tensor:
    """Return `causal_attention` by SDPA over groups of users of like length."""
    if not len(q):
        return q
    layout = _PaddedGroups(lengths, _group_users([lengths]))
    groups = zip(*(layout.pad(x) for x in (q, k, v)), strict=True)  # (b, H, n, d) each
    return layout.unpad([F.scaled_dot_product_attention(qs, ks, vs, is_causal=True) for qs, ks, vs in groups])


def pointwise_attention(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, bias: Tensor) -> Tensor:
    """Return, for every token, the sum of `SiLU(q k + bias) v` over itself and the earlier tokens of the same user.

    Args:
        q, k, v: (T, H, d).
        offsets: (B + 1,) int64 on the CPU: index of each user's first token, then T.
        bias: (H, P) by the distance between query and key. No user has more than P tokens.

    Returns:
        (T, H, d).
    """
    if not len(q):
        return q
    lengths = offsets.diff().tolist()
    layout = _PaddedGroups(lengths, _group_users([lengths]))
    groups = zip(*(layout.pad(x) for x in (q, k, v)), strict=True)  # (b, H, n, d) each
    return layout.unpad([_pointwise(group, bias) for group in groups])


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
    sizes: tuple[list[int], list[int]],
    prefix: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """Return the attention of every question over the first `prefix` tokens of its user's history and over itself.

    A question attends to no other question.

    Args:
        q: (Q, H, d) queries of the questions. The questions of one user are adjacent.
        own: keys and values of the questions, (Q, H, d) each.
        history: keys and values of the histories, (T, H, d) each.
        sizes: the number of history tokens and the number of questions of each of the B users.
        prefix: (Q,) number of tokens that each question may see.
        bias: (H, P) for pointwise attention; None for softmax attention.

    Returns:
        (Q, H, d).
    """
    if not len(q):
        return q
    tokens, questions = sizes
    groups = _group_users([tokens, questions])
    history_layout, layout = _PaddedGroups(tokens, groups), _PaddedGroups(questions, groups)
    prefixes = [x.squeeze(3) for x in layout.pad(prefix[:, None, None])]  # (b, 1, m) each
    question_groups = zip(
        *(layout.pad(x) for x in (q, *own)), prefixes, strict=True
    )  # (b, H, m, d) each, but for the prefix
    history_groups = zip(*(history_layout.pad(x) for x in history), strict=True)  # (b, H, n, d) each
    return layout.unpad(
        [_answer_in_chunks(group, k, v, bias) for group, (k, v) in zip(question_groups, history_groups, strict=True)]
    )


def _answer_in_chunks(questions: tuple[Tensor, ...], k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Return the same as `_answer`, computed for at most `MAX_SCORES` scores at a time."""
    *vectors, prefix = questions
    prefix = prefix.clamp(max=k.shape[2])  # the prefix of a padding row is arbitrary
    chunk_size = max(MAX_SCORES // (len(k) * k.shape[1] * max(k.shape[2], 1)), 1)
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
        weights = torch.cat([scores.masked_fill(hidden, float("-inf")), own_score], -1).softmax(-1)
        history_weights, own_weight = weights[..., :-1], weights[..., -1:]
    else:
        pair_bias = relative_bias(bias[:, : k.shape[2] + 1], k.shape[2])[:, prefix.squeeze(1)]  # (H, b, m, n)
        history_weights = F.silu(scores + pair_bias.transpose(0, 1)).masked_fill(hidden, 0.0)
        own_weight = F.silu(own_score + bias[:, :1, None])
    return history_weights @ v + own_weight * own_v


def _group_users(sizes: list[list[int]]) -> list[list[int]]:
    """Return groups of users of like sizes. A group is padded to its longest user.

    Args:
        sizes: for each kind of rows, the number of rows of each of the B users. Users without rows of the last kind are left out.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for user, user_sizes in enumerate(zip(*sizes, strict=True)):
        if user_sizes[-1]:
            key = tuple(_size_class(size) for size in user_sizes)
            groups.setdefault(key, []).append(user)
    return list(groups.values())


def _size_class(size: int) -> int:
    """Return a number that is equal for sizes that are padded together.

    Short users are padded together because the padding costs little. A long user gets a call with users of similar length.
    """
    return 8 * -(-size // 8) if size <= MAX_PADDED_SIZE else -size


class _PaddedGroups:
    """The mapping between the rows of all users end to end and padded batches, one per group of users.

    `pad` gathers all users at once. Slicing per user would create a gradient of the full tensor for every slice.

    Args:
        sizes: number of rows of every user.
        groups: the users of each group. Rows of users in no group are ignored.
    """

    def __init__(self, sizes: list[int], groups: list[list[int]]) -> None:
        lengths = torch.tensor(sizes)
        starts = lengths.cumsum(0) - lengths
        self.shapes = [(len(users), max(sizes[user] for user in users)) for users in groups]
        """(b, n) of every group."""
        row_indices, row_masks = [], []
        for users, (_, longest) in zip(groups, self.shapes, strict=True):
            row_indices.append((starts[users][:, None] + torch.arange(longest)).flatten())  # (b * n,)
            row_masks.append((torch.arange(longest) < lengths[users][:, None]).flatten())
        self.row_index = torch.cat(row_indices)  # (G,): the row that each padded row holds
        unpadded = torch.cat(row_masks).nonzero().squeeze(1)
        self.padded_index = unpadded[self.row_index[unpadded].argsort()]  # (T,): the padded row that holds each row
        self.row_index.clamp_(max=max(sum(sizes) - 1, 0))

    def pad(self, x: Tensor) -> list[Tensor]:
        """Return the rows (T, H, d) of all users as (b, H, n, d) for every group. The content of padding rows is arbitrary."""
        if not len(x):
            return [x.new_zeros(b, x.shape[1], n, x.shape[2]) for b, n in self.shapes]
        rows = x.index_select(0, self.row_index.to(x.device)).split([b * n for b, n in self.shapes])
        return [group.unflatten(0, shape).transpose(1, 2) for group, shape in zip(rows, self.shapes, strict=True)]

    def unpad(self, padded: list[Tensor]) -> Tensor:
        """Return (b, H, n, d) of every group as the rows (T, H, d) that `pad` was given."""
        rows = torch.cat([group.transpose(1, 2).flatten(0, 1) for group in padded])
        return rows.index_select(0, self.padded_index.to(rows.device))
