"""The block of the user encoder `transformer`: decoder-only, pre-norm, RMSNorm, rotary positions, SwiGLU.

Shapes: T tokens of B users end to end, n new tokens, Q questions, D width, H heads, d = D / H.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openlum.model.attention import causal_attention, question_attention
from openlum.model.blocks.block import BlockState
from openlum.model.initialisation import unit_rows_, zero_
from openlum.model.plan import ExtensionPlan, HistoryPlan, QuestionPlan
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
    return torch.cat([torch.addcmul(a * cosine, b, sine, value=-1), torch.addcmul(b * cosine, a, sine)], -1)


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
        for linear in (self.qkv, self.mlp_in):
            unit_rows_(linear.weight)
        for linear in (self.attention_out, self.mlp_out):
            zero_(linear.weight)

    def encode_history(
        self, x: Tensor, positions: Tensor, plan: HistoryPlan, with_output: bool
    ) -> tuple[Tensor | None, BlockState]:
        """Return the output (T, D), or None, and the keys and values, (T, H, d) each. See `Block.encode_history`."""
        q, k, v = self._project(x, positions)
        out = self._finish(x, causal_attention(q, k, v, plan)) if with_output else None
        return out, {"keys": k, "values": v}

    def extend_history(
        self, x: Tensor, positions: Tensor, state: BlockState, plan: ExtensionPlan
    ) -> tuple[Tensor, BlockState]:
        """Return the output (n, D) and the longer keys and values. See `Block.extend_history`."""
        q, k, v = self._project(x, positions)
        keys, values = plan.merge(state["keys"], k), plan.merge(state["values"], v)
        out = self._finish(x, question_attention(q, (k, v), (keys, values), plan.questions))
        return out, {"keys": keys, "values": values}

    def answer_questions(self, x: Tensor, positions: Tensor, state: BlockState, plan: QuestionPlan) -> Tensor:
        """Return the output (Q, D) of question tokens. See `Block.answer_questions`."""
        q, k, v = self._project(x, positions)
        return self._finish(x, question_attention(q, (k, v), (state["keys"], state["values"]), plan))

    def _project(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (T, H, d) each, of tokens (T, D)."""
        qkv = self.qkv(self.attention_norm(x)).unflatten(-1, (3 * self.heads, self.head_width))
        qk, v = qkv.split([2 * self.heads, self.heads], 1)
        q, k = rotate(qk, self.rotary(positions)).chunk(2, 1)  # together: half as many small operations
        return q, k, v

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Return the block's output (T, D) from the residual stream (T, D) and attention output (T, H, d)."""
        x = x + self.dropout(self.attention_out(attended.flatten(1)))
        gate, up = self.mlp_in(self.mlp_norm(x)).chunk(2, -1)
        return x + self.dropout(self.mlp_out(F.silu(gate) * up))
