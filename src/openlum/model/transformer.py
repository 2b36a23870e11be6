"""The user encoder: a decoder-only transformer (pre-norm, RMSNorm, rotary positions, SwiGLU) over flat runs of tokens.

Shapes: T tokens of B users end to end, Q questions, D width, H heads, d = D / H.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openlum.model.attention import causal_attention, question_attention
from openlum.model.settings import ModelSettings

ROTARY_BASE = 10_000.0


@dataclass
class UserState:
    """What questions need of a history: its keys and values in every layer, computed once."""

    keys: list[Tensor]
    """A layer: (T, H, d)."""
    values: list[Tensor]
    """A layer: (T, H, d)."""
    offsets: Tensor
    """(B + 1,) int64 on the CPU: where each user's tokens begin."""


class Rotary(nn.Module):
    """Rotary positions (Su et al., RoFormer, 2021, eq. 34)."""

    frequency: Tensor

    def __init__(self, head_width: int) -> None:
        super().__init__()
        exponent = torch.arange(0, head_width, 2, dtype=torch.float32) / head_width
        self.register_buffer("frequency", ROTARY_BASE**-exponent, persistent=False)  # (d / 2,)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(T,) positions to cosines and sines, (T, 1, d / 2) each."""
        angle = positions[:, None, None] * self.frequency
        return angle.cos(), angle.sin()


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn (T, H, d) queries or keys by their positions."""
    cosine, sine = rotation
    a, b = x.chunk(2, -1)
    return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1)


class Block(nn.Module):
    """One transformer block."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        width = settings.width
        hidden = -(-width * 8 // 3 // 8) * 8  # SwiGLU with as many weights as an MLP of 4 D (Shazeer, 2020)
        self.heads, self.head_width = settings.heads, width // settings.heads
        self.attention_norm = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.RMSNorm(width)
        self.mlp_in = nn.Linear(width, 2 * hidden, bias=False)
        self.mlp_out = nn.Linear(hidden, width, bias=False)
        self.dropout = nn.Dropout(settings.dropout)
        # Every block begins as the identity. Otherwise the noise of untrained blocks drowns the condition, and training stays on
        # a plateau where answers know nothing but popularity (docs/experiments.md).
        for linear in (self.qkv, self.mlp_in):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        for linear in (self.attention_out, self.mlp_out):
            nn.init.zeros_(linear.weight)

    def project(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """(T, D) to queries, keys and values, (T, H, d) each."""
        q, k, v = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, self.head_width)).unbind(1)
        return rotate(q, rotation), rotate(k, rotation), v

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Residual stream (T, D) and attention's result (T, H, d) to the block's output (T, D)."""
        x = x + self.dropout(self.attention_out(attended.flatten(1)))
        gate, up = self.mlp_in(self.mlp_norm(x)).chunk(2, -1)
        return x + self.dropout(self.mlp_out(F.silu(gate) * up))


class UserEncoder(nn.Module):
    """The stack of blocks."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.rotary = Rotary(settings.width // settings.heads)
        self.token_norm = nn.RMSNorm(settings.width)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.layers))
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
        rotation = self.rotary((torch.arange(len(x)) - starts).to(x.device))
        state = UserState([], [], offsets)
        x = self.token_norm(x)
        blocks = cast(list[Block], self.blocks)
        for block in blocks:
            q, k, v = block.project(x, rotation)
            state.keys.append(k)
            state.values.append(v)
            if with_output or block is not blocks[-1]:
                x = block.finish(x, causal_attention(q, k, v, offsets))
        return (self.norm(x) if with_output else None), state

    def answer(self, state: UserState, x: Tensor, user: Tensor, prefix: Tensor) -> Tensor:
        """The group query: questions after histories that were read once.

        Args:
            state: of the histories.
            x: (Q, D) question tokens, one user's next to each other.
            user: (Q,) int64 on the CPU, ascending: the user of each.
            prefix: (Q,) history tokens that each sees; also its position, the next one's after what it sees.

        Returns:
            (Q, D).
        """
        sizes = state.offsets.diff().tolist(), torch.bincount(user, minlength=len(state.offsets) - 1).tolist()
        rotation = self.rotary(prefix)
        x = self.token_norm(x)
        for block, keys, values in zip(cast(list[Block], self.blocks), state.keys, state.values, strict=True):
            q, k, v = block.project(x, rotation)
            x = block.finish(x, question_attention(q, (k, v), (keys, values), sizes, prefix))
        return self.norm(x)
