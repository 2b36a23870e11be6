"""Target attention over a history (Zhou et al. 2018, Deep Interest Network).

Shapes: B rows, L behaviours, D width of an item, H hidden width of the attention unit.
"""

import torch
from torch import Tensor, nn


class TargetAttention(nn.Module):
    """A weighted sum of behaviours; a small network computes the weight of each from the behaviour and the target.

    As in the paper, the weights are not normalised, so that the strength of an interest is kept. The attention unit is one hidden
    layer with ReLU over `[q, k, q - k, q * k]`.

    Args:
        width: D.
        hidden: H.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.pair = nn.Linear(4 * width, hidden)
        self.weight = nn.Linear(hidden, 1)

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Return the user's interest in the target, (B, D).

        Args:
            query: (B, D) targets.
            keys: (B, L, D) behaviours.
            mask: (B, L) bool: True where a behaviour exists.
        """
        # W [q, k, q - k, q * k] = (Wq + Wd) q + (Wk - Wd + Wp diag(q)) k: one product per row instead of the (B, L, 4 D) input.
        w_query, w_key, w_difference, w_product = self.pair.weight.chunk(4, dim=1)  # (H, D) each
        query_term = query @ (w_query + w_difference).T + self.pair.bias  # (B, H)
        key_weight = torch.addcmul((w_key - w_difference).T, query.unsqueeze(2), w_product.T)  # (B, D, H)
        hidden = torch.baddbmm(query_term.unsqueeze(1), keys, key_weight).relu()  # (B, L, H)
        weights = self.weight(hidden).squeeze(2) * mask  # (B, L)
        return (weights.unsqueeze(2) * keys).sum(1)  # on a CPU faster than a product of (1, L) and (L, D) per row
