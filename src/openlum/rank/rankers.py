"""Rankers: features, history, target item and, optionally, knowledge to the logit of the label.

Shapes: B rows, L behaviours, C width of a field, D width of an item, H first hidden width, Q questions, E width of an
answer, K distinct items, V items.
"""

from itertools import pairwise
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from openlum.errors import InputError
from openlum.model.batch import Fields
from openlum.model.fields import Field, ItemEncoder
from openlum.rank.attention import TargetAttention
from openlum.rank.batches import Batch, Behaviours, KnowledgeInput
from openlum.rank.settings import KnowledgeShape, RankerConfig
from openlum.schema import FieldSpec

EMBEDDING_STD = 0.3
"""With much smaller ones target attention hardly learns that the target resembles items of the history: a product of them."""


class KnowledgeFeatures(nn.Module):
    """Knowledge as a further summand of the MLP's first layer (paper, section 3.3: direct use and interest matching).

    Starts at zero: the ranker begins as the plain one.

    Args:
        shape: what there is.
        out: H.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: KnowledgeShape, out: int) -> None:
        super().__init__()
        self.scale = shape.width**0.5  # entries of a unit vector to unit variance
        self.direct = _zero_linear((len(shape.answers) + 1) * shape.width, out) if shape.answers else None
        self.matching = _zero_linear(len(shape.similarities), out) if shape.similarities else None
        self.register_buffer("mean", torch.zeros(len(shape.similarities)))
        self.register_buffer("std", torch.ones(len(shape.similarities)))

    def set_scale(self, mean: Tensor, std: Tensor) -> None:
        """Mean and standard deviation of the similarities in training, (Q,) each."""
        if self.matching is not None:
            self.mean.copy_(mean)
            self.std.copy_(std.clamp(min=1e-6))

    def forward(self, knowledge: KnowledgeInput) -> Tensor:
        """To (B, H)."""
        parts = []
        if self.direct is not None:
            vectors = torch.cat([knowledge.answers.flatten(1), knowledge.target], 1)  # (B, (Q + 1) E)
            parts.append(self.direct(vectors.float() * self.scale))
        if self.matching is not None:
            parts.append(self.matching((knowledge.similarity - self.mean) / self.std))
        return torch.stack(parts).sum(0)


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
    """The one contract of all rankers. `dnn` has no attention; `din` has.

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
        self.items = ItemEncoder(config.item, config.items, width, item_width)
        self.users = nn.Embedding(config.users, width, padding_idx=0) if settings.user_id else None
        self.behaviours: BehaviourEncoder | None = None
        self.attention: TargetAttention | None = None
        inputs = (len(config.features) + settings.user_id) * width + item_width + 1
        if config.architecture == "din":
            self.behaviours = BehaviourEncoder(config.behaviour, item_width)
            self.attention = TargetAttention(item_width, settings.attention_hidden)
            inputs += 2 * item_width
        self.first = nn.Linear(inputs, settings.hidden[0])
        self.rest = _tower(settings.hidden, settings.dropout)
        self._start()
        # Last, so that the parameters above are those of the plain ranker of the same seed.
        shape = config.knowledge
        self.knowledge = KnowledgeFeatures(shape, settings.hidden[0]) if shape and shape != _nothing(shape) else None

    def forward(self, batch: Batch) -> Tensor:
        """Logits, (B,)."""
        parts = [field(batch.features[name]) for name, field in zip(self.names, self.fields, strict=True)]
        parts.append(batch.activity.unsqueeze(1))
        if self.users is not None:
            parts.append(self.users(self._hide_some(batch.user)))
        if self.attention is None:
            parts.append(self._items(batch.item))
        else:
            parts += self._target_and_interest(batch.item, batch.history)
        hidden = self.first(torch.cat(parts, 1))  # (B, H)
        if self.knowledge is not None:
            if batch.knowledge is None:
                raise ValueError("this ranker was built with knowledge, and the batch has none")
            hidden = hidden + self.knowledge(batch.knowledge)
        return self.rest(hidden).squeeze(1)

    def _hide_some(self, user: Tensor) -> Tensor:
        """In training some users become unknown (0), whose row is zero as those of new users are."""
        if not self.training:
            return user
        return user.masked_fill(torch.rand(len(user), device=user.device) < self.config.settings.user_id_dropout, 0)

    def _items(self, ids: Tensor) -> Tensor:
        """Item ids (n,) to (n, D); each distinct item is encoded once."""
        used = torch.zeros(self.config.items, dtype=torch.bool, device=ids.device)
        used[ids] = True
        distinct = used.nonzero().squeeze(1)  # (K,)
        place = torch.zeros(self.config.items, dtype=torch.int64, device=ids.device)
        place[distinct] = torch.arange(len(distinct), device=ids.device)
        return F.embedding(place[ids], self.items(distinct))

    def _target_and_interest(self, item: Tensor, history: Behaviours | None) -> list[Tensor]:
        """(B, D) each."""
        assert self.attention is not None
        assert self.behaviours is not None
        if history is None:
            raise ValueError("this ranker reads the history, and the batch has none")
        vectors = self._items(torch.cat([item, history.item.flatten()]))
        target, items = vectors.split([len(item), history.item.numel()])
        keys = self.behaviours(items.view(*history.item.shape, target.shape[1]), history.condition)  # (B, L, D)
        interest = self.attention(target, keys, history.mask)
        return [target, interest, target * interest]

    def _start(self) -> None:
        """Embeddings begin at random; users begin at zero, so that an id that was never trained says nothing."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=EMBEDDING_STD)
        if self.users is not None:
            nn.init.zeros_(self.users.weight)


def save_ranker(ranker: Ranker, file: Path) -> None:
    """Write weights and configuration as one safetensors file."""
    save_file(ranker.state_dict(), file, metadata={"ranker": ranker.config.model_dump_json()})


def load_ranker(file: Path) -> Ranker:
    """Read what `save_ranker` wrote, ready to predict.

    Raises:
        InputError: the file is no ranker.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
        config = RankerConfig.model_validate_json(metadata["ranker"])
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; 'lum rank' writes it") from None
    except Exception as error:
        raise InputError(f"{file}: not a ranker ({error}); 'lum rank' writes rankers") from None
    ranker = Ranker(config)
    ranker.load_state_dict(load_file(file))
    return ranker.eval()


def _tower(hidden: list[int], dropout: float) -> nn.Sequential:
    """What follows the first linear layer, down to the logit."""
    layers: list[nn.Module] = [nn.ReLU(), nn.Dropout(dropout)]
    for before, after in pairwise(hidden):
        layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], 1))


def _zero_linear(inputs: int, out: int) -> nn.Linear:
    linear = nn.Linear(inputs, out, bias=False)
    nn.init.zeros_(linear.weight)
    return linear


def _nothing(shape: KnowledgeShape) -> KnowledgeShape:
    return KnowledgeShape(answers=[], similarities=[], width=shape.width)
