"""Items that entered the catalogue after the training: the model knows them by their fields only."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from openlum.arguments.values import is_missing, shown
from openlum.data.canonical import canonical_text
from openlum.data.vocabulary import Vocabulary
from openlum.errors import InputError
from openlum.model.batch import Fields
from openlum.model.processor import Processor
from openlum.model.settings import ModelConfig

ITEM, TITLE = "item", "title"


def with_new_items(processor: Processor, config: ModelConfig, items: Any) -> tuple[Processor, Fields]:
    """Return the processor with further items, and the fields of these n items, (n, ...) each.

    Args:
        processor: of the model.
        config: of the model.
        items: as in `LargeUserModel.with_items`.

    Raises:
        InputError: as in `LargeUserModel.with_items`.
    """
    if not (config.item and config.settings.id_dropout):
        reason = "was trained with model.id_dropout 0" if config.item else "has no item fields"
        raise InputError(
            f"with_items: the model {reason}, so it knows items by their ids only; pretrain it on the new items"
        )
    ids = _new_ids(processor, items)
    own = {ITEM, TITLE} - {spec.name for spec in config.item}
    fields = processor.encode_items(
        [{name: value for name, value in row.items() if name not in own} for row in items], config.item
    )
    titles = [canonical_text(row.get(TITLE)) or raw for row, raw in zip(items, ids, strict=True)]
    known = processor.items
    vocabulary = Vocabulary([*known.values, *ids], [*known.counts[1:].tolist(), *[0] * len(ids)])
    return replace(processor, items=vocabulary, titles=[*processor.titles, *titles]), fields


def _new_ids(processor: Processor, items: Any) -> list[str]:
    """Return the raw ids of new items as text.

    Raises:
        InputError: there are no items, or an item has no id, an id that the model knows, or that of another new item.
    """
    is_list = isinstance(items, Sequence) and not isinstance(items, str | bytes)
    if not is_list or not len(items) or not all(isinstance(row, Mapping) for row in items):
        raise InputError(
            f"with_items: expected a list of at least one mapping with 'item' and item fields, found {shown(items)}"
        )
    ids: list[str] = []
    seen: set[str] = set()
    for index, row in enumerate(items):
        text = None if is_missing(row.get(ITEM)) else canonical_text(row[ITEM])
        if text is None:
            raise InputError(f"with_items: item {index} has no '{ITEM}', its raw id")
        if text in seen or processor.items.encode([text])[0]:
            known = "twice in the list" if text in seen else "in the catalogue already"
            raise InputError(f"with_items: item {index}: the id {shown(row[ITEM])} is {known}")
        seen.add(text)
        ids.append(text)
    return ids
