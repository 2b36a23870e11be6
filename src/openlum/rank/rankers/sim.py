"""`sim`: soft search in the long history, then target attention over what was found (Pi et al. 2020).

The general search unit scores every behaviour by an inner product with the target (equation 2). It is trained through
the weighted sum of all behaviours that the MLP reads (as the paper's auxiliary task does). Two things differ: the weights of
that sum are sigmoids of the scores over the number of behaviours, and the exact search unit is `din`'s, where the paper has
attention with several heads and the time between a behaviour and the target.

Shapes: B rows, L behaviours of the long history, K of them found, D width of an item.
"""

from torch import Tensor, nn

from openlum.rank.attention import TargetAttention
from openlum.rank.batches import Behaviours
from openlum.rank.rankers.base import Ranker
from openlum.rank.settings import RankerConfig


class Sim(Ranker):
    """What the whole history says, and what the behaviours nearest to the target say, each with its product with the target."""

    @staticmethod
    def interest_width(config: RankerConfig) -> int:
        return 4 * config.settings.item_width

    def build(self, inputs: int) -> None:
        settings = self.config.settings
        self.search = nn.Linear(settings.item_width, settings.item_width, bias=False)
        self.attention = TargetAttention(settings.item_width, settings.attention_hidden)

    def interest(self, target: Tensor, keys: Tensor, history: Behaviours) -> list[Tensor]:
        mask = history.mask
        score = (keys @ self.search(target).unsqueeze(2)).squeeze(2) * target.shape[1] ** -0.5  # (B, L)
        weight = score.sigmoid() * mask / mask.sum(1, keepdim=True).clamp(min=1)  # (B, L)
        general = (weight.unsqueeze(2) * keys).sum(1)  # (B, D)
        places = min(self.config.settings.history_length, keys.shape[1])
        best = score.detach().masked_fill(~mask, float("-inf")).topk(places, 1).indices  # (B, K)
        found = keys.gather(1, best.unsqueeze(2).expand(-1, -1, keys.shape[2]))  # (B, K, D)
        exact = self.attention(target, found, mask.gather(1, best))  # (B, D)
        return [general, target * general, exact, target * exact]
