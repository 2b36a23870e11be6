"""`dcnv2`: feature crosses in front of the MLP (Wang et al. 2021, DCN V2, equation 1, with the low-rank matrix of equation 2).

    x_{l+1} = x_0 * (U (V x_l) + b) + x_l

Shapes: B rows, X width of all inputs, R rank.
"""

from torch import Tensor, nn

from openlum.rank.rankers.base import Ranker


class DcnV2(Ranker):
    """Cross layers, then the MLP (the paper's stacked form)."""

    name = "dcnv2"

    def build(self, inputs: int) -> None:
        rank = max(inputs // 4, 1)  # R, as the paper advises
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, inputs))
            for _ in range(self.config.settings.cross_layers)
        )

    def cross(self, x: Tensor) -> Tensor:
        crossed = x  # (B, X)
        for layer in self.layers:
            crossed = x * layer(crossed) + crossed
        return crossed
