"""The user encoder: a stack of causal blocks over the tokens of many users end to end, and the group query.

Shapes: T tokens of B users end to end, Q questions, D width, H heads, d = D / H.
"""

from typing import cast

import torch
from torch import Tensor, nn

from openlum.model.blocks.transformer import TransformerBlock
from openlum.model.encoders import ENCODERS
from openlum.model.settings import ModelSettings
from openlum.model.state import UserState


class UserEncoder(nn.Module):
    """A stack of blocks of the kind `settings.encoder`."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.token_norm = nn.RMSNorm(settings.width)
        block = ENCODERS.load(settings.encoder)
        self.blocks = nn.ModuleList(block(settings) for _ in range(settings.layers))
        self.norm = nn.RMSNorm(settings.width)

    def encode_history(self, x: Tensor, offsets: Tensor, with_output: bool = True) -> tuple[Tensor | None, UserState]:
        """Encode the tokens of histories.

        Args:
            x: (T, D) tokens.
            offsets: (B + 1,) int64 on the CPU: index of each user's first token, then T. Positions start at 0 for each user.
            with_output: whether to compute the output. Questions need only the state, for which the last block computes no more
                than its keys and values.

        Returns:
            Output (T, D), or None, and the state.
        """
        starts = torch.repeat_interleave(offsets[:-1], offsets.diff())
        positions = (torch.arange(len(x)) - starts).to(x.device)
        state = UserState([], [], offsets)
        out: Tensor | None = self.token_norm(x)
        blocks = cast(list[TransformerBlock], self.blocks)
        for block in blocks:
            assert out is not None
            out, k, v = block.encode_history(out, positions, offsets, with_output or block is not blocks[-1])
            state.keys.append(k)
            state.values.append(v)
        return (None if out is None else self.norm(out)), state

    def answer_questions(self, state: UserState, x: Tensor, user_index: Tensor, prefix: Tensor) -> Tensor:
        """Return the outputs (Q, D) of question tokens over encoded histories (the group query).

        Args:
            state: of the histories.
            x: (Q, D) question tokens.
            user_index: (Q,) int64 on the CPU: index of each question's user in the batch.
            prefix: (Q,) number of history tokens that each question may see. It is also the question's position.
        """
        users = len(state.offsets) - 1
        sizes = state.offsets.diff().tolist(), torch.bincount(user_index, minlength=users).tolist()
        order = user_index.argsort(stable=True).to(x.device)  # makes the questions of one user adjacent
        x, prefix = self.token_norm(x)[order], prefix[order]
        blocks = cast(list[TransformerBlock], self.blocks)
        for block, keys, values in zip(blocks, state.keys, state.values, strict=True):
            x = block.answer_questions(x, (keys, values), sizes, prefix)
        return self.norm(x)[order.argsort()]
