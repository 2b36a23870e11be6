"""`sasrec` and `hstu` as end-to-end retrieval: a causal model over item tokens alone that predicts the next item.

SASRec (Kang and McAuley 2018) with the full softmax, and the blocks of HSTU (Zhai et al. 2024) in its place. Everything else
is what the Large User Model has: item fields, cosine over a learned temperature, flat runs of tokens, the optimiser.

Shapes: B users, L events of all users end to end, n users, D width, E width of an item, V items.
"""

import copy
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from openlum.capacity import check_training
from openlum.config import Settings
from openlum.data.dataset import Dataset
from openlum.data.packing import Spans, batches, training_end, training_events, training_spans
from openlum.errors import InputError
from openlum.evaluation.ranked_lists import ranking_metrics
from openlum.model.batch import to_tensors
from openlum.model.fields import ItemEncoder
from openlum.model.large_user_model import LARGEST_SCALE, TEMPERATURE, default_device
from openlum.model.losses import full_softmax_loss
from openlum.model.settings import ModelSettings
from openlum.model.user_encoder import UserEncoder
from openlum.retrieve.held_out import HeldOut
from openlum.training.schedule import cosine_rate

WARMUP_STEPS = 200


class SequentialSettings(Settings):
    """How a next-item model is built and trained."""

    model: ModelSettings = ModelSettings()
    """Shape; `model.encoder` says which."""
    epochs: int = Field(30, ge=1, le=1_000_000)
    """Passes over the events, if validation does not stop earlier."""
    batch_events: int = Field(2048, ge=16, le=10**8)
    """Events in a step."""
    learning_rate: float = Field(2e-3, gt=0, le=10)
    """Peak learning rate of AdamW: a line up over 200 steps, then a cosine down to a tenth."""
    weight_decay: float = Field(0.01, ge=0, le=100)
    """Weight decay."""
    patience: int = Field(3, ge=1, le=1_000_000)
    """Stop after this many epochs without a better NDCG@10 on the validation events; the best weights are kept."""


class SequentialModel(nn.Module):
    """Item tokens to a vector in item space at every event.

    Args:
        dataset: whose items there are.
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
        """Embeddings of items, (n, E), unit length; of the whole catalogue, (V, E), where no ids are given."""
        ids = torch.arange(self.item_encoder.rows, device=self.head.weight.device) if ids is None else ids
        return F.normalize(self.item_encoder(ids), dim=-1)

    def forward(self, e: Tensor, item: Tensor, offsets: Tensor) -> Tensor:
        """Embeddings (V, E), items (L,) as rows of them, where users begin (B + 1,), to what comes next, (L, E)."""
        output = self.encoder.encode_history(self.token(F.embedding(item.to(e.device), e)), offsets)[0]
        assert output is not None
        return F.normalize(self.head(output), dim=-1)


def check_sequential(dataset: Dataset, name: str, settings: SequentialSettings) -> None:
    """The next-item model `name` has events to learn from, and fits into memory.

    Raises:
        InputError: it does not.
    """
    if not training_end(dataset, "last").sum():
        raise InputError(f"{dataset.path}: every event is held out, so none is left to train '{name}' on")
    check_training(partial(SequentialModel, dataset, settings.model), f"'{name}'", "lower the widths of its 'model'")


def fit_sequential(
    dataset: Dataset,
    settings: SequentialSettings,
    seed: int,
    epoch_done: Callable[[int, float], None] = lambda e, v: None,
) -> SequentialModel:
    """Train on all events but each user's last two (protocol `last`), on a GPU where there is one.

    The epoch that is best on each user's last event but one is kept.

    Args:
        dataset: from `lum prepare`.
        settings: shape and training.
        seed: of weights, order and dropout.
        epoch_done: called with the number of the epoch and its validation NDCG@10.

    Raises:
        InputError: it diverges.
    """
    torch.manual_seed(seed)
    model = SequentialModel(dataset, settings.model).to(default_device())
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    end, longest = training_end(dataset, "last"), settings.model.max_events
    trained = torch.zeros(model.item_encoder.rows, dtype=torch.bool)  # (V,)
    trained[torch.from_numpy(dataset.sequences.item[training_events(dataset.sequences, end)])] = True
    model.item_encoder.set_trained_items(trained)
    catalogue = model.item_encoder.candidates()
    held_out = HeldOut(dataset, "valid", model.item_encoder.rows, exclude_seen=True)
    per_epoch = len(list(batches(training_spans(end, longest, np.random.default_rng(seed)), settings.batch_events)))
    best, best_epoch, state, step = -1.0, 0, model.state_dict(), 0
    for epoch in range(1, settings.epochs + 1):
        model.train()
        spans = training_spans(end, longest, np.random.default_rng((seed, epoch)))
        for batch in batches(spans, settings.batch_events):
            for group in optimizer.param_groups:
                rate = min((step + 1) / WARMUP_STEPS, cosine_rate(min(step / (settings.epochs * per_epoch), 1)))
                group["lr"] = settings.learning_rate * rate
            loss = _loss(model, dataset, batch, catalogue)
            optimizer.zero_grad()
            if loss is not None:
                if not loss.isfinite():
                    raise InputError(
                        f"{settings.model.encoder}: the loss is {float(loss.detach())} in epoch {epoch}; lower its learning_rate"
                    )
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            step += 1
        reached = ranking_metrics(sequential_ranks(model, dataset, held_out), [10])["ndcg@10"]
        epoch_done(epoch, reached)
        if reached > best:
            best, best_epoch, state = reached, epoch, copy.deepcopy(model.state_dict())
        if epoch - best_epoch >= settings.patience:
            break
    model.load_state_dict(state)
    return model.eval()


@torch.inference_mode()
def sequential_ranks(model: SequentialModel, dataset: Dataset, held_out: HeldOut, batch_users: int = 256) -> np.ndarray:
    """Rank of every user's held-out item, (n,)."""
    model.eval()
    e = model.items()
    ranks = []
    for turn in held_out.turns(batch_users):
        users, cut = held_out.users[turn], held_out.cut[turn]
        begin = np.maximum(cut - model.settings.max_events, 0)
        item, offsets = _items(dataset, Spans(users, begin, cut))
        at = offsets[1:].to(e.device) - 1  # held-out events have something before them
        last = model(e, item, offsets)[at]  # (n, E)
        ranks.append(held_out.rank(turn, last @ e.T))
    return np.concatenate(ranks)


def _loss(model: SequentialModel, dataset: Dataset, batch: Spans, catalogue: Tensor) -> Tensor | None:
    """Cross-entropy of the next item over the catalogue, ids (C,); None where no event of the batch has a next one."""
    item, offsets = _items(dataset, batch)
    item = torch.searchsorted(catalogue.cpu(), item)
    e = model.items(catalogue)
    after = model(e, item, offsets)
    has_next = torch.ones(len(item), dtype=torch.bool)
    has_next[offsets[1:] - 1] = False
    place = has_next.nonzero().squeeze(1)
    place = place[item[place + 1] > 0]
    if not len(place):
        return None
    scale = model.log_scale.exp().clamp(max=LARGEST_SCALE)
    return full_softmax_loss(after[place.to(e.device)], e, item[place + 1].to(e.device), scale)


def _items(dataset: Dataset, spans: Spans) -> tuple[Tensor, Tensor]:
    """Items (L,) of spans, and where each begins, (B + 1,)."""
    index, offsets = spans.events(dataset.sequences)
    return torch.from_numpy(dataset.sequences.item[index]), torch.from_numpy(offsets)
