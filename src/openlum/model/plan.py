"""Attention plans: how the tokens of a batch attend to each other. A plan is made once a batch, and all layers use it.

Plans depend on the numbers of tokens and questions only. Users of like numbers form a group, which is padded to its longest user.
All indices lie on the device of the tokens.

Shapes: T history tokens of B users end to end, n new tokens, Q questions, H heads, d width of a head, D width. Within a group: b
users, padded to n rows (tokens) and m questions each. G padded rows of all groups.
"""

from functools import cached_property

import torch
from torch import Tensor

MAX_PADDED_SIZE = 128
"""Users with at most this many rows are padded to a multiple of 8, so that more of them share a group."""


class PaddedGroups:
    """The mapping between the rows of all users end to end and padded batches, one per group of users.

    `pad` gathers a tensor once for all groups: with a slice per user, every slice would have a gradient as large as the tensor.

    Args:
        sizes: number of rows of every user.
        groups: the users of each group. Rows of users in no group are ignored.
        device: of the rows.
    """

    def __init__(self, sizes: list[int], groups: list[list[int]], device: torch.device) -> None:
        lengths = torch.tensor(sizes, dtype=torch.int64)
        starts = lengths.cumsum(0) - lengths
        self.shapes = [(len(users), max(sizes[user] for user in users)) for users in groups]
        """(b, n) of every group."""
        row_indices, row_masks = [lengths[:0]], [lengths[:0] > 0]
        for users, (_, longest) in zip(groups, self.shapes, strict=True):
            row_indices.append((starts[users][:, None] + torch.arange(longest)).flatten())  # (b * n,)
            row_masks.append((torch.arange(longest) < lengths[users][:, None]).flatten())
        row_index = torch.cat(row_indices)  # (G,): the row that each padded row holds
        unpadded = torch.cat(row_masks).nonzero().squeeze(1)
        padded_index = unpadded[row_index[unpadded].argsort()]  # (T,): the padded row that holds each row
        self._row_masks = [mask.unflatten(0, shape) for mask, shape in zip(row_masks[1:], self.shapes, strict=True)]
        self.row_index = row_index.clamp_(max=max(sum(sizes) - 1, 0)).to(device)
        self.padded_index = padded_index.to(device)

    def pad(self, x: Tensor) -> list[Tensor]:
        """Return the rows (T, H, d) of all users as (b, H, n, d) for every group. The content of padding rows is arbitrary."""
        if not len(x):
            return [x.new_zeros(b, x.shape[1], n, x.shape[2]) for b, n in self.shapes]
        rows = x.index_select(0, self.row_index).split([b * n for b, n in self.shapes])
        return [group.unflatten(0, shape).transpose(1, 2) for group, shape in zip(rows, self.shapes, strict=True)]

    def masks(self) -> list[Tensor]:
        """Return which padded rows hold a row, (b, 1, n, 1) bool for every group."""
        return [mask[:, None, :, None].to(self.row_index.device) for mask in self._row_masks]

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
        starts = torch.repeat_interleave(offsets[:-1], lengths)
        self.positions = (torch.arange(len(starts)) - starts).to(device)
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
        return PaddedGroups(self.lengths, group_users([self.lengths]), self.device)


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

    Padding a few short users wastes little. A long user is worth a call with users of its own length only.
    """
    return 8 * -(-size // 8) if size <= MAX_PADDED_SIZE else -size
