"""The base of row-wise rankers: features, history, target item and, optionally, knowledge to the logit of the label.

Shapes: B rows, I rows of a split, L behaviours, C width of a field, D width of an item, X width of all inputs, H first hidden
width, K distinct items, V items; b of the B rows have histories of similar length.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openlum.field_spec import FieldSpec
from openlum.model.batch import Fields
from openlum.model.fields import Field, ItemEncoder, known_ids
from openlum.rank.batches import Batch, Behaviours, RankingData, Rows
from openlum.rank.features import KnowledgeFeatures
from openlum.rank.rankers.contract import RankerDescription
from openlum.rank.settings import RankerConfig

EMBEDDING_STD = 0.3
"""Standard deviation of initial embeddings. Target attention learns from products of embeddings; with much smaller values it
hardly learns that the target resembles items of the history."""


class BehaviourEncoder(nn.Module):
    """The sum of a behaviour's item vector and the embeddings of its condition fields (with feedback).

    Args:
        specs: condition fields.
        width: D.
    """

    def __init__(self, specs: list[FieldSpec], width: int) -> None:
        super().__init__()
        self.specs = specs
        self.fields = nn.ModuleList(Field(spec, width) for spec in specs)

    def forward(self, items: Tensor, condition: Fields) -> Tensor:
        """Return behaviours (B, L, D) from items (B, L, D) and condition fields (B, L, ...)."""
        for spec, field in zip(self.specs, self.fields, strict=True):
            items = items + field(condition[spec.name].flatten(0, 1)).view_as(items)
        return items


class Ranker(nn.Module, RankerDescription):
    """A network of field embeddings, the interest that the architecture reads from the history, and an MLP.

    A subclass is a ranker of its own, described by `RankerDescription`. An architecture that reads the history overrides
    `history_length`, `interest` and `interest_width`. An architecture that crosses features overrides `cross` (and
    `crossed_width`). `build` creates the modules of an architecture.

    Args:
        config: the ranker's configuration.

    Example:
        >>> ranker = load_ranker(Path("runs/market/ranker/din-seed0.safetensors"))      # doctest: +SKIP
        >>> ranker(batch).sigmoid()                                                      # doctest: +SKIP
    """

    def __init__(self, config: RankerConfig) -> None:
        super().__init__()
        self.config, settings = config, config.settings
        width, item_width = settings.embedding_width, settings.item_width
        self.names = [spec.name for spec in config.features]
        self.fields = nn.ModuleList(Field(spec, width) for spec in config.features)
        self.items = ItemEncoder(config.item, config.items, width, item_width, settings.item_id_dropout)
        self.users = nn.Embedding(config.users, width, padding_idx=0) if settings.user_id else None
        self.behaviours = BehaviourEncoder(config.behaviour, item_width) if config.history_length else None
        inputs = (len(config.features) + settings.user_id) * width + 1 + item_width + self.interest_width(config)
        self.build(inputs)
        self.first = nn.Linear(self.crossed_width(inputs), settings.hidden[0])
        self.rest = _mlp_tail(settings.hidden, settings.dropout)
        self._init_embeddings()
        # Created last, so that the parameters above equal those of the plain ranker with the same seed.
        self.knowledge = _knowledge_features(config)

    def build(self, inputs: int) -> None:
        """Create the architecture's own modules; `inputs` is X."""

    @staticmethod
    def interest_width(config: RankerConfig) -> int:
        """Return the summed width of the tensors that `interest` returns."""
        return 0

    def crossed_width(self, inputs: int) -> int:
        """Return the width of the result of `cross` for inputs of width X."""
        return inputs

    def interest(self, target: Tensor, keys: Tensor, history: Behaviours) -> list[Tensor]:
        """Return the user's interest in the target, (B, ...) each.

        Args:
            target: (B, D) target items.
            keys: (B, L, D) behaviours, latest first.
            history: the same behaviours, with their mask.
        """
        raise NotImplementedError

    def cross(self, x: Tensor) -> Tensor:
        """Return the inputs of the MLP from all inputs, (B, X)."""
        return x

    def forward(self, batch: Batch) -> Tensor:
        """Return logits, (B,), on the device of the weights; the batch may be on any device."""
        history = batch.history  # moved later: its lengths are read on the CPU, without waiting for a GPU
        batch = replace(batch, history=None).to(self.first.weight.device)
        parts = [field(batch.features[name]) for name, field in zip(self.names, self.fields, strict=True)]
        parts.append(batch.activity.unsqueeze(1))
        if self.users is not None:
            parts.append(self.users(self._drop_user_ids(known_ids(batch.user, self.config.users))))
        parts += self._target_and_interest(batch.item, history)
        hidden = self.first(self.cross(torch.cat(parts, 1)))  # (B, H)
        if self.knowledge is not None:
            knowledge = batch.knowledge
            assert knowledge is not None
            hidden = hidden + self.knowledge(knowledge.answers, knowledge.target, knowledge.scores)
        return self.rest(hidden).squeeze(1)

    @torch.inference_mode()
    def predict(self, data: RankingData, rows: Rows) -> np.ndarray:
        """Return predicted probabilities of rows, (I,) float32."""
        self.eval()
        probability = torch.empty(len(rows))
        for index, batch in data.indexed_batches(rows, torch.arange(len(rows)), self.config):
            probability[index] = self(batch).sigmoid().cpu()
        return probability.numpy()

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights."""
        return self.state_dict()

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Load the weights that `tensors()` returned, and switch to prediction."""
        self.load_state_dict(tensors)
        self.eval()

    def _drop_user_ids(self, user: Tensor) -> Tensor:
        """Return user ids, (B,). In training, random ids become 0 (unknown), whose embedding is zero as for new users."""
        if not self.training:
            return user
        return user.masked_fill(torch.rand(len(user), device=user.device) < self.config.settings.user_id_dropout, 0)

    def _items(self, ids: Tensor) -> Tensor:
        """Return item vectors (n, D) of item ids (n,); each distinct item is encoded once."""
        ids = known_ids(ids, self.config.items)
        in_batch = torch.zeros(self.config.items, dtype=torch.bool, device=ids.device)  # (V,)
        in_batch[ids] = True
        distinct = in_batch.nonzero().squeeze(1)  # (K,)
        index = torch.zeros(self.config.items, dtype=torch.int64, device=ids.device)  # (V,)
        index[distinct] = torch.arange(len(distinct), device=ids.device)
        return F.embedding(index[ids], self.items(distinct))

    def _target_and_interest(self, item: Tensor, history: Behaviours | None) -> list[Tensor]:
        """Return the vectors of target items, (B, D), and the interest in them; the history may be on another device."""
        if self.behaviours is None:
            return [self._items(item)]
        if history is None:
            raise ValueError("this ranker reads the history, and the batch has no history")
        groups = [(rows.to(item.device), group.to(item.device)) for rows, group in history.group_by_length()]
        vectors = self._items(torch.cat([item, *(group.item.flatten() for _, group in groups)]))
        target, *items = vectors.split([len(item), *(group.item.numel() for _, group in groups)])
        interests = []
        for (rows, group), group_items in zip(groups, items, strict=True):
            keys = self.behaviours(group_items.view(*group.item.shape, target.shape[1]), group.condition)  # (b, L, D)
            interests.append(self.interest(target[rows], keys, group))
        original_order = torch.cat([rows for rows, _ in groups]).argsort()  # (B,)
        return [target, *(torch.cat(parts)[original_order] for parts in zip(*interests, strict=True))]

    def _init_embeddings(self) -> None:
        """Set random initial embeddings. User embeddings start at zero, so that an untrained user id has no effect."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=EMBEDDING_STD)
        nn.init.zeros_(self.items.hidden_id)
        if self.users is not None:
            nn.init.zeros_(self.users.weight)


def _knowledge_features(config: RankerConfig) -> KnowledgeFeatures | None:
    shape, settings = config.knowledge, config.settings.knowledge
    if shape is None:
        return None
    return KnowledgeFeatures(
        len(shape.answers),
        shape.width,
        config.settings.hidden[0],
        similarities=len(shape.similarities),
        hidden=settings.width,
        dropout=settings.dropout,
    )


def _mlp_tail(hidden: list[int], dropout: float) -> nn.Sequential:
    """Return the layers after the first linear layer, down to the logit."""
    layers: list[nn.Module] = [nn.ReLU(), nn.Dropout(dropout)]
    for width, next_width in pairwise(hidden):
        layers += [nn.Linear(width, next_width), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], 1))
