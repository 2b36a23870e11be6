"""Checks before a training, so that a mistake is reported before the work starts.

Shapes: U users.
"""

from functools import partial
from pathlib import Path

from openlum.artefact.directory import check_replaceable
from openlum.capacity import check_space, check_training
from openlum.data.dataset import Dataset
from openlum.data.packing import training_end
from openlum.errors import InputError
from openlum.model import ModelSettings, Processor
from openlum.model.settings import TAKEN, feedback_targets
from openlum.pretrain.initialization import untrained_model
from openlum.pretrain.settings import PretrainSettings

ACTIVATIONS = 12
"""Lower bound of the activations that a layer stores per token for the gradient, as a multiple of the model's width."""


def check_pretraining(
    dataset: Dataset, processor: Processor, model: ModelSettings, settings: PretrainSettings, out: Path
) -> None:
    """Raise an error for anything that would stop a training.

    Args:
        dataset: to train on.
        processor: with the vocabularies of the dataset.
        model: hyperparameters of the model.
        settings: settings of the training.
        out: the model directory.

    Raises:
        InputError: if there are no events to train on, `out` has other content, or memory or disk space is too small.
    """
    check_replaceable(out, "model")
    events = users = 0
    for sequences in dataset.groups_of_sequences():  # mostly, the first group has enough
        end = training_end(sequences, dataset.info, settings.protocol)  # (U,)
        events, users = events + int(end.sum()), users + int((end > 0).sum())
        if events >= settings.batch_events and users > 1:
            break
    predicts_taken = TAKEN in feedback_targets(dataset.specs("condition"))
    check_events(dataset, events, users, needs_other_users=settings.feedback_prediction_weight > 0 and predicts_taken)
    tokens = 2 * min(settings.batch_events, events)
    needed = check_training(
        partial(untrained_model, dataset, processor, model),
        f"a model ({tokens:,} tokens per step)",
        "lower model.width, model.layers, model.embedding_width, model.field_width or pretrain.batch_events",
        activations=tokens * model.width * model.layers * ACTIVATIONS,
    )
    check_space(out, needed, "a model of this size, with its checkpoint,")


def check_events(dataset: Dataset, events: int, users: int, needs_other_users: bool) -> None:
    """Raise an error if there are no events to train on.

    Args:
        dataset: to train on.
        events: number of training events.
        users: number of users with training events.
        needs_other_users: whether the training draws time-matched negatives from the events of other users.

    Raises:
        InputError: there are no training events, or all training events are of one user although negatives need a second user.
    """
    if not events:
        raise InputError(f"{dataset.path}: no event lies in the training period; check 'splits' in the schema")
    if needs_other_users and users < 2:
        raise InputError(
            f"{dataset.path}: all training events are of one user, but feedback prediction without feedback fields "
            "needs the events of other users as negatives; set pretrain.feedback_prediction_weight to 0"
        )
