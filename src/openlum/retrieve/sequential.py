"""`sasrec` and `hstu` as end-to-end retrieval: a causal model over item tokens that predicts the next item.

`sasrec` is SASRec (Kang and McAuley 2018) with the full softmax. `hstu` has the blocks of HSTU (Zhai et al. 2024) in place of the
transformer blocks. Everything else is the same as in the Large User Model: item fields, cosine over a learned temperature, flat
runs of tokens, the optimiser.

Shapes: B users, L events of all users end to end, n users, D width, E width of an item, V items.
"""

import copy
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openlum.capacity import check_training
from openlum.data.dataset import Dataset
from openlum.data.packing import Spans, batches, training_end, training_events, training_spans
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
from openlum.retrieve.held_out import HeldOut, all_held_out
from openlum.retrieve.plan import plan_sequential_for
from openlum.retrieve.settings import SequentialSettings
from openlum.training.schedule import cosine_rate

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
    if not training_end(dataset.sequences, dataset.info, "last").sum():
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
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    end, longest = training_end(dataset.sequences, dataset.info, "last"), settings.model.max_events
    trained = torch.zeros(model.item_encoder.rows, dtype=torch.bool)  # (V,)
    trained[torch.from_numpy(dataset.sequences.item[training_events(dataset.sequences, end)])] = True
    model.item_encoder.set_trained_items(trained)
    catalogue = model.item_encoder.candidates()
    held_out = all_held_out(dataset, "valid", model.item_encoder.rows, exclude_seen=True)
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
                        f"{settings.model.encoder}: diverged, the loss is {float(loss.detach())} in epoch {epoch}; "
                        "lower its learning_rate"
                    )
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            step += 1
        valid_ndcg = retrieval_metrics(sequential_ranks(model, dataset, held_out), [10])["ndcg@10"]
        epoch_done(epoch, valid_ndcg)
        if valid_ndcg > best:
            best, best_epoch, state = valid_ndcg, epoch, copy.deepcopy(model.state_dict())
        if epoch - best_epoch >= settings.patience:
            break
    model.load_state_dict(state)
    return model.eval()


@torch.inference_mode()
def sequential_ranks(model: SequentialModel, dataset: Dataset, held_out: HeldOut, batch_users: int = 256) -> np.ndarray:
    """Return the rank of every user's held-out item, (n,)."""
    model.eval()
    e = model.items()
    ranks = []
    for batch in held_out.batches(batch_users):
        user_index, cut = held_out.user_index[batch], held_out.cut[batch]
        start = np.maximum(cut - model.settings.max_events, 0)
        item, offsets = _items(dataset, Spans(user_index, start, cut))
        last_event = offsets[1:].to(e.device) - 1  # every held-out event has an event before it
        prediction = model(e, item, offsets)[last_event]  # (n, E)
        ranks.append(held_out.rank(batch, prediction @ e.T))
    return np.concatenate(ranks)


def _loss(model: SequentialModel, dataset: Dataset, batch: Spans, catalogue: Tensor) -> Tensor | None:
    """Return the cross-entropy of the next item over the catalogue, ids (C,), or None if no event of the batch has a next
    item."""
    item, offsets = _items(dataset, batch)
    item = torch.searchsorted(catalogue.cpu(), item)
    e = model.items(catalogue)
    prediction = model(e, item, offsets)  # (L, E)
    has_next = torch.ones(len(item), dtype=torch.bool)
    has_next[offsets[1:] - 1] = False
    event = has_next.nonzero().squeeze(1)
    event = event[item[event + 1] > 0]
    if not len(event):
        return None
    scale = model.log_scale.exp().clamp(max=LARGEST_SCALE)
    return full_softmax_loss(prediction[event.to(e.device)], e, item[event + 1].to(e.device), scale)


def _items(dataset: Dataset, spans: Spans) -> tuple[Tensor, Tensor]:
    """Return the items of spans, (L,), and the start of each span, (B + 1,)."""
    index, offsets = spans.events(dataset.sequences)
    return torch.from_numpy(dataset.sequences.item[index].astype(np.int64)), torch.from_numpy(offsets)
