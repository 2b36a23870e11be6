"""The model's inputs: the events of many users end to end, and questions with the prefix that each question may see.

Shapes: B users, L events of all users end to end, Q questions, M values of a multi field, W width of a vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from openlum.data.packing import Spans
from openlum.data.sequences import Sequences
from openlum.field_spec import FieldSpec

Fields = dict[str, Tensor]
"""Field name to (n,) ids or numbers, (n, M) ids padded with 0, or (n, W) vectors."""


def to_tensors(values: Mapping[str, np.ndarray]) -> Fields:
    """Return the fields as tensors. Ids become int64."""
    return {
        name: torch.from_numpy(np.ascontiguousarray(array, np.int64 if array.dtype.kind == "i" else None))
        for name, array in values.items()
    }


def to_device(fields: Fields, device: torch.device) -> Fields:
    """Return the fields on a device."""
    return {name: field.to(device) for name, field in fields.items()}


def blank(specs: list[FieldSpec], n: int) -> Fields:
    """Return the fields of `n` conditions in which every field is *any*."""
    return {spec.name: torch.zeros(_shape(spec, n), dtype=_dtype(spec)).fill_(_any(spec)) for spec in specs}


def erase(fields: Fields, specs: list[FieldSpec], masks: Fields) -> Fields:
    """Return the fields with *any* in the rows where `masks[name]`, (n,) bool, is true. A field without a mask stays the same."""
    out = dict(fields)
    for spec in specs:
        if spec.name in masks:
            mask = masks[spec.name] if fields[spec.name].dim() == 1 else masks[spec.name][:, None]
            out[spec.name] = fields[spec.name].masked_fill(mask, _any(spec))
    return out


def erase_fields(fields: Fields, specs: list[FieldSpec], names: set[str]) -> Fields:
    """Return the fields, with every value of the fields in `names` set to *any*."""
    return {
        spec.name: torch.full_like(fields[spec.name], _any(spec)) if spec.name in names else fields[spec.name]
        for spec in specs
    }


def _shape(spec: FieldSpec, n: int) -> tuple[int, ...]:
    return (n, spec.width) if spec.type in ("multi", "vector") else (n,)


def _dtype(spec: FieldSpec) -> torch.dtype:
    return torch.int64 if spec.type in ("categorical", "multi") else torch.float32


def _any(spec: FieldSpec) -> float:
    """Return the value that encodes *any*: id 0 for categories, NaN for numbers."""
    return 0 if spec.type in ("categorical", "multi") else float("nan")


@dataclass
class History:
    """The events of B users, end to end. Each event becomes two tokens: its condition and its item."""

    item: Tensor
    """(L,) int64 item ids."""
    condition: Fields
    """Condition fields, (L, ...)."""
    offsets: Tensor
    """(B + 1,) int64 on the CPU: index of each user's first event, then L."""
    prefix: Tensor | None = None
    """(L,) int64 on the CPU: the prefix of a question asked at the event's second, the number of the user's earlier events in the
    batch. Only training and validation need it."""
    event_index: Tensor | None = None
    """(L,) int64 on the CPU: index of each event in the dataset's sequences. Only training and validation need it."""

    @classmethod
    def gather(cls, sequences: Sequences, spans: Spans) -> "History":
        """Return the events of these spans of a dataset's histories."""
        index, offsets = spans.events(sequences)  # (L,), (B + 1,)
        begin = np.repeat(sequences.offsets[spans.user_index] + spans.start, np.diff(offsets))
        return cls(
            torch.from_numpy(sequences.item[index].astype(np.int64)),
            to_tensors(sequences.fields(index)),
            torch.from_numpy(offsets),
            torch.from_numpy(np.maximum(sequences.moment_start[index] - begin, 0)),
            torch.from_numpy(index),
        )

    def user_index(self, positions: Tensor) -> Tensor:
        """Return the index in the batch, (n,) on the CPU, of the user whose event lies at each position, (n,)."""
        return torch.searchsorted(self.offsets, positions, right=True) - 1

    def to(self, device: torch.device) -> "History":
        """Return the history on a device. Offsets, prefixes and event indices stay on the CPU."""
        return replace(self, item=self.item.to(device), condition=to_device(self.condition, device))


@dataclass
class Questions:
    """Q questions, in any order."""

    condition: Fields
    """Condition fields, (Q, ...)."""
    user_index: Tensor
    """(Q,) int64 on the CPU: index of the user in the batch."""
    prefix: Tensor
    """(Q,) int64: how many of the user's events in the batch the question may see."""
    item: Tensor | None = None
    """(Q,) int64: the id of the item whose feedback the question predicts. A question that searches for items may have one too:
    the item whose copy score is wanted."""
    learned: Tensor | None = None
    """(Q,) int64: the index of the learned question that takes the place of the condition; -1 for a question with a condition."""

    def to(self, device: torch.device) -> "Questions":
        """Return the questions on a device. `user_index` stays on the CPU."""
        item, learned = (None if ids is None else ids.to(device) for ids in (self.item, self.learned))
        return Questions(to_device(self.condition, device), self.user_index, self.prefix.to(device), item, learned)


@dataclass
class Moments:
    """P moments in the histories of a batch, as of which user vectors are computed."""

    user_index: Tensor
    """(P,) int64 on the CPU: index of the user in the batch."""
    prefix: Tensor
    """(P,) int64: how many of the user's events in the batch come before the moment."""

    def to(self, device: torch.device) -> "Moments":
        """Return the moments on a device. `user_index` stays on the CPU."""
        return Moments(self.user_index, self.prefix.to(device))


def join_questions(groups: Sequence[Questions]) -> Questions:
    """Return the questions of groups, end to end. Every group has items."""
    condition = {name: torch.cat([group.condition[name] for group in groups]) for name in groups[0].condition}
    items = [group.item for group in groups if group.item is not None]
    user_index, prefix = (torch.cat([getattr(group, name) for group in groups]) for name in ("user_index", "prefix"))
    return Questions(condition, user_index, prefix, torch.cat(items))
