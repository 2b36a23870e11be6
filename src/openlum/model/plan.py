"""Attention plans: how the tokens of a batch attend to each other. A plan is made once a batch, and all layers use it.

Plans depend on the numbers of tokens and questions only. Users of like numbers form a group, which is padded to its longest user.
All indices lie on the device of the tokens.

Shapes: T history tokens of B users end to end, n new tokens, Q questions, H heads, d width of a head, D width. Within a group: b
users, padded to n rows (tokens) and m questions each. G padded rows of all groups.
"""

from functools import cached_property
from math import prod

import torch
from torch import Tensor

MAX_PADDING = 1 << 12
"""The number of pairs of rows, such as of a question and a token, whose attention costs about as much as one more group. A group
has at most as many pairs of padding for each of its users."""


class PaddedGroups:
    """The mapping between the rows of all users end to end and padded batches, one per group of users.

    `pad` gathers a tensor once for all groups: with a slice per user, every slice would have a gradient as large as the tensor.

    Args:
        sizes: number of rows of every user.
        groups: the users of each group. Rows of users in no group are ignored.
        device: of the rows.
    """

    def __init__(self, sizes: list[int], groups: list[list[int]], device: torch.device) -> None:
        self.shapes = [(len(users), max(1, *(sizes[user] for user in users))) for users in groups]
        """(b, n) of every group; n is at least 1."""
        lengths = torch.tensor(sizes, dtype=torch.int64)
        starts = lengths.cumsum(0) - lengths
        users = torch.tensor([user for group in groups for user in group], dtype=torch.int64)
        longest = torch.tensor([n for b, n in self.shapes for _ in range(b)], dtype=torch.int64)
        padded_starts = longest.cumsum(0) - longest
        position = _positions(padded_starts, longest)  # (G,) index of each padded row in its user's rows
        self._is_row = position < lengths[users].repeat_interleave(longest)
        row_index = starts[users].repeat_interleave(longest) + position  # (G,): the row that each padded row holds
        self.row_index = row_index.clamp_(max=max(sum(sizes) - 1, 0)).to(device)
        by_user = users.argsort()
        kept = lengths[users[by_user]]
        padded_index = padded_starts[by_user].repeat_interleave(kept) + _positions(kept.cumsum(0) - kept, kept)
        self.padded_index = padded_index.to(device)  # (T,): the padded row that holds each row

    def pad(self, x: Tensor) -> list[Tensor]:
        """Return the rows (T, H, d) of all users as (b, H, n, d) for every group. The content of padding rows is arbitrary."""
        if not len(x):
            return [x.new_zeros(b, x.shape[1], n, x.shape[2]) for b, n in self.shapes]
        rows = x.index_select(0, self.row_index).split([b * n for b, n in self.shapes])
        return [group.unflatten(0, shape).transpose(1, 2) for group, shape in zip(rows, self.shapes, strict=True)]

    def masks(self) -> list[Tensor]:
        """Return which padded rows hold a row, (b, 1, n, 1) bool for every group."""
        masks = self._is_row.to(self.row_index.device).split([b * n for b, n in self.shapes])
        return [mask.view(b, 1, n, 1) for mask, (b, n) in zip(masks, self.shapes, strict=True)]

    def unpad(self, padded: list[Tensor]) -> Tensor:
        """Return (b, H, n, d) of every group as the rows (T, H, d) that `pad` was given."""
        rows = torch.cat([group.transpose(1, 2).flatten(0, 1) for group in padded])
        return rows.index_select(0, self.padded_index)


class HistoryPlan:
    """The plan of causal attention within the histories of B users.

    Args:
        offsets: (B + 1,) int64 on the CPU: index of each user's first token, then T.
        device: of the tokens.
    """

    def __init__(self, offsets: Tensor, device: torch.device) -> None:
        self.offsets, self.device = offsets, device
        lengths = offsets.diff()
        self.positions = _positions(offsets[:-1], lengths).to(device)
        """(T,) position of each token in its user's history."""
        self.lengths: list[int] = lengths.tolist()
        """B numbers of tokens."""

    @cached_property
    def device_offsets(self) -> Tensor:
        """`offsets` as int32 on the device of the tokens, for variable-length attention on CUDA."""
        return self.offsets.to(device=self.device, dtype=torch.int32)

    @cached_property
    def groups(self) -> PaddedGroups:
        """The padded groups of users with tokens."""
        return PaddedGroups(self.lengths, group_users([self.lengths, self.lengths]), self.device)


class QuestionPlan:
    """The plan of the attention of questions over histories: a question sees a prefix of its user's history and itself.

    Blocks get the questions of one user adjacent: in the order `order`.

    Args:
        offsets: (B + 1,) int64 on the CPU: index of each user's first history token, then T.
        user_index: (Q,) int64 on the CPU: index of each question's user.
        prefix: (Q,) number of history tokens that each question may see. It is also the question's position.
    """

    def __init__(self, offsets: Tensor, user_index: Tensor, prefix: Tensor) -> None:
        users, device = len(offsets) - 1, prefix.device
        self._offsets, self._user_index = offsets, user_index
        tokens: list[int] = offsets.diff().tolist()
        questions: list[int] = torch.bincount(user_index, minlength=users).tolist()
        groups = group_users([tokens, questions])
        self.order = user_index.argsort(stable=True).to(device)
        """(Q,) index of each question, by user."""
        self.inverse_order = self.order.argsort()
        """(Q,) index in `order` of each question."""
        self.positions = prefix[self.order]
        """(Q,) prefixes, by user."""
        self.histories = PaddedGroups(tokens, groups, device)
        """The groups of the history tokens. Users without questions are left out."""
        self.questions = PaddedGroups(questions, groups, device)
        """The groups of the questions."""
        padded = self.questions.pad(self.positions[:, None, None])
        self.prefixes = [
            # The prefix of a padding row is arbitrary.
            group.squeeze(3).clamp(max=longest)
            for group, (_, longest) in zip(padded, self.histories.shapes, strict=True)
        ]
        """(b, 1, m) prefixes of each group."""

    @cached_property
    def first_tokens(self) -> Tensor:
        """(Q,) index of the first history token of each question's user, by user. Attention does not need it."""
        return self._offsets[self._user_index].to(self.order.device)[self.order]

    @cached_property
    def history_positions(self) -> Tensor:
        """(T,) position of each history token in its user's history. Attention does not need it."""
        return _positions(self._offsets[:-1], self._offsets.diff()).to(self.order.device)


class ExtensionPlan:
    """The plan of new tokens at the end of histories that are encoded already.

    A new token sees the tokens before it and itself. So it is a question whose prefix is its position in the longer history.

    Args:
        offsets: (B + 1,) int64 on the CPU: index of each user's first encoded token, then T.
        new_offsets: (B + 1,) int64 on the CPU: index of each user's first new token, then n.
        device: of the tokens.
    """

    def __init__(self, offsets: Tensor, new_offsets: Tensor, device: torch.device) -> None:
        users = torch.arange(len(offsets) - 1)
        old_user = torch.repeat_interleave(users, offsets.diff())
        new_user = torch.repeat_interleave(users, new_offsets.diff())
        old_row = torch.arange(len(old_user)) + new_offsets[old_user]
        new_row = torch.arange(len(new_user)) + offsets[new_user + 1]
        self.offsets = offsets + new_offsets
        """(B + 1,) int64 on the CPU: index of each user's first token in the longer histories, then T + n."""
        self.rows = torch.cat([old_row, new_row]).argsort().to(device)
        """(T + n,) for each token of the longer histories: its index in the encoded tokens followed by the new tokens."""
        self.new_rows = new_row.to(device)
        """(n,) index of each new token in the longer histories."""
        prefix = (new_row - self.offsets[new_user]).to(device)
        self.questions = QuestionPlan(self.offsets, new_user, prefix)
        """The plan of the new tokens as questions."""

    def merge(self, encoded: Tensor, new: Tensor) -> Tensor:
        """Return the rows of the longer histories, (T + n, ...), from encoded rows, (T, ...), and new rows, (n, ...)."""
        return torch.cat([encoded, new]).index_select(0, self.rows)


def group_users(sizes: list[list[int]]) -> list[list[int]]:
    """Return groups of users of like sizes. A group is padded to the largest sizes of its users.

    A user joins the group of the next larger users if padding costs less than a call of its own.

    Args:
        sizes: for each kind of rows, the number of rows of each of the B users. Users without rows of the last kind are left out.
    """
    by_user = list(zip(*sizes, strict=True))
    users = sorted(
        (user for user, size in enumerate(by_user) if size[-1]), key=lambda user: by_user[user], reverse=True
    )
    groups: list[list[int]] = []
    padded, pairs = (0,) * len(sizes), 0
    for user in users:
        joined = tuple(map(max, padded, by_user[user]))
        pairs += prod(by_user[user])
        if groups and (len(groups[-1]) + 1) * (prod(joined) - MAX_PADDING) <= pairs:
            groups[-1].append(user)
            padded = joined
        else:
            groups.append([user])
            padded, pairs = by_user[user], prod(by_user[user])
    return groups


def _positions(starts: Tensor, lengths: Tensor) -> Tensor:
    """Return the index, (T,), of each row in its user's rows, from each user's first row and number of rows, (B,) each."""
    return torch.arange(int(lengths.sum())) - starts.repeat_interleave(lengths)
