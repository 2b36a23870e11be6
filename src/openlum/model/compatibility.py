"""Whether the fields and ids of a dataset mean what a model learned."""

import reprlib
from collections.abc import Mapping
from pathlib import Path

from openlum.data.vocabulary import Vocabulary
from openlum.errors import InputError
from openlum.model.processor import Processor
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


def check_vocabularies(config: ModelConfig, processor: Processor, directory: Path) -> None:
    """Refuse a saved model whose vocabularies are not those of its configuration, or that is larger than its weights.

    Args:
        config: of the model.
        processor: its vocabularies.
        directory: where they were read, for the message.

    Raises:
        InputError: names the first that is missing or of another size.
    """
    file, weights = directory / "config.json", directory / "model.safetensors"
    read = [spec for spec in config.condition if spec.in_vocabulary and spec.name not in config.time_fields]
    sizes = {"items": config.items} | {f"condition.{spec.name}": spec.size for spec in read}
    words = {"items": processor.items} | {f"condition.{name}": known for name, known in processor.conditions.items()}
    for name, size in sizes.items():
        there = len(words[name]) - 1 if name in words else 0
        if there != size - 1:
            vocabulary = directory / "vocab" / f"{name}.parquet"
            raise InputError(
                f"{vocabulary}: has {there:,} values, not the {size - 1:,} of {file.name}; run 'lum pretrain' again"
            )
    shape, specs = config.settings, [*config.condition, *config.item]
    numbers = [shape.width, shape.layers, shape.heads, shape.embedding_width, shape.field_width]
    most = max([*numbers, *(spec.size for spec in specs), *(spec.width for spec in specs)])
    if weights.is_file() and most > weights.stat().st_size:  # before memory is taken for it
        raise InputError(f"{file}: has the size {most:,}, which {weights.name} cannot hold; run 'lum pretrain' again")
