"""What can stop a training, found before it begins.

Shapes: U users.
"""

from functools import partial
from pathlib import Path

import numpy as np

from openlum.artefact.directory import check_replaceable
from openlum.capacity import check_space, check_training
from openlum.data.dataset import Dataset
from openlum.data.packing import training_end
from openlum.errors import InputError
from openlum.model import ModelSettings, Processor
from openlum.model.settings import TAKEN, feedback_targets_of
from openlum.pretrain.initial import untrained
from openlum.pretrain.settings import PretrainSettings

ACTIVATIONS = 12
"""Numbers that a layer keeps of a token for the gradient, in widths of the model; it keeps more than these."""


def check_pretraining(
    dataset: Dataset, processor: Processor, model: ModelSettings, settings: PretrainSettings, out: Path
) -> None:
    """Find now what would stop a training.

    Args:
        dataset: to train on.
        processor: its words.
        model: the shape.
        settings: of the training.
        out: the model directory.

    Raises:
        InputError: there is nothing to learn from, `out` holds other things, or memory or disk are not enough.
    """
    check_replaceable(out, "model")
    end = training_end(dataset, settings.protocol)
    check_events(
        dataset,
        end,
        settings.feedback_prediction_weight > 0 and TAKEN in feedback_targets_of(dataset.specs("condition")),
    )
    tokens = 2 * min(settings.batch_events, int(end.sum()))
    needed = check_training(
        partial(untrained, dataset, processor, model),
        f"with {tokens:,} tokens a step a model",
        "lower model.width, model.layers, model.embedding_width, model.field_width or pretrain.batch_events",
        kept=tokens * model.width * model.layers * ACTIVATIONS,
    )
    check_space(out, needed, "a model of this size, with its checkpoint,")


def check_events(dataset: Dataset, end: np.ndarray, others: bool) -> None:
    """There are events to learn from.

    Args:
        dataset: to train on.
        end: (U,) how many of each user's events are learned from.
        others: whether what a user took is learned from what others took.

    Raises:
        InputError: there are none, or of one user alone where there must be others.
    """
    if not end.sum():
        raise InputError(f"{dataset.path}: no event lies in the training period; check 'splits' in the schema")
    if others and (end > 0).sum() < 2:
        raise InputError(
            f"{dataset.path}: one user alone, so nothing to tell what was taken from; set pretrain.feedback_prediction_weight to 0"
        )
