"""The block of the user encoder `transformer`: decoder-only, pre-norm, RMSNorm, rotary positions, SwiGLU.

Shapes: T tokens of B users end to end, Q questions, D width, H heads, d = D / H.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openlum.model.attention import causal_attention, question_attention
from openlum.model.settings import ModelSettings

ROTARY_BASE = 10_000.0


class Rotary(nn.Module):
    """Rotary position embeddings (Su et al., RoFormer, 2021, eq. 34)."""

    frequency: Tensor

    def __init__(self, head_width: int) -> None:
        super().__init__()
        exponent = torch.arange(0, head_width, 2, dtype=torch.float32) / head_width
        self.register_buffer("frequency", ROTARY_BASE**-exponent, persistent=False)  # (d / 2,)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines, (T, 1, d / 2) each, of positions (T,)."""
        angle = positions[:, None, None] * self.frequency
        return angle.cos(), angle.sin()


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Return queries or keys (T, H, d) rotated by the cosines and sines of their positions."""
    cosine, sine = rotation
    a, b = x.chunk(2, -1)
    return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1)


class TransformerBlock(nn.Module):
    """Softmax attention and a gated MLP."""

    name = "transformer"

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        width = settings.width
        self.rotary = Rotary(width // settings.heads)
        hidden = -(-width * 8 // 3 // 8) * 8  # SwiGLU with as many weights as an MLP of 4 D (Shazeer, 2020)
        self.heads, self.head_width = settings.heads, width // settings.heads
        self.attention_norm = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.RMSNorm(width)
        self.mlp_in = nn.Linear(width, 2 * hidden, bias=False)
        self.mlp_out = nn.Linear(hidden, width, bias=False)
        self.dropout = nn.Dropout(settings.dropout)
        # Every block starts as the identity. Otherwise the noise of untrained blocks hides the condition, and training stays on
        # a plateau where answers reflect item popularity only (docs/experiments.md).
        for linear in (self.qkv, self.mlp_in):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        for linear in (self.attention_out, self.mlp_out):
            nn.init.zeros_(linear.weight)

    def encode_history(
        self, x: Tensor, positions: Tensor, offsets: Tensor, with_output: bool
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Encode history tokens.

        Args:
            x: (T, D) tokens.
            positions: (T,) position of each token in its user's history.
            offsets: (B + 1,) int64 on the CPU: index of each user's first token, then T.
            with_output: whether to compute the output.

        Returns:
            Output (T, D), or None; keys and values, (T, H, d) each.
        """
        q, k, v = self._project(x, positions)
        return self._finish(x, causal_attention(q, k, v, offsets)) if with_output else None, k, v

    def answer_questions(
        self, x: Tensor, history: tuple[Tensor, Tensor], sizes: tuple[list[int], list[int]], prefix: Tensor
    ) -> Tensor:
        """Return the output (Q, D) of question tokens.

        Args:
            x: (Q, D) question tokens. The questions of one user are adjacent.
            history: keys and values of the histories, (T, H, d) each.
            sizes: the number of history tokens and the number of questions of each of the B users.
            prefix: (Q,) number of tokens that each question may see.
        """
        q, k, v = self._project(x, prefix)
        return self._finish(x, question_attention(q, (k, v), history, sizes, prefix))

    def _project(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (T, H, d) each, of tokens (T, D)."""
        rotation = self.rotary(positions)
        q, k, v = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, self.head_width)).unbind(1)
        return rotate(q, rotation), rotate(k, rotation), v

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Return the block's output (T, D) from the residual stream (T, D) and attention output (T, H, d)."""
        x = x + self.dropout(self.attention_out(attended.flatten(1)))
        gate, up = self.mlp_in(self.mlp_norm(x)).chunk(2, -1)
        return x + self.dropout(self.mlp_out(F.silu(gate) * up))
