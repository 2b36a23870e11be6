"""Whether the fields and ids of a dataset mean what a model learned."""

import reprlib
from collections.abc import Mapping
from pathlib import Path

from openlum.data.vocabulary import Vocabulary
from openlum.errors import InputError
from openlum.model.lexicon import Lexicon
from openlum.model.settings import ModelConfig
from openlum.schema import FieldSpec


def check_fields(kind: str, mine: list[FieldSpec], theirs: list[FieldSpec], remedy: str) -> None:
    """Refuse fields that differ in more than the size of their vocabularies.

    Args:
        kind: of the fields, for the message.
        mine: the model's.
        theirs: the dataset's.
        remedy: ends the message.

    Raises:
        InputError: with the first difference.
    """
    names = [spec.name for spec in theirs], [spec.name for spec in mine]
    if names[0] != names[1]:
        raise InputError(f"the dataset's {kind} fields {names[0]} are not those of the model, {names[1]}; {remedy}")
    for learned, found in zip(mine, theirs, strict=True):
        for key in FieldSpec.model_fields:
            values = getattr(found, key), getattr(learned, key)
            grows = key == "size" and learned.in_vocabulary and found.in_vocabulary
            if values[0] != values[1] and not grows:
                shown = " and ".join(map(reprlib.repr, values))
                raise InputError(
                    f"{kind} field '{learned.name}': '{key}' differs between the dataset and the model ({shown}); {remedy}"
                )


def check_growth(mine: Mapping[str, Vocabulary], theirs: Mapping[str, Vocabulary], remedy: str) -> None:
    """Refuse vocabularies of a dataset that do not begin with the model's own.

    Raises:
        InputError: names the first.
    """
    for name, vocabulary in theirs.items():
        if name not in mine or vocabulary.values[: len(mine[name].values)] != mine[name].values:
            raise InputError(f"the ids of '{name}' in the dataset are not those of the model; {remedy}")


def check_words(config: ModelConfig, lexicon: Lexicon, file: Path) -> None:
    """Refuse a model whose vocabularies are not those of its configuration.

    Args:
        config: of the model.
        lexicon: its vocabularies.
        file: the configuration, for the message.

    Raises:
        InputError: names the first that is missing or of another size.
    """
    sizes = {"items": config.items}
    sizes |= {
        spec.name: spec.size for spec in config.condition if spec.in_vocabulary and spec.name not in config.time_fields
    }
    words = {"items": lexicon.items} | lexicon.conditions
    for name, size in sizes.items():
        there = len(words[name]) if name in words else 0
        if there != size:
            raise InputError(
                f"{file}: '{name}' has {size - 1:,} values, but {max(there - 1, 0):,} in vocab/; run 'lum pretrain' again"
            )
