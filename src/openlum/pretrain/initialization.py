"""The model that a training starts with: its weights are random, or come from a model of an earlier state of the dataset."""

from pathlib import Path
from typing import Any

import torch

from openlum.data.dataset import Dataset
from openlum.data.packing import Protocol
from openlum.data.vocabulary import Vocabulary
from openlum.errors import InputError
from openlum.model import LargeUserModel, ModelConfig, ModelSettings, Processor
from openlum.model.batch import to_tensors
from openlum.model.compatibility import check_fields
from openlum.model.encoders import ENCODERS

SHAPE = ("encoder", "conditions", "size", "width", "layers", "heads", "embedding_width", "field_width")
"""Settings that determine the shapes and the meaning of the weights; for `hstu`, with a bias per position, also `max_events`."""
REMEDY = "extend the dataset with 'lum prepare --append', which keeps fields and scales, or train without --init-from"


def build_model(
    dataset: Dataset,
    settings: ModelSettings,
    seed: int,
    protocol: Protocol = "both",
    fingerprint: str = "",
    initial_model: LargeUserModel | None = None,
    feedback_prediction: bool = True,
) -> LargeUserModel:
    """Return a new model for the fields and the catalogue of a dataset.

    Args:
        dataset: to train on.
        settings: hyperparameters of the model.
        seed: seed of the random weights.
        protocol: protocol of the training.
        fingerprint: fingerprint of the training's inputs.
        initial_model: whose weights to copy, if any.
        feedback_prediction: whether the training includes feedback prediction.
    """
    torch.manual_seed(seed)
    model = untrained_model(
        dataset,
        Processor.from_dataset(dataset),
        settings,
        protocol=protocol,
        fingerprint=fingerprint,
        initialised_from=initial_model.config.fingerprint if initial_model else "",
        trained_on_feedback=feedback_prediction,
    )
    model.network.item_encoder.set_features(to_tensors(dataset.item_features()))
    if initial_model:
        copy_weights(initial_model, model)
    return model


def untrained_model(dataset: Dataset, processor: Processor, settings: ModelSettings, **training: Any) -> LargeUserModel:
    """Return a model with random weights for a dataset, without the features of the items.

    Args:
        dataset: with the fields and the catalogue.
        processor: with the vocabularies of the dataset.
        settings: hyperparameters of the model.
        training: further keys of `ModelConfig`.
    """
    schema = dataset.info.data_schema
    config = ModelConfig(
        settings=settings,
        condition=dataset.specs("condition"),
        item=dataset.specs("item"),
        items=len(processor.items),
        time_fields=schema.time_fields,
        gap_unit=schema.gap_unit,
        valid_time=dataset.info.valid_time,
        **training,
    )
    return LargeUserModel(config, processor)


def load_initial_model(
    directory: Path, dataset: Dataset, settings: ModelSettings, protocol: Protocol
) -> tuple[LargeUserModel, ModelSettings]:
    """Load the model whose weights a new model starts with, and return it with the settings of the new model.

    Args:
        directory: directory of the initial model.
        dataset: for the new model.
        settings: settings of the new model. Unset keys take the value of the initial model.
        protocol: protocol of the new training.

    Raises:
        InputError: if the new model cannot have the initial model's weights, or the initial model was trained on events that are
            held out of the new training.
    """
    model = LargeUserModel.load(directory)
    new_settings, model_settings = settings.model_dump(exclude_unset=True), model.config.settings.model_dump()
    for key in (*SHAPE, *getattr(ENCODERS.load(model_settings["encoder"]), "size_settings", ())):
        if new_settings.get(key, model_settings[key]) != model_settings[key]:
            raise InputError(
                f"key 'model.{key}': is {new_settings[key]}, but the model in {directory} has {model_settings[key]}; "
                "leave the key out, or train without --init-from"
            )
    for kind, specs in (("condition", model.config.condition), ("item", model.config.item)):
        check_fields(kind, specs, dataset.specs(kind), REMEDY)
    for spec in model.config.item:
        if spec.in_vocabulary and spec.name not in model.processor.features:
            raise InputError(f"{directory}: has no vocabulary of item field '{spec.name}'; train without --init-from")
    if model.config.protocol not in ("both", protocol):
        raise InputError(
            f"key 'pretrain.protocol': the model in {directory} was trained with the protocol '{model.config.protocol}', on "
            f"events that '{protocol}' holds out of training; choose the same protocol, or train without --init-from"
        )
    if protocol != "last" and (model.config.valid_time or 0) > dataset.info.valid_time:
        raise InputError(
            f"{directory}: was trained on events of this dataset's validation period; move 'splits', or train without "
            "--init-from"
        )
    return model, ModelSettings(**model_settings | new_settings)


@torch.no_grad()
def copy_weights(source: LargeUserModel, target: LargeUserModel) -> None:
    """Copy the weights and the set of trained items from one model to another.

    Rows of embedding tables and of feedback heads go to the row of the same value. Rows of new values stay as they are. So does
    the matching head if there are new feedback values: its inputs and outputs are others then.
    """
    weights, vocabularies = dict(target.network.named_parameters()), _vocabularies(target)
    source_vocabularies = _vocabularies(source)
    heads = (network.matching_head.named_parameters() for network in (source.network, target.network))
    has_new_head = any(old.shape != new.shape for (_, old), (_, new) in zip(*heads, strict=True))
    for name, weight in source.network.named_parameters():
        if has_new_head and name.startswith("matching_head."):
            continue
        if name in source_vocabularies:
            # Target row of each source id 1, 2, ...
            ids = torch.from_numpy(vocabularies[name].encode(source_vocabularies[name].values))
            common = (ids > 0).nonzero().squeeze(1)
            # Embedding tables have a row 0 for unknown values; feedback heads have none.
            unknown = int(name.endswith("table.weight"))
            weights[name][ids[common] - 1 + unknown] = weight[common + unknown]
            weights[name][:unknown] = weight[:unknown]
        else:
            weights[name].copy_(weight)
    trained = torch.zeros_like(target.network.item_encoder.trained_items)
    trained[torch.from_numpy(target.processor.items.encode(source.processor.items.values))] = (
        source.network.item_encoder.trained_items[1:]
    )
    target.network.item_encoder.set_trained_items(trained)


def _vocabularies(model: LargeUserModel) -> dict[str, Vocabulary]:
    """Return, by name, the vocabulary that numbers the rows of a weight: embedding tables and last layers of feedback heads."""
    processor, config = model.processor, model.config
    fields = {
        "item_encoder": [processor.items, *(processor.features.get(spec.name) for spec in config.item)],
        "condition_encoder": [processor.conditions.get(spec.name) for spec in config.condition],
    }
    tables = {
        f"{encoder}.encoder.fields.{index}.table.weight": vocabulary
        for encoder, vocabularies in fields.items()
        for index, vocabulary in enumerate(vocabularies)
        if vocabulary is not None
    }
    heads = {
        f"feedback_heads.{index}.2.{part}": processor.conditions[spec.name]
        for index, spec in enumerate(config.feedback)  # empty if the target is `TAKEN`, which has no vocabulary
        if spec.name in processor.conditions  # buckets have no vocabulary
        for part in ("weight", "bias")
    }
    return tables | heads
