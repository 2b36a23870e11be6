"""`sasrec` and `hstu` as end-to-end retrieval: a causal model over item tokens that predicts the next item.

`sasrec` is SASRec (Kang and McAuley 2018) with the full softmax. `hstu` has the blocks of HSTU (Zhai et al. 2024) in place of the
transformer blocks. Everything else is the same as in the Large User Model: item fields, cosine over a learned temperature, flat
runs of tokens, the optimiser.

Shapes: B users, L events of all users end to end, n users, D width, E width of an item, V items, C items to predict.
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openlum.capacity import check_training
from openlum.data.dataset import Dataset
from openlum.data.loader import TrainingLoader
from openlum.data.packing import Spans, training_end
from openlum.data.sequences import Sequences
from openlum.errors import InputError
from openlum.evaluation.retrieval_metrics import retrieval_metrics
from openlum.model.batch import to_tensors
from openlum.model.fields import ItemEncoder
from openlum.model.initialisation import TEMPERATURE
from openlum.model.large_user_model import default_device
from openlum.model.losses import full_softmax_loss
from openlum.model.network import LARGEST_SCALE
from openlum.model.settings import ModelSettings
from openlum.model.user_encoder import UserEncoder
from openlum.retrieve.held_out import HeldOut, Split, excludes_seen, no_held_out_event
from openlum.retrieve.plan import plan_sequential_for
from openlum.retrieve.settings import SequentialSettings
from openlum.training.loop import BatchLoss, LoopSettings, TrainingLoop, Validation
from openlum.training.schedule import cosine_rate
from openlum.training.training_set import count_training_set

WARMUP_STEPS = 200


class SequentialModel(nn.Module):
    """A model from item tokens to a vector in item space at every event.

    Args:
        dataset: gives the items and their fields.
        settings: shape.
    """

    def __init__(self, dataset: Dataset, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        items = len(dataset.vocabulary("items"))
        self.item_encoder = ItemEncoder(
            dataset.specs("item"), items, settings.field_width, settings.embedding_width, settings.id_dropout
        )
        self.item_encoder.set_features(to_tensors(dataset.item_features()))
        self.token = nn.Linear(settings.embedding_width, settings.width)
        self.encoder = UserEncoder(settings)
        self.head = nn.Linear(settings.width, settings.embedding_width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(TEMPERATURE)))

    def items(self, ids: Tensor | None = None) -> Tensor:
        """Return embeddings of items, (n, E), unit length; by default of the whole catalogue, (V, E)."""
        ids = torch.arange(self.item_encoder.rows, device=self.head.weight.device) if ids is None else ids
        return F.normalize(self.item_encoder(ids), dim=-1)

    def forward(self, e: Tensor, item: Tensor, offsets: Tensor) -> Tensor:
        """Return predictions of the next item, (L, E), at every event.

        Args:
            e: (V, E) item embeddings.
            item: (L,) row in `e` of each event's item.
            offsets: (B + 1,) start of each user's events.
        """
        output = self.encoder.encode_history(self.token(F.embedding(item.to(e.device), e)), offsets)[0]
        assert output is not None
        return F.normalize(self.head(output), dim=-1)


def check_sequential(dataset: Dataset, name: str, settings: SequentialSettings) -> None:
    """Check that the next-item model `name` has events to train on, and fits into memory.

    Raises:
        InputError: every event is held out, or the model does not fit.
    """
    if not any(training_end(sequences, dataset.info, "last").any() for sequences in dataset.groups_of_sequences()):
        raise InputError(f"{dataset.path}: every event is held out, so no event is left to train '{name}' on")
    shape = plan_sequential_for(dataset, settings).model
    check_training(partial(SequentialModel, dataset, shape), f"'{name}'", "lower the widths of its 'model'")


def fit_sequential(
    dataset: Dataset,
    settings: SequentialSettings,
    seed: int,
    epoch_done: Callable[[int, float], None] = lambda epoch, ndcg: None,
) -> SequentialModel:
    """Train on all events but each user's last two (protocol `last`), and return the model. A GPU is used if there is one.

    The weights of the epoch with the best NDCG@10 on each user's second-to-last event are kept.

    Args:
        dataset: from `lum prepare`.
        settings: shape and training.
        seed: of weights, order and dropout.
        epoch_done: called with the number of the epoch and its validation NDCG@10.

    Raises:
        InputError: the training diverges.
    """
    settings = plan_sequential_for(dataset, settings)
    torch.manual_seed(seed)
    model = SequentialModel(dataset, settings.model).to(default_device())
    with tempfile.TemporaryDirectory() as directory:
        _SequentialTraining(model, dataset, settings, seed, epoch_done, Path(directory)).run()
    return model


class _SequentialTraining(TrainingLoop):
    """The training of a next-item model. The arguments are those of `fit_sequential`, and a directory for the best weights."""

    model: SequentialModel
    loader: TrainingLoader

    def __init__(
        self,
        model: SequentialModel,
        dataset: Dataset,
        settings: SequentialSettings,
        seed: int,
        epoch_done: Callable[[int, float], None],
        directory: Path,
    ) -> None:
        self.dataset, self.epoch_done = dataset, epoch_done
        self.exclude_seen = excludes_seen(dataset, model.item_encoder.rows, None)
        loader = TrainingLoader(
            dataset,
            lambda sequences: training_end(sequences, dataset.info, "last"),
            max_events=settings.model.max_events,
            batch_events=settings.batch_events,
            buffer_events=settings.buffer_events,
            seed=seed,
        )
        training_set = count_training_set(loader, model.item_encoder.rows)
        self.total_steps = settings.epochs * training_set.steps_per_epoch
        model.item_encoder.set_trained_items(torch.from_numpy(training_set.item_counts > 0))
        self.catalogue = model.item_encoder.candidates()
        rate, decay = settings.learning_rate, settings.weight_decay
        optimizer = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.98), weight_decay=decay, fused=True)
        limits = LoopSettings(
            settings.epochs,
            settings.patience,
            higher_is_better=True,
            remedy="lower its learning_rate",
            gradient_clip=1.0,
        )
        super().__init__(model, optimizer, limits, directory, loader)

    def batches(self, epoch: int) -> Iterator[Spans]:
        """Yield the batches of the epoch, with spans of the sequences that the loader has open."""
        return self.loader.epoch_batches()

    def loss(self, batch: Spans) -> BatchLoss:
        """Return the cross-entropy of the next item over the catalogue; no loss if no event of the batch has a next item."""
        item, offsets = _items(self.loader.sequences, batch)
        item = torch.searchsorted(self.catalogue.cpu(), item)
        e = self.model.items(self.catalogue)  # (C, E)
        prediction = self.model(e, item, offsets)  # (L, E)
        has_next = torch.ones(len(item), dtype=torch.bool)
        has_next[offsets[1:] - 1] = False
        event = has_next.nonzero().squeeze(1)
        event = event[item[event + 1] > 0]
        if not len(event):
            return BatchLoss(None, len(item))
        scale = self.model.log_scale.exp().clamp(max=LARGEST_SCALE)
        loss = full_softmax_loss(prediction[event.to(e.device)], e, item[event + 1].to(e.device), scale)
        return BatchLoss(loss, len(item))

    def validate(self) -> Validation:
        """Return NDCG@10 on each user's second-to-last event."""
        ranks = sequential_ranks(self.model, self.dataset, "valid", self.exclude_seen)
        return Validation(retrieval_metrics(ranks, [10])["ndcg@10"])

    def rate(self, position: int) -> float:
        """Return the learning rate at a step as a fraction of the peak."""
        return min((position + 1) / WARMUP_STEPS, cosine_rate(min(position / self.total_steps, 1)))

    def on_validation(self, validation: Validation, is_best: bool) -> None:
        """Report the epoch."""
        assert validation.score is not None
        self.epoch_done(self.progress.epoch, validation.score)


def sequential_ranks(
    model: SequentialModel, dataset: Dataset, split: Split, exclude_seen: bool = True, batch_users: int = 256
) -> np.ndarray:
    """Return the rank of every user's held-out item, (n,) by user id. The shards are read some at a time.

    Raises:
        InputError: no user has a held-out event.
    """
    users, ranks = [], []
    for sequences in dataset.groups_of_sequences():
        held_out = HeldOut(sequences, split, model.item_encoder.rows, exclude_seen)
        users.append(held_out.user)
        ranks.append(_ranks(model, held_out, batch_users))
        del held_out, sequences  # leave the memory before the next group is read
    if not sum(map(len, users)):
        raise no_held_out_event(dataset)
    return np.concatenate(ranks)[np.argsort(np.concatenate(users))]


@torch.inference_mode()
def _ranks(model: SequentialModel, held_out: HeldOut, batch_users: int) -> np.ndarray:
    """Return the rank of the held-out item of every user of a group, (n,)."""
    model.eval()
    e = model.items()
    ranks = [np.empty(0, np.int64)]
    for batch in held_out.batches(batch_users):
        user_index, cut = held_out.user_index[batch], held_out.cut[batch]
        start = np.maximum(cut - model.settings.max_events, 0)
        item, offsets = _items(held_out.sequences, Spans(user_index, start, cut))
        last_event = offsets[1:].to(e.device) - 1  # every held-out event has an event before it
        prediction = model(e, item, offsets)[last_event]  # (n, E)
        ranks.append(held_out.rank(batch, prediction @ e.T))
    return np.concatenate(ranks)


def _items(sequences: Sequences, spans: Spans) -> tuple[Tensor, Tensor]:
    """Return the items of spans, (L,), and the start of each span, (B + 1,)."""
    index, offsets = spans.events(sequences)
    return torch.from_numpy(sequences.item[index].astype(np.int64)), torch.from_numpy(offsets)
