"""Token encoders: a token's fields become one vector, `e = proj(concat(f_1, f_2, ...))` (paper, section 3.1).

Shapes: n tokens, F fields, C width of one field's embedding, M values of a multi field, W width of a vector.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openlum.model.batch import Fields
from openlum.schema import FieldSpec

FARTHEST = 6e4
"""Numbers count as at most this, which half precision has too: sums of far larger ones overflow to what is no number."""


def known_ids(ids: Tensor, rows: int) -> Tensor:
    """Ids of a table's rows. Those beyond came into the vocabulary after training: they become 0, unknown."""
    return ids.masked_fill(ids >= rows, 0)


class Field(nn.Module):
    """One field to an embedding of width C."""

    def __init__(self, spec: FieldSpec, width: int) -> None:
        super().__init__()
        self.kind = spec.type
        if spec.type in ("categorical", "multi"):
            self.table = nn.Embedding(spec.size, width)
            nn.init.normal_(self.table.weight, std=width**-0.5)
        else:
            # one more input says whether the value is known
            self.linear = nn.Linear(spec.width + 1, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n,), (n, M) or (n, W) to (n, C)."""
        if self.kind in ("categorical", "multi"):
            x = known_ids(x, self.table.num_embeddings)
        if self.kind == "categorical":
            return self.table(x)
        if self.kind == "multi":
            named = (x > 0).unsqueeze(-1)  # (n, M, 1)
            return (self.table(x) * named).sum(1) / named.sum(1).clamp(min=1)
        x = x.unsqueeze(-1) if x.dim() == 1 else x
        known = ~x.isnan().any(-1, keepdim=True)
        x = torch.cat([torch.nan_to_num(x).clamp(-FARTHEST, FARTHEST), known.to(x.dtype)], -1)
        return self.linear(x.to(self.linear.weight.dtype))


class TokenEncoder(nn.Module):
    """All fields of a token to one vector.

    Args:
        specs: the fields.
        widths: C of each field.
        out: width of the result.
    """

    def __init__(self, specs: list[FieldSpec], widths: list[int], out: int) -> None:
        super().__init__()
        self.names = [spec.name for spec in specs]
        self.fields = nn.ModuleList(Field(spec, width) for spec, width in zip(specs, widths, strict=True))
        self.project = nn.Linear(sum(widths), out)

    def forward(self, values: Fields) -> Tensor:
        """Fields of n tokens to (n, out)."""
        parts = [field(values[name]) for name, field in zip(self.names, self.fields, strict=True)]
        return self.project(torch.cat(parts, -1))


class ConditionEncoder(nn.Module):
    """Condition tokens. A log without condition fields has one constant condition."""

    def __init__(self, specs: list[FieldSpec], field_width: int, out: int) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.randn(out) * 0.02)
        self.encoder = TokenEncoder(specs, [field_width] * len(specs), out) if specs else None

    def forward(self, values: Fields, n: int) -> Tensor:
        """Condition fields of n tokens to (n, out)."""
        constant = self.constant.expand(n, -1)
        return constant if self.encoder is None else self.encoder(values) + constant


class ItemEncoder(nn.Module):
    """Items, the same for tokens of a history and for candidates. Holds the features of the whole catalogue.

    Where ids are hidden now and then in training, an item that training has not met has none of its own: its fields alone tell
    what it is.

    Args:
        specs: item fields, without the id.
        items: V, rows of the catalogue.
        field_width: C of the fields.
        out: E, width of an item embedding, and C of the id.
        id_dropout: chance that an item's id is hidden in training; 0 where there are no fields.
    """

    trained_items: Tensor
    """(V,) bool: the items that have an id of their own."""

    def __init__(self, specs: list[FieldSpec], items: int, field_width: int, out: int, id_dropout: float = 0.0) -> None:
        super().__init__()
        identity = FieldSpec(name="(id)", type="categorical", size=items)
        self.specs, self.rows, self.id_dropout = specs, items, id_dropout if specs else 0.0
        self.encoder = TokenEncoder([identity, *specs], [out] + [field_width] * len(specs), out)
        nn.init.zeros_(self.hidden_id)
        self.register_buffer("trained_items", torch.ones(items, dtype=torch.bool))
        for index, spec in enumerate(specs):
            shape = (items, spec.width) if spec.type in ("multi", "vector") else (items,)
            dtype = torch.int64 if spec.type in ("categorical", "multi") else torch.float32
            self.register_buffer(f"feature_{index}", torch.zeros(shape, dtype=dtype))

    def set_features(self, features: Fields) -> None:
        """Take the catalogue's features, (V, ...) each."""
        for index, spec in enumerate(self.specs):
            getattr(self, f"feature_{index}").copy_(features[spec.name])

    @property
    def hidden_id(self) -> Tensor:
        """What stands for the id of an item that was not met, or of one that is hidden: row 0 of the table, (E,)."""
        return self.encoder.get_parameter("fields.0.table.weight")[0]

    def set_trained_items(self, items: Tensor) -> None:
        """Take the items that training meets, (V,) bool, for the only ones with an id of their own, where ids are hidden."""
        if self.id_dropout:
            self.trained_items.copy_(items)

    def candidates(self) -> Tensor:
        """0 and the items with an id of their own, which alone may be negatives in training: ids, (C,) ascending.

        As a negative an item is pushed away from every answer. Of one that training has not met nothing tells that it was there
        to be chosen, and what it has in common with others, a hidden id, would be pushed away with it.
        """
        return F.pad(self.trained_items[1:].nonzero().squeeze(1) + 1, (1, 0))

    def forward(self, ids: Tensor) -> Tensor:
        """(n,) item ids to (n, E), not normalised."""
        ids = known_ids(ids, self.rows)
        values = {spec.name: getattr(self, f"feature_{index}")[ids] for index, spec in enumerate(self.specs)}
        hidden = ~self.trained_items[ids]
        if self.training and self.id_dropout:
            hidden = hidden | (torch.rand(len(ids), device=ids.device) < self.id_dropout)
        return self.encoder({"(id)": ids.masked_fill(hidden, 0), **values})
