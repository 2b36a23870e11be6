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
SHORT = 128
"""Users with at most so many rows are padded to a multiple of 8 and taken together with others."""


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
    """Causal SDPA over groups of users of like length."""
    if not len(q):
        return q
    rows = _Rows(lengths, _groups([lengths]))
    groups = zip(*(rows.pad(x) for x in (q, k, v)), strict=True)  # (b, H, n, d) each
    return rows.flat([F.scaled_dot_product_attention(qs, ks, vs, is_causal=True) for qs, ks, vs in groups])


def pointwise_attention(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, bias: Tensor) -> Tensor:
    """Every token sums over itself and the earlier tokens of its own user, with weights `SiLU(q k + bias)`.

    Args:
        q, k, v: (T, H, d).
        offsets: (B + 1,) int64 on the CPU: where each user's tokens begin.
        bias: (H, P) by how far back a token lies; no user has more than P tokens.

    Returns:
        (T, H, d).
    """
    if not len(q):
        return q
    lengths = offsets.diff().tolist()
    rows = _Rows(lengths, _groups([lengths]))
    groups = zip(*(rows.pad(x) for x in (q, k, v)), strict=True)  # (b, H, n, d) each
    return rows.flat([_pointwise(group, bias) for group in groups])


def _pointwise(padded: tuple[Tensor, ...], bias: Tensor) -> Tensor:
    """Queries, keys and values (b, H, n, d) of users padded to one length, and (H, P), to (b, H, n, d)."""
    q, k, v = padded
    n = q.shape[2]
    future = torch.ones(n, n, dtype=torch.bool, device=q.device).triu(1)
    scores = q @ k.transpose(2, 3) + relative(bias[:, :n], n)  # (b, H, n, n)
    return F.silu(scores).masked_fill(future, 0.0) @ v


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
    if not len(q):
        return q
    tokens, questions = sizes
    found = _groups([tokens, questions])
    history_rows, rows = _Rows(tokens, found), _Rows(questions, found)
    seen = [x.squeeze(3) for x in rows.pad(prefix[:, None, None])]  # (b, 1, m) each
    asked = zip(*(rows.pad(x) for x in (q, *own)), seen, strict=True)  # (b, H, m, d) but for `seen`
    read = zip(*(history_rows.pad(x) for x in history), strict=True)  # (b, H, n, d)
    return rows.flat([_answer_in_turns(some, k, v, bias) for some, (k, v) in zip(asked, read, strict=True)])


def _answer_in_turns(questions: tuple[Tensor, ...], k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """As `_answer`, a few questions of every user at a time."""
    *asked, prefix = questions
    prefix = prefix.clamp(max=k.shape[2])  # whatever the padding holds
    at_once = max(SCORES_AT_ONCE // (len(k) * k.shape[1] * max(k.shape[2], 1)), 1)
    turns = zip(*(x.split(at_once, 2) for x in (*asked, prefix)), strict=True)
    return torch.cat([_answer(turn, k, v, bias) for turn in turns], 2)


def _answer(questions: tuple[Tensor, ...], k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Queries, own keys, own values (b, H, m, d) and prefixes (b, 1, m) of questions over keys and values (b, H, n, d).

    With `bias`, (H, P), pointwise attention.
    """
    q, own_k, own_v, prefix = questions
    unseen = torch.arange(k.shape[2], device=k.device) >= prefix.unsqueeze(3)  # (b, 1, m, n)
    if bias is None:
        q = q * q.shape[-1] ** -0.5
    scores = q @ k.transpose(2, 3)  # (b, H, m, n)
    itself = (q * own_k).sum(-1, keepdim=True)  # (b, H, m, 1)
    if bias is None:
        weight = torch.cat([scores.masked_fill(unseen, float("-inf")), itself], -1).softmax(-1)
        seen, own = weight[..., :-1], weight[..., -1:]
    else:
        of_pair = relative(bias[:, : k.shape[2] + 1], k.shape[2])[:, prefix.squeeze(1)]  # (H, b, m, n)
        seen = F.silu(scores + of_pair.transpose(0, 1)).masked_fill(unseen, 0.0)
        own = F.silu(itself + bias[:, :1, None])
    return seen @ v + own * own_v


def _groups(sizes: list[list[int]]) -> list[list[int]]:
    """Users whose sizes are alike, to be padded to the longest of the group; those with nothing to do are left out.

    Args:
        sizes: of each kind of rows, the number that each of the B users has. Only users with rows of the last kind count.
    """
    found: dict[tuple[int, ...], list[int]] = {}
    for user, of_user in enumerate(zip(*sizes, strict=True)):
        if of_user[-1]:
            key = tuple(_alike(size) for size in of_user)
            found.setdefault(key, []).append(user)
    return list(found.values())


def _alike(size: int) -> int:
    """Sizes with the same number are padded together: few short ones waste little, each long one is worth its own call."""
    return 8 * -(-size // 8) if size <= SHORT else -size


class _Rows:
    """Rows of groups of users, found in a flat run of all users' rows, as padded batches.

    Every tensor is gathered once for all groups: a slice for each user would have a gradient as large as the whole run.

    Args:
        sizes: rows of each of all users.
        groups: the users of each group; every user with rows is in one, or its rows are not wanted.
    """

    def __init__(self, sizes: list[int], groups: list[list[int]]) -> None:
        length = torch.tensor(sizes)
        begins = length.cumsum(0) - length
        self.shapes = [(len(users), max(sizes[user] for user in users)) for users in groups]
        """(b, n) of every group."""
        places, filled = [], []
        for users, (_, most) in zip(groups, self.shapes, strict=True):
            places.append((begins[users][:, None] + torch.arange(most)).flatten())  # (b * n,)
            filled.append((torch.arange(most) < length[users][:, None]).flatten())
        self.places = torch.cat(places)  # (G,), of the padded rows of all groups
        of_row = torch.cat(filled).nonzero().squeeze(1)
        self.back = of_row[self.places[of_row].argsort()]  # (T,), of every row among the padded ones
        self.places.clamp_(max=max(sum(sizes) - 1, 0))

    def pad(self, x: Tensor) -> list[Tensor]:
        """Rows (T, H, d) of all users to (b, H, n, d) of every group; padding holds other rows."""
        if not len(x):
            return [x.new_zeros(b, x.shape[1], n, x.shape[2]) for b, n in self.shapes]
        rows = x.index_select(0, self.places.to(x.device)).split([b * n for b, n in self.shapes])
        return [part.unflatten(0, shape).transpose(1, 2) for part, shape in zip(rows, self.shapes, strict=True)]

    def flat(self, padded: list[Tensor]) -> Tensor:
        """(b, H, n, d) of every group to the rows (T, H, d) that they were."""
        rows = torch.cat([part.transpose(1, 2).flatten(0, 1) for part in padded])
        return rows.index_select(0, self.back.to(rows.device))
