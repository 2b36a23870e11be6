"""What a training begins with: a new model, or one with the weights of a model of the same log when it was shorter."""

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

SHAPE = ("encoder", "conditions", "width", "layers", "heads", "embedding_width", "field_width")
"""Settings that decide the shapes of the weights, and what they mean; for `hstu`, whose bias is by position, `max_events` too."""
REMEDY = "'lum prepare --append' keeps the fields and scales of a dataset; or train without --init-from"


def build_model(
    dataset: Dataset,
    settings: ModelSettings,
    seed: int,
    protocol: Protocol = "both",
    trained_on: str = "",
    old: LargeUserModel | None = None,
    feedback_prediction: bool = True,
) -> LargeUserModel:
    """A new model for a dataset's fields and catalogue, with the weights of an `old` one if there is one."""
    torch.manual_seed(seed)
    model = untrained(
        dataset,
        Processor.of(dataset),
        settings,
        protocol=protocol,
        fingerprint=trained_on,
        initialised_from=old.config.fingerprint if old else "",
        trained_on_feedback=feedback_prediction,
    )
    model.item_encoder.set_features(to_tensors(dataset.item_features()))
    if old:
        copy_weights(old, model)
    return model


def untrained(dataset: Dataset, processor: Processor, settings: ModelSettings, **training: Any) -> LargeUserModel:
    """A model for a dataset's fields and catalogue, without the items' features; `training` are further keys of `ModelConfig`."""
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


def starting_point(
    directory: Path, dataset: Dataset, given: ModelSettings, protocol: Protocol
) -> tuple[LargeUserModel, ModelSettings]:
    """Load the model to begin with, and complete the new one's settings by its own.

    Args:
        directory: of the model to begin with.
        dataset: that the new model is for.
        given: settings of the new model; those not set are the old model's.
        protocol: of the new training.

    Raises:
        InputError: the two models cannot share their weights, or the old one was trained on what the new one must not see.
    """
    old = LargeUserModel.load(directory)
    chosen, learned = given.model_dump(exclude_unset=True), old.config.settings.model_dump()
    for key in (*SHAPE, "max_events") if learned["encoder"] == "hstu" else SHAPE:
        if chosen.get(key, learned[key]) != learned[key]:
            raise InputError(
                f"key 'model.{key}': {chosen[key]} was given, but the model in {directory} has {learned[key]}; "
                "leave the key out, or train without --init-from"
            )
    for kind, specs in (("condition", old.config.condition), ("item", old.config.item)):
        check_fields(kind, specs, dataset.specs(kind), REMEDY)
    for spec in old.config.item:
        if spec.in_vocabulary and spec.name not in old.processor.features:
            raise InputError(f"{directory}: has no vocabulary of item field '{spec.name}'; train without --init-from")
    if old.config.protocol not in ("both", protocol):
        raise InputError(
            f"key 'pretrain.protocol': '{protocol}' keeps events from training that the model in {directory} has seen; "
            f"its own was '{old.config.protocol}'"
        )
    if protocol != "last" and (old.config.valid_time or 0) > dataset.info.valid_time:
        raise InputError(
            f"{directory}: was trained on events of this dataset's validation period; move 'splits', or train without "
            "--init-from"
        )
    return old, ModelSettings(**learned | chosen)


@torch.no_grad()
def copy_weights(old: LargeUserModel, model: LargeUserModel) -> None:
    """Copy every weight of `old`, the rows of embedding tables and of judges to the same values, and which items it has met. Rows
    of new values stay."""
    weights, vocabularies = dict(model.named_parameters()), _vocabularies(model)
    former = _vocabularies(old)
    for name, weight in old.named_parameters():
        if name in former:
            ids = torch.from_numpy(vocabularies[name].encode(former[name].values))  # of the old values, from id 1
            kept = (ids > 0).nonzero().squeeze(1)
            unknown = int(name.endswith("table.weight"))  # a table has a row for unknown values, a judge has none
            weights[name][ids[kept] - 1 + unknown] = weight[kept + unknown]
            weights[name][:unknown] = weight[:unknown]
        else:
            weights[name].copy_(weight)
    trained = torch.zeros_like(model.item_encoder.trained_items)
    trained[torch.from_numpy(model.processor.items.encode(old.processor.items.values))] = (
        old.item_encoder.trained_items[1:]
    )
    model.item_encoder.set_trained_items(trained)


def _vocabularies(model: LargeUserModel) -> dict[str, Vocabulary]:
    """Name of the weight of an embedding table, or of a judge's last layer, to its vocabulary, where it has one."""
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
        for index, spec in enumerate(config.feedback)  # `taken` has no vocabulary
        if spec.name in processor.conditions  # nor have buckets
        for part in ("weight", "bias")
    }
    return tables | heads
