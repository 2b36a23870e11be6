"""Token encoders: they map the fields of a token to one vector, `e = proj(concat(f_1, f_2, ...))` (paper, section 3.1).

Shapes: n tokens, F fields, C width of one field's embedding, M values of a multi field, W width of a vector.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openlum.field_spec import FieldSpec
from openlum.model.batch import Fields
from openlum.model.initialisation import constant_tokens, unit_rows_, zero_

MAX_NUMBER = 6e4
"""Numbers are clamped to this absolute value, which half precision can hold. Sums of far larger numbers would overflow."""


def known_ids(ids: Tensor, rows: int) -> Tensor:
    """Replace ids that are not in the table by 0 (unknown): values that entered the vocabulary after training."""
    return ids.masked_fill(ids >= rows, 0)


class Field(nn.Module):
    """The embedding of one field, of width C."""

    def __init__(self, spec: FieldSpec, width: int) -> None:
        super().__init__()
        self.kind = spec.type
        if spec.type in ("categorical", "multi"):
            self.table = nn.Embedding(spec.size, width)
            unit_rows_(self.table.weight)
        else:
            # The last input is 1 if the value is known, 0 if it is missing.
            self.linear = nn.Linear(spec.width + 1, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the embeddings (n, C) of values (n,), (n, M) or (n, W)."""
        if self.kind in ("categorical", "multi"):
            x = known_ids(x, self.table.num_embeddings)
        if self.kind == "categorical":
            return self.table(x)
        if self.kind == "multi":
            present = (x > 0).unsqueeze(-1)  # (n, M, 1)
            return (self.table(x) * present).sum(1) / present.sum(1).clamp(min=1)
        x = x.unsqueeze(-1) if x.dim() == 1 else x
        present = ~x.isnan().any(-1, keepdim=True)
        x = torch.cat([torch.nan_to_num(x).clamp(-MAX_NUMBER, MAX_NUMBER), present.to(x.dtype)], -1)
        return self.linear(x.to(self.linear.weight.dtype))


class TokenEncoder(nn.Module):
    """The projection of all fields of a token to one vector.

    Args:
        specs: the fields.
        widths: C of each field.
        out: width of the output.
    """

    def __init__(self, specs: list[FieldSpec], widths: list[int], out: int) -> None:
        super().__init__()
        self.names = [spec.name for spec in specs]
        self.fields = nn.ModuleList(Field(spec, width) for spec, width in zip(specs, widths, strict=True))
        self.project = nn.Linear(sum(widths), out)

    def forward(self, values: Fields) -> Tensor:
        """Return the vectors (n, out) of the fields of n tokens."""
        embeddings = [field(values[name]) for name, field in zip(self.names, self.fields, strict=True)]
        return self.project(torch.cat(embeddings, -1))


class ConditionEncoder(nn.Module):
    """The encoder of condition tokens. A log without condition fields has one constant condition."""

    def __init__(self, specs: list[FieldSpec], field_width: int, out: int) -> None:
        super().__init__()
        self.constant = constant_tokens(out)
        self.encoder = TokenEncoder(specs, [field_width] * len(specs), out) if specs else None

    def forward(self, values: Fields, n: int) -> Tensor:
        """Return the vectors (n, out) of the condition fields of n tokens."""
        constant = self.constant.expand(n, -1)
        return constant if self.encoder is None else self.encoder(values) + constant


class ItemEncoder(nn.Module):
    """The encoder of items, in histories and as candidates. It holds the features of the whole catalogue.

    With id dropout, an untrained item (one without training events) has no id embedding of its own: it is encoded from its fields
    only.

    Args:
        specs: item fields, without the id.
        items: V, rows of the catalogue.
        field_width: C of the fields.
        out: E, width of an item embedding, and C of the id.
        id_dropout: probability that an item's id is hidden in a training step. It is 0 if there are no fields.
    """

    trained_items: Tensor
    """(V,) bool: the items that have an id embedding of their own."""

    def __init__(self, specs: list[FieldSpec], items: int, field_width: int, out: int, id_dropout: float = 0.0) -> None:
        super().__init__()
        identity = FieldSpec(name="(id)", type="categorical", size=items)
        self.specs, self.rows, self.id_dropout = specs, items, id_dropout if specs else 0.0
        self.encoder = TokenEncoder([identity, *specs], [out] + [field_width] * len(specs), out)
        zero_(self.hidden_id)
        self.register_buffer("trained_items", torch.ones(items, dtype=torch.bool))
        for index, spec in enumerate(specs):
            shape = (items, spec.width) if spec.type in ("multi", "vector") else (items,)
            dtype = torch.int64 if spec.type in ("categorical", "multi") else torch.float32
            self.register_buffer(f"feature_{index}", torch.zeros(shape, dtype=dtype))

    def set_features(self, features: Fields) -> None:
        """Set the catalogue's features, (V, ...) each."""
        for index, spec in enumerate(self.specs):
            getattr(self, f"feature_{index}").copy_(features[spec.name])

    def add_items(self, features: Fields, number: int) -> None:
        """Add untrained items with these features, (number, ...) each. Their rows of the id table are never read."""
        for index, spec in enumerate(self.specs):
            own = getattr(self, f"feature_{index}")
            setattr(self, f"feature_{index}", torch.cat([own, features[spec.name].to(own)]))
        self.trained_items = F.pad(self.trained_items, (0, number))
        self.rows += number
        ids = self.encoder.get_submodule("fields.0")
        weight = F.pad(ids.get_parameter("table.weight").detach(), (0, 0, 0, number))
        ids.table = nn.Embedding.from_pretrained(weight, freeze=False)

    def features(self) -> Fields:
        """Return the catalogue's features, (V, ...) each."""
        return {spec.name: getattr(self, f"feature_{index}") for index, spec in enumerate(self.specs)}

    @property
    def hidden_id(self) -> Tensor:
        """The id embedding, (E,), of untrained items and of items whose id is hidden: row 0 of the table."""
        return self.encoder.get_parameter("fields.0.table.weight")[0]

    def set_trained_items(self, items: Tensor) -> None:
        """Set which items, (V,) bool, have training events. Without id dropout, every item keeps its own id embedding."""
        if self.id_dropout:
            self.trained_items.copy_(items)

    def candidates(self) -> Tensor:
        """Return the ids, (C,) ascending, of item 0 and of the items that may be negatives: those with their own id embedding.

        Training pushes a negative away from every answer. An untrained item may not have been available to be chosen. As a
        negative, it would also push away the embedding of the hidden id, which all untrained items share.
        """
        return F.pad(self.trained_items[1:].nonzero().squeeze(1) + 1, (1, 0))

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embeddings (n, E), not normalised, of item ids (n,)."""
        ids = known_ids(ids, self.rows)
        values = {name: feature[ids] for name, feature in self.features().items()}
        hidden = ~self.trained_items[ids]
        if self.training and self.id_dropout:
            hidden = hidden | (torch.rand(len(ids), device=ids.device) < self.id_dropout)
        return self.encoder({"(id)": ids.masked_fill(hidden, 0), **values})
