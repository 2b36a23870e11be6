"""`din`: target attention over the last behaviours (Zhou et al. 2018, Deep Interest Network)."""

from torch import Tensor

from openlum.rank.attention import TargetAttention
from openlum.rank.batches import Behaviours
from openlum.rank.rankers.base import Ranker
from openlum.rank.settings import RankerConfig, RankSettings


class Din(Ranker):
    """A ranker that reads the history's sum weighted by the target, and its product with the target."""

    name = "din"

    @staticmethod
    def history_length(settings: RankSettings) -> int:
        return settings.history_length

    @staticmethod
    def interest_width(config: RankerConfig) -> int:
        return 2 * config.settings.item_width

    def build(self, inputs: int) -> None:
        self.attention = TargetAttention(self.config.settings.item_width, self.config.settings.attention_hidden)

    def interest(self, target: Tensor, keys: Tensor, history: Behaviours) -> list[Tensor]:
        interest = self.attention(target, keys, history.mask)  # (B, D)
        return [interest, target * interest]
