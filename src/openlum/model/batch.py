"""What goes into the model: flat runs of many users' events, and questions with the prefix that each may see.

Shapes: B users, L events of all users end to end, Q questions, M values of a multi field, W width of a vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from openlum.data.dataset import Sequences
from openlum.data.packing import Spans
from openlum.schema import FieldSpec

Fields = dict[str, Tensor]
"""Field to (n,) ids or numbers, (n, M) ids padded with 0, or (n, W) vectors."""


def to_tensors(values: Mapping[str, np.ndarray]) -> Fields:
    """Fields as tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in values.items()}


def blank(specs: list[FieldSpec], n: int) -> Fields:
    """`n` conditions that name nothing: every field is *any*."""
    return {spec.name: torch.zeros(_shape(spec, n), dtype=_dtype(spec)).fill_(_any(spec)) for spec in specs}


def erase(fields: Fields, specs: list[FieldSpec], where: Fields) -> Fields:
    """Replace a field by *any* at the rows where `where[name]`, (n,) bool, holds."""
    out = dict(fields)
    for spec in specs:
        if spec.name in where:
            rows = where[spec.name] if fields[spec.name].dim() == 1 else where[spec.name][:, None]
            out[spec.name] = fields[spec.name].masked_fill(rows, _any(spec))
    return out


def erase_whole(fields: Fields, specs: list[FieldSpec], names: set[str]) -> Fields:
    """Replace the fields of these names by *any* in all rows."""
    return {
        spec.name: torch.full_like(fields[spec.name], _any(spec)) if spec.name in names else fields[spec.name]
        for spec in specs
    }


def _shape(spec: FieldSpec, n: int) -> tuple[int, ...]:
    return (n, spec.width) if spec.type in ("multi", "vector") else (n,)


def _dtype(spec: FieldSpec) -> torch.dtype:
    return torch.int64 if spec.type in ("categorical", "multi") else torch.float32


def moved(fields: Fields, device: torch.device) -> Fields:
    """Fields on a device."""
    return {name: field.to(device) for name, field in fields.items()}


def _any(spec: FieldSpec) -> float:
    """The value that stands for *any*: id 0, or not-a-number."""
    return 0 if spec.type in ("categorical", "multi") else float("nan")


@dataclass
class History:
    """The events of B users, end to end; every event is two tokens, its condition and its item."""

    item: Tensor
    """(L,) int64 item ids."""
    condition: Fields
    """Condition fields, (L, ...)."""
    offsets: Tensor
    """(B + 1,) int64 on the CPU: where each user's events begin."""
    before: Tensor | None = None
    """(L,) int64 on the CPU: how many of the user's events in the batch lie before the event's second, for training."""
    event: Tensor | None = None
    """(L,) int64 on the CPU: index of each event in the dataset's sequences, for training."""

    @classmethod
    def gather(cls, sequences: Sequences, spans: Spans) -> "History":
        """The events of spans of a dataset's histories."""
        index, offsets = spans.events(sequences)  # (L,), (B + 1,)
        begin = np.repeat(sequences.offsets[spans.user_index] + spans.start, np.diff(offsets))
        return cls(
            torch.from_numpy(sequences.item[index]),
            to_tensors({name: values[index] for name, values in sequences.condition.items()}),
            torch.from_numpy(offsets),
            torch.from_numpy(np.maximum(sequences.moment[index] - begin, 0)),
            torch.from_numpy(index),
        )

    def user_of(self, positions: Tensor) -> Tensor:
        """Which of the B users each of some events, (n,) indices, belongs to, (n,) on the CPU."""
        return torch.searchsorted(self.offsets, positions, right=True) - 1

    def to(self, device: torch.device) -> "History":
        """On a device; what steers the loop over users stays on the CPU."""
        return replace(self, item=self.item.to(device), condition=moved(self.condition, device))


@dataclass
class Questions:
    """Q questions, in any order."""

    condition: Fields
    """Condition fields, (Q, ...)."""
    user: Tensor
    """(Q,) int64 on the CPU: index of the user in the batch."""
    prefix: Tensor
    """(Q,) int64: how many of the user's events in the batch the question may see."""
    item: Tensor | None = None
    """(Q,) int64 item ids that the questions are about, to be judged; none for questions that look for items."""

    def to(self, device: torch.device) -> "Questions":
        """On a device; `user` stays on the CPU."""
        item = None if self.item is None else self.item.to(device)
        return Questions(moved(self.condition, device), self.user, self.prefix.to(device), item)
