"""The block of the user encoder `hstu`: the Hierarchical Sequential Transduction Unit.

Formulas: Zhai et al., Actions Speak Louder than Words, ICML 2024, equations 1 to 3:

    U, V, Q, K = split(SiLU(W1 norm(X)));   A = SiLU(Q K^T + bias) V;   Y = X + W2 (norm(A) * U)

The bias depends on the relative position only. In a Large User Model, time enters through the condition fields; in end-to-end
models, a bias by time made the results worse (docs/experiments/several-sets.md).

Shapes: T tokens of B users end to end, n new tokens, Q questions, D width, H heads, d = D / H, P relative positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openlum.model.attention import pointwise_attention, question_attention
from openlum.model.blocks.block import BlockState
from openlum.model.initialisation import unit_rows_, zero_
from openlum.model.plan import ExtensionPlan, HistoryPlan, QuestionPlan
from openlum.model.settings import ModelSettings


class HstuBlock(nn.Module):
    """Gated pointwise attention, without an MLP."""

    name = "hstu"
    size_settings = ("max_events",)
    """Settings that the shapes of the weights depend on, beside width, layers and heads."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        width = settings.width
        self.heads, self.head_width = settings.heads, width // settings.heads
        self.norm = nn.RMSNorm(width)
        self.uvqk = nn.Linear(width, 4 * width, bias=False)
        self.attended_norm = nn.RMSNorm(width, eps=1e-5)  # a larger eps keeps an attention sum near zero near zero
        self.out = nn.Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(settings.heads, 2 * settings.max_events + 1))  # (H, P)
        self.dropout = nn.Dropout(settings.dropout)
        unit_rows_(self.uvqk.weight)
        zero_(self.out.weight)

    def encode_history(
        self, x: Tensor, positions: Tensor, plan: HistoryPlan, with_output: bool
    ) -> tuple[Tensor | None, BlockState]:
        """Return the output (T, D), or None, and the keys and values, (T, H, d) each. See `Block.encode_history`."""
        u, v, q, k = self._project(x)
        out = self._finish(x, u, pointwise_attention(q, k, v, plan, self.bias)) if with_output else None
        return out, {"keys": k, "values": v}

    def extend_history(
        self, x: Tensor, positions: Tensor, state: BlockState, plan: ExtensionPlan
    ) -> tuple[Tensor, BlockState]:
        """Return the output (n, D) and the longer keys and values. See `Block.extend_history`."""
        u, v, q, k = self._project(x)
        keys, values = plan.merge(state["keys"], k), plan.merge(state["values"], v)
        attended = question_attention(q, (k, v), (keys, values), plan.questions, self.bias)
        return self._finish(x, u, attended), {"keys": keys, "values": values}

    def answer_questions(self, x: Tensor, positions: Tensor, state: BlockState, plan: QuestionPlan) -> Tensor:
        """Return the output (Q, D) of question tokens. See `Block.answer_questions`."""
        u, v, q, k = self._project(x)
        attended = question_attention(q, (k, v), (state["keys"], state["values"]), plan, self.bias)
        return self._finish(x, u, attended)

    def _project(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return gates, values, queries and keys, (T, H, d) each, of tokens (T, D)."""
        split = F.silu(self.uvqk(self.norm(x))).unflatten(-1, (4, self.heads, self.head_width))
        u, v, q, k = split.unbind(1)
        return u, v, q * self.head_width**-0.5, k

    def _finish(self, x: Tensor, u: Tensor, attended: Tensor) -> Tensor:
        """Return the block's output (T, D) from the residual stream (T, D), gates and attention output (T, H, d)."""
        gated = self.attended_norm(attended.flatten(1)) * u.flatten(1)
        return x + self.out(self.dropout(gated))
