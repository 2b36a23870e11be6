"""`sim`: search in the long history, then target attention over the behaviours that the search returns (Pi et al. 2020).

The general search unit scores every behaviour by an inner product with the target (equation 2). It is trained through the
weighted sum of all behaviours that the MLP reads, as in the paper's auxiliary task. Two things differ from the paper. The
weights of the sum are sigmoids of the scores, divided by the number of behaviours. The exact search unit is that of `din`; the
paper has multi-head attention and the time between a behaviour and the target.

Shapes: B rows, L behaviours of the long history, K behaviours that the search returns, D width of an item.
"""

from torch import Tensor, nn

from openlum.rank.attention import TargetAttention
from openlum.rank.batches import Behaviours
from openlum.rank.rankers.base import Ranker
from openlum.rank.settings import RankerConfig, RankSettings


class Sim(Ranker):
    """A ranker that reads the whole history and the behaviours nearest to the target, each also as a product with the target."""

    name = "sim"

    @staticmethod
    def history_length(settings: RankSettings) -> int:
        return settings.long_history

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
        length = min(self.config.settings.history_length, keys.shape[1])
        best = score.detach().masked_fill(~mask, float("-inf")).topk(length, 1).indices  # (B, K)
        nearest = keys.gather(1, best.unsqueeze(2).expand(-1, -1, keys.shape[2]))  # (B, K, D)
        exact = self.attention(target, nearest, mask.gather(1, best))  # (B, D)
        return [general, target * general, exact, target * exact]
