"""Which items may be found: by the fields of the item table, and by lists of ids.

Shapes: V items with item 0 (unknown).
"""

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openlum.arguments.values import brief
from openlum.config import parse_settings
from openlum.errors import InputError
from openlum.field_spec import FieldSpec
from openlum.model.fields import ItemEncoder
from openlum.model.item_filter import ItemFilter
from openlum.model.processor import Processor
from openlum.model.request import check_items


def field_ids(item_filter: ItemFilter, processor: Processor, specs: Sequence[FieldSpec]) -> dict[str, np.ndarray]:
    """Return the ids of the values of each field of `where`.

    Args:
        item_filter: the filter.
        processor: of the model.
        specs: item fields of the model.

    Raises:
        InputError: names the field or the value that does not exist.
    """
    return {name: _value_ids(name, values, processor, specs) for name, values in item_filter.where.items()}


def allowed_items(item_filter: ItemFilter, processor: Processor, items: ItemEncoder) -> Tensor:
    """Return which items may be found, (V,) bool on the CPU. Item 0 may not.

    Args:
        item_filter: the filter.
        processor: of the model.
        items: encoder of the model, with the fields of all items.

    Raises:
        InputError: as in `field_ids`, or an element of `allow` or `deny` is not an id.
    """
    allowed = torch.ones(items.rows, dtype=torch.bool)
    if item_filter.allow is not None:
        allowed[:] = False
        allowed[torch.from_numpy(processor.item_ids(check_items(item_filter.allow), "of the filter"))] = True
    if item_filter.deny:
        allowed[torch.from_numpy(processor.items.encode(check_items(item_filter.deny)))] = False
    features = items.features()
    for name, ids in field_ids(item_filter, processor, items.specs).items():
        has_value = torch.isin(features[name].cpu(), torch.from_numpy(ids))
        allowed &= has_value if has_value.dim() == 1 else has_value.any(1)
    allowed[0] = False
    return allowed


def as_filter(value: Any) -> ItemFilter | None:
    """Return the filter of a caller's argument: a filter, its keys, or ids of the only items that may be found; None for None.

    Raises:
        InputError: the argument has none of these forms.
    """
    if value is None or isinstance(value, ItemFilter):
        return value
    if isinstance(value, Mapping):
        return parse_settings(dict(value), ItemFilter, "filter")
    is_set = isinstance(value, Collection) and not isinstance(value, Sequence)
    return ItemFilter(allow=check_items(list(value) if is_set else value))


def _value_ids(name: str, values: Any, processor: Processor, specs: Sequence[FieldSpec]) -> np.ndarray:
    """Return the ids of the values of one field, (n,)."""
    by_name = {spec.name: spec for spec in specs}
    usable = [spec.name for spec in specs if spec.in_vocabulary]
    choices = (
        f"choose from {', '.join(usable)}" if usable else "the model has no such field; give ids with 'allow' or 'deny'"
    )
    if name not in by_name:
        raise InputError(f"filter: '{name}' is not a field of the item table that the model knows; {choices}")
    if not by_name[name].in_vocabulary:
        kind = "hashed" if by_name[name].hashed else by_name[name].type if by_name[name].edges is None else "in buckets"
        raise InputError(f"filter: field '{name}' is {kind}; only categorical fields can be filtered by: {choices}")
    vocabulary, elements = processor.features[name], values if isinstance(values, list | tuple) else [values]
    ids = vocabulary.encode(elements)
    for element, index in zip(elements, ids, strict=True):
        if index == 0:
            near = difflib.get_close_matches(str(element), vocabulary.values, n=1)
            known = f"did you mean '{near[0]}'?" if near else f"values are {', '.join(vocabulary.values[:8])} ..."
            raise InputError(f"filter: no item has {brief(element)} in the field '{name}'; {known}")
    return ids
