"""What rankers that read rows share: features, history, target item and, optionally, knowledge to the logit of the label.

Shapes: B rows, I rows of a split, L behaviours, C width of a field, D width of an item, X width of all inputs, H first hidden
width, K distinct items, V items; b of the B rows have histories of like length.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openlum.model.batch import Fields
from openlum.model.fields import Field, ItemEncoder, known_ids
from openlum.rank.batches import Batch, Behaviours, RankingData, Rows
from openlum.rank.features import KnowledgeFeatures
from openlum.rank.settings import RankerConfig
from openlum.schema import FieldSpec

EMBEDDING_STD = 0.3
"""With much smaller ones target attention hardly learns that the target resembles items of the history: a product of them."""


class BehaviourEncoder(nn.Module):
    """What a behaviour's condition (with feedback) adds to its item.

    Args:
        specs: condition fields.
        width: D.
    """

    def __init__(self, specs: list[FieldSpec], width: int) -> None:
        super().__init__()
        self.specs = specs
        self.fields = nn.ModuleList(Field(spec, width) for spec in specs)

    def forward(self, items: Tensor, condition: Fields) -> Tensor:
        """Items (B, L, D) and condition fields (B, L, ...) to behaviours (B, L, D)."""
        for spec, field in zip(self.specs, self.fields, strict=True):
            items = items + field(condition[spec.name].flatten(0, 1)).view_as(items)
        return items


class Ranker(nn.Module):
    """Embeddings of all fields, what the architecture makes of the history, and an MLP.

    An architecture overrides `interest` (and `interest_width`) if it reads the history, or `cross` (and `crossed_width`).

    Args:
        config: what to build.

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
        self.rest = _tower(settings.hidden, settings.dropout)
        self._start()
        # Last, so that the parameters above are those of the plain ranker of the same seed.
        self.knowledge = _knowledge(config)

    def build(self, inputs: int) -> None:
        """Make the architecture's own parts; `inputs` is X."""

    @staticmethod
    def interest_width(config: RankerConfig) -> int:
        """Width of what `interest` gives."""
        return 0

    def crossed_width(self, inputs: int) -> int:
        """Width of what `cross` gives for inputs of width X."""
        return inputs

    def interest(self, target: Tensor, keys: Tensor, history: Behaviours) -> list[Tensor]:
        """Target (B, D) and behaviours (B, L, D), latest first, to what they say of the user's interest in it, (B, ...) each."""
        raise NotImplementedError

    def cross(self, x: Tensor) -> Tensor:
        """All inputs, (B, X), to what the MLP reads."""
        return x

    def forward(self, batch: Batch) -> Tensor:
        """Logits, (B,), on the device of the weights, whichever the batch is on."""
        history = batch.history  # stays where it is until its lengths are read, which need not wait for a GPU
        batch = replace(batch, history=None).to(self.first.weight.device)
        parts = [field(batch.features[name]) for name, field in zip(self.names, self.fields, strict=True)]
        parts.append(batch.activity.unsqueeze(1))
        if self.users is not None:
            parts.append(self.users(self._hide_some(known_ids(batch.user, self.config.users))))
        parts += self._target_and_interest(batch.item, history)
        hidden = self.first(self.cross(torch.cat(parts, 1)))  # (B, H)
        if self.knowledge is not None:
            known = batch.knowledge
            assert known is not None
            hidden = hidden + self.knowledge(known.answers, known.target, known.similarity)
        return self.rest(hidden).squeeze(1)

    @torch.inference_mode()
    def predict(self, data: RankingData, rows: Rows) -> np.ndarray:
        """Predicted probabilities of rows, (I,) float32."""
        self.eval()
        order = torch.arange(len(rows))
        parts = [self(batch).sigmoid().cpu() for batch, _ in data.batches(rows, order, self.config)]
        return torch.cat(parts).numpy() if parts else np.empty(0, np.float32)

    def tensors(self) -> dict[str, Tensor]:
        """Its weights."""
        return self.state_dict()

    def take(self, tensors: dict[str, Tensor]) -> None:
        """The weights that `tensors` gave, ready to predict."""
        self.load_state_dict(tensors)
        self.eval()

    def _hide_some(self, user: Tensor) -> Tensor:
        """In training some users become unknown (0), whose row is zero as those of new users are."""
        if not self.training:
            return user
        return user.masked_fill(torch.rand(len(user), device=user.device) < self.config.settings.user_id_dropout, 0)

    def _items(self, ids: Tensor) -> Tensor:
        """Item ids (n,) to (n, D); each distinct item is encoded once."""
        ids = known_ids(ids, self.config.items)
        used = torch.zeros(self.config.items, dtype=torch.bool, device=ids.device)
        used[ids] = True
        distinct = used.nonzero().squeeze(1)  # (K,)
        place = torch.zeros(self.config.items, dtype=torch.int64, device=ids.device)
        place[distinct] = torch.arange(len(distinct), device=ids.device)
        return F.embedding(place[ids], self.items(distinct))

    def _target_and_interest(self, item: Tensor, history: Behaviours | None) -> list[Tensor]:
        """The vectors of the targets (B,), (B, D), and the interest in them; the history may be on another device."""
        if self.behaviours is None:
            return [self._items(item)]
        if history is None:
            raise ValueError("this ranker reads the history, and the batch has none")
        groups = [(rows.to(item.device), group.to(item.device)) for rows, group in history.by_length()]
        vectors = self._items(torch.cat([item, *(group.item.flatten() for _, group in groups)]))
        target, *items = vectors.split([len(item), *(group.item.numel() for _, group in groups)])
        found = []
        for (rows, group), of_items in zip(groups, items, strict=True):
            keys = self.behaviours(of_items.view(*group.item.shape, target.shape[1]), group.condition)  # (b, L, D)
            found.append(self.interest(target[rows], keys, group))
        back = torch.cat([rows for rows, _ in groups]).argsort()  # (B,)
        return [target, *(torch.cat(parts)[back] for parts in zip(*found, strict=True))]

    def _start(self) -> None:
        """Embeddings begin at random; users begin at zero, so that an id that was never trained says nothing."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=EMBEDDING_STD)
        nn.init.zeros_(self.items.hidden_id)
        if self.users is not None:
            nn.init.zeros_(self.users.weight)


def _knowledge(config: RankerConfig) -> KnowledgeFeatures | None:
    shape, chosen = config.knowledge, config.settings.knowledge
    if shape is None:
        return None
    return KnowledgeFeatures(
        len(shape.answers),
        shape.width,
        config.settings.hidden[0],
        similarities=len(shape.similarities),
        hidden=chosen.width,
        dropout=chosen.dropout,
    )


def _tower(hidden: list[int], dropout: float) -> nn.Sequential:
    """What follows the first linear layer, down to the logit."""
    layers: list[nn.Module] = [nn.ReLU(), nn.Dropout(dropout)]
    for before, after in pairwise(hidden):
        layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], 1))
