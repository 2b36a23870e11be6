"""`dien`: interest evolution (Zhou et al. 2019, Deep Interest Evolution Network).

A GRU reads the behaviours. A second GRU, whose update gate is scaled by the match of the state and the target (AUGRU, equations
8 to 10), follows the interest that leads to the target. Two things differ from the paper. The match is a sigmoid of each state;
with the paper's softmax over the behaviours, each weight would be close to 0. The auxiliary loss on the next behaviour is left
out.

Shapes: B rows, L behaviours, D width of an item.
"""

import torch
from torch import Tensor, nn

from openlum.rank.batches import Behaviours
from openlum.rank.rankers.base import Ranker
from openlum.rank.settings import RankerConfig, RankSettings


class AttentionalGru(nn.Module):
    """AUGRU: a GRU whose update gate is scaled by attention weights.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_input = nn.Linear(width, 3 * width)
        self.of_state = nn.Linear(width, 3 * width, bias=False)

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the last interest, (B, D), from states (B, L, D), oldest first, and weights (B, L); weight 0 skips a state."""
        state = x.new_zeros(len(x), x.shape[2])
        for inputs, w in zip(self.of_input(x).unbind(1), weight.unsqueeze(2).unbind(1), strict=True):
            u_in, r_in, c_in = inputs.chunk(3, 1)
            u_state, r_state, c_state = self.of_state(state).chunk(3, 1)
            update = w * (u_in + u_state).sigmoid()
            candidate = (c_in + (r_in + r_state).sigmoid() * c_state).tanh()
            state = state + update * (candidate - state)
        return state


class Dien(Ranker):
    """A ranker that reads the last state of the evolving interest, and its product with the target."""

    name = "dien"

    @staticmethod
    def history_length(settings: RankSettings) -> int:
        return settings.history_length

    @staticmethod
    def interest_width(config: RankerConfig) -> int:
        return 2 * config.settings.item_width

    def build(self, inputs: int) -> None:
        width = self.config.settings.item_width
        self.extract = nn.GRU(width, width, batch_first=True)
        self.match = nn.Linear(width, width, bias=False)
        self.evolve = AttentionalGru(width)

    def interest(self, target: Tensor, keys: Tensor, history: Behaviours) -> list[Tensor]:
        if not keys.shape[1]:
            zeros = torch.zeros_like(target)
            return [zeros, zeros]
        # Oldest behaviour first, padding last, so that padding does not change the states.
        length = history.mask.sum(1, keepdim=True)  # (B, 1)
        position = torch.arange(keys.shape[1], device=keys.device)
        oldest_first = (length - 1 - position).clamp(min=0)  # (B, L)
        ordered = keys.gather(1, oldest_first.unsqueeze(2).expand_as(keys))
        states, _ = self.extract(ordered)  # (B, L, D)
        score = (states @ self.match(target).unsqueeze(2)).squeeze(2) * target.shape[1] ** -0.5  # (B, L)
        interest = self.evolve(states, score.sigmoid() * (position < length))
        return [interest, target * interest]
