"""The user encoder: a stack of causal blocks over flat runs of tokens, and the group query.

Shapes: T tokens of B users end to end, Q questions, D width, H heads, d = D / H.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from openlum.model.blocks.hstu import HstuBlock
from openlum.model.blocks.transformer import TransformerBlock
from openlum.model.settings import ModelSettings

BLOCKS = {"transformer": TransformerBlock, "hstu": HstuBlock}


@dataclass
class UserState:
    """What questions need of a history: its keys and values in every layer, computed once."""

    keys: list[Tensor]
    """A layer: (T, H, d)."""
    values: list[Tensor]
    """A layer: (T, H, d)."""
    offsets: Tensor
    """(B + 1,) int64 on the CPU: where each user's tokens begin."""
    last: Tensor | None = None
    """(L, D) what a question begins with whose last event is this one; the Large User Model's."""


class UserEncoder(nn.Module):
    """The stack of blocks; which, `settings.encoder` says."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.token_norm = nn.RMSNorm(settings.width)
        self.blocks = nn.ModuleList(BLOCKS[settings.encoder](settings) for _ in range(settings.layers))
        self.norm = nn.RMSNorm(settings.width)

    def history(self, x: Tensor, offsets: Tensor, with_output: bool = True) -> tuple[Tensor | None, UserState]:
        """Read histories.

        Args:
            x: (T, D) tokens.
            offsets: (B + 1,) int64 on the CPU: where each user's tokens begin; positions restart there.
            with_output: without it the last block stops at its keys and values, which is all that questions need.

        Returns:
            (T, D) output, or None, and the state.
        """
        starts = torch.repeat_interleave(offsets[:-1], offsets.diff())
        positions = (torch.arange(len(x)) - starts).to(x.device)
        state = UserState([], [], offsets)
        out: Tensor | None = self.token_norm(x)
        blocks = cast(list[TransformerBlock], self.blocks)
        for block in blocks:
            assert out is not None
            out, k, v = block.history(out, positions, offsets, with_output or block is not blocks[-1])
            state.keys.append(k)
            state.values.append(v)
        return (None if out is None else self.norm(out)), state

    def answer(self, state: UserState, x: Tensor, user: Tensor, prefix: Tensor) -> Tensor:
        """The group query: questions after histories that were read once.

        Args:
            state: of the histories.
            x: (Q, D) question tokens.
            user: (Q,) int64 on the CPU: the user of each.
            prefix: (Q,) history tokens that each sees; also its position, the next one's after what it sees.

        Returns:
            (Q, D).
        """
        sizes = state.offsets.diff().tolist(), torch.bincount(user, minlength=len(state.offsets) - 1).tolist()
        order = user.argsort(stable=True).to(x.device)  # one user's next to each other
        x, prefix = self.token_norm(x)[order], prefix[order]
        blocks = cast(list[TransformerBlock], self.blocks)
        for block, keys, values in zip(blocks, state.keys, state.values, strict=True):
            x = block.answer(x, (keys, values), sizes, prefix)
        return self.norm(x)[order.argsort()]
