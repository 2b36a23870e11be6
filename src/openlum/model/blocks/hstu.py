"""A block of the user encoder `hstu`: the Hierarchical Sequential Transduction Unit.

Zhai et al., Actions Speak Louder than Words, ICML 2024, equations 1 to 3:

    U, V, Q, K = split(SiLU(W1 norm(X)));   A = SiLU(Q K^T + bias) V;   Y = X + W2 (norm(A) * U)

The bias is of the relative position alone: in a Large User Model time enters through the condition's fields, and in end-to-end
models it made things worse (docs/experiments.md).

Shapes: T tokens of B users end to end, Q questions, D width, H heads, d = D / H, P relative positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openlum.model.attention import pointwise_attention, question_attention
from openlum.model.settings import ModelSettings


class HstuBlock(nn.Module):
    """Pointwise attention, gated; there is no MLP."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        width = settings.width
        self.heads, self.head_width = settings.heads, width // settings.heads
        self.norm = nn.RMSNorm(width)
        self.uvqk = nn.Linear(width, 4 * width, bias=False)
        self.attended_norm = nn.RMSNorm(width, eps=1e-5)  # next to nothing attended stays next to nothing
        self.out = nn.Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(settings.heads, 2 * settings.max_events + 1))  # (H, P)
        self.dropout = nn.Dropout(settings.dropout)
        nn.init.normal_(self.uvqk.weight, std=width**-0.5)
        nn.init.zeros_(self.out.weight)  # the block begins as the identity, as the transformer's does

    def history(
        self, x: Tensor, positions: Tensor, offsets: Tensor, with_output: bool
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """History tokens (T, D) at positions (T,) to the output (T, D), and keys and values (T, H, d)."""
        u, v, q, k = self._project(x)
        return self._finish(x, u, pointwise_attention(q, k, v, offsets, self.bias)) if with_output else None, k, v

    def answer(
        self, x: Tensor, history: tuple[Tensor, Tensor], sizes: tuple[list[int], list[int]], prefix: Tensor
    ) -> Tensor:
        """Question tokens (Q, D) that see `prefix` tokens, (Q,), of keys and values (T, H, d); see `question_attention`."""
        u, v, q, k = self._project(x)
        return self._finish(x, u, question_attention(q, (k, v), history, sizes, prefix, self.bias))

    def _project(self, x: Tensor) -> tuple[Tensor, ...]:
        """(T, D) to gates, values, queries and keys, (T, H, d) each."""
        split = F.silu(self.uvqk(self.norm(x))).unflatten(-1, (4, self.heads, self.head_width))
        u, v, q, k = split.unbind(1)
        return u, v, q * self.head_width**-0.5, k

    def _finish(self, x: Tensor, u: Tensor, attended: Tensor) -> Tensor:
        """Residual stream (T, D), gates and attention's result (T, H, d) to the block's output (T, D)."""
        gated = self.attended_norm(attended.flatten(1)) * u.flatten(1)
        return x + self.out(self.dropout(gated))
