"""Checks that the fields and ids of a dataset mean what the model learned."""

import reprlib
from collections.abc import Mapping
from pathlib import Path

from openlum.data.vocabulary import Vocabulary
from openlum.errors import InputError
from openlum.field_spec import FieldSpec
from openlum.model.processor import Processor
from openlum.model.settings import ModelConfig


def check_fields(kind: str, model_specs: list[FieldSpec], dataset_specs: list[FieldSpec], remedy: str) -> None:
    """Raise an error if the fields differ in anything but the size of a vocabulary.

    Args:
        kind: `condition` or `item`, for the message.
        model_specs: the model's fields.
        dataset_specs: the dataset's fields.
        remedy: the end of the message.

    Raises:
        InputError: names the first difference.
    """
    dataset_names, model_names = [spec.name for spec in dataset_specs], [spec.name for spec in model_specs]
    if dataset_names != model_names:
        raise InputError(
            f"the dataset has the {kind} fields {dataset_names}, but the model has {model_names}; {remedy}"
        )
    for model_spec, dataset_spec in zip(model_specs, dataset_specs, strict=True):
        for key in FieldSpec.model_fields:
            values = getattr(dataset_spec, key), getattr(model_spec, key)
            may_differ = key == "size" and model_spec.in_vocabulary and dataset_spec.in_vocabulary
            if values[0] != values[1] and not may_differ:
                text = " and ".join(map(reprlib.repr, values))
                raise InputError(
                    f"{kind} field '{model_spec.name}': '{key}' differs between the dataset and the model ({text}); {remedy}"
                )


def check_growth(
    model_vocabularies: Mapping[str, Vocabulary], dataset_vocabularies: Mapping[str, Vocabulary], remedy: str
) -> None:
    """Raise an error if a vocabulary of the dataset does not begin with the values of the model's vocabulary.

    Raises:
        InputError: names the first such vocabulary.
    """
    for name, vocabulary in dataset_vocabularies.items():
        model_values = model_vocabularies[name].values if name in model_vocabularies else None
        if model_values is None or vocabulary.values[: len(model_values)] != model_values:
            raise InputError(f"the ids of '{name}' differ between the dataset and the model; {remedy}")


def check_vocabularies(config: ModelConfig, processor: Processor, directory: Path) -> None:
    """Raise an error if a saved model's vocabularies or weights cannot belong to its configuration.

    Args:
        config: of the model.
        processor: with the vocabularies.
        directory: of the model, for the message.

    Raises:
        InputError: names the first vocabulary that is missing or has another size, or a size that the file of weights is too
            small for.
    """
    file, weights = directory / "config.json", directory / "model.safetensors"
    specs = [spec for spec in config.condition if spec.in_vocabulary and spec.name not in config.time_fields]
    sizes = {"items": config.items} | {f"condition.{spec.name}": spec.size for spec in specs}
    vocabularies = {"items": processor.items}
    vocabularies |= {f"condition.{name}": vocabulary for name, vocabulary in processor.conditions.items()}
    for name, size in sizes.items():
        values = len(vocabularies[name]) - 1 if name in vocabularies else 0
        if values != size - 1:
            vocabulary_file = directory / "vocab" / f"{name}.parquet"
            raise InputError(
                f"{vocabulary_file}: has {values:,} values, but {file.name} has {size - 1:,}; run 'lum pretrain' again"
            )
    shape, fields = config.settings, [*config.condition, *config.item]
    widths = [shape.width, shape.layers, shape.heads, shape.embedding_width, shape.field_width]
    largest = max([*widths, *(spec.size for spec in fields), *(spec.width for spec in fields)])
    if weights.is_file() and largest > weights.stat().st_size:  # before memory of this size is allocated
        raise InputError(
            f"{file}: has the size {largest:,}, but {weights.name} is smaller than that; run 'lum pretrain' again"
        )
