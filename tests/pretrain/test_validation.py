"""Validation figures against plain computations."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from openlum.data.dataset import Dataset
from openlum.pretrain.initial import build_model
from openlum.pretrain.validation import _recall_and_loss, validate, validation_set

from .golden import SHAPE


def test_recall_and_loss_equal_plain_ones() -> None:
    torch.manual_seed(0)
    o, e, target = torch.randn(200, 8), torch.randn(60, 8), torch.randint(1, 60, (200,))
    recall, loss = _recall_and_loss(o, e, target, torch.tensor(2.0))
    logits = 2 * o @ e[1:].T
    best = logits.topk(10).indices + 1
    assert float(recall.mean()) == pytest.approx(float((best == target[:, None]).any(1).float().mean()))
    plain = torch.nn.functional.cross_entropy(logits, target - 1)
    assert float(loss.mean()) == pytest.approx(float(plain), rel=1e-5)


def test_no_events_give_no_figures() -> None:
    recall, loss = _recall_and_loss(
        torch.empty(0, 8), torch.randn(6, 8), torch.empty(0, dtype=torch.int64), torch.tensor(1.0)
    )
    assert len(recall) == len(loss) == 0


def test_the_order_of_events_in_a_second_changes_no_figure(small_dataset: Dataset) -> None:
    """Each is judged by what came in earlier seconds; but the order counts where the model is for retrieval."""
    model = build_model(small_dataset, SHAPE, seed=0)
    torch.nn.init.normal_(model.last.weight)  # a new model's questions know of no history
    dataset = Dataset(small_dataset.path)
    sequences = dataset.sequences
    chosen = validation_set(dataset, "time", 1000, 10**6, 0)
    usual = validate(model, dataset, chosen, 64)
    rng, within = np.random.default_rng(0), np.arange(len(sequences.time))
    last = sequences.offsets[chosen.spans.user_index] + chosen.first  # the judged events of each user are one second
    for begin, end in zip(last, sequences.offsets[chosen.spans.user_index] + chosen.spans.end, strict=True):
        sequences.moment[begin:end] = begin
        within[begin:end] = rng.permutation(within[begin:end])
    one_second = validate(model, dataset, chosen, 64)
    shuffled = replace(
        sequences, item=sequences.item[within], condition={n: f[within] for n, f in sequences.condition.items()}
    )
    dataset.__dict__["sequences"] = shuffled
    assert validate(model, dataset, chosen, 64) == pytest.approx(one_second, abs=1e-5)
    model.config = model.config.model_copy(update={"protocol": "last"})
    assert validate(model, dataset, chosen, 64)["item_loss"] != pytest.approx(one_second["item_loss"], abs=1e-5)
    assert one_second["item_loss"] != pytest.approx(usual["item_loss"], abs=1e-5)


def test_a_batch_without_feedback_is_no_failure(small_dataset: Dataset) -> None:
    """Items are still looked for, and no figure of feedback is made up."""
    dataset = Dataset(small_dataset.path)
    dataset.sequences.condition["rating"][:] = 0
    figures = validate(
        build_model(small_dataset, SHAPE, seed=0), dataset, validation_set(dataset, "time", 64, 100, 0), 64
    )
    assert set(figures) == {"item_loss", "recall@10", "recall@10 any"}
