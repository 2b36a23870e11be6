"""Validation metrics compared with plain computations."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from openlum.data.dataset import Dataset
from openlum.model.pointer import Copies
from openlum.pretrain.initialization import build_model
from openlum.pretrain.validation import _rank_and_loss, validate, validation_set

from .golden import SHAPE

NO_COPIES = Copies(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64), torch.empty(0))


def test_rank_and_loss_equal_plain_computations() -> None:
    torch.manual_seed(0)
    o, e, target = torch.randn(200, 8), torch.randn(60, 8), torch.randint(1, 60, (200,))
    rank, loss = _rank_and_loss(o, e, target, torch.tensor(2.0), NO_COPIES)
    logits = 2 * o @ e[1:].T
    best = logits.topk(10).indices + 1
    assert ((rank <= 10) == (best == target[:, None]).any(1)).all()
    plain = torch.nn.functional.cross_entropy(logits, target - 1)
    assert float(loss.mean()) == pytest.approx(float(plain), rel=1e-5)


def test_copies_raise_items_of_the_history_in_every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openlum.pretrain.validation.positions_per_chunk", lambda e: 7)
    torch.manual_seed(0)
    o, e, target = torch.randn(50, 8), torch.randn(60, 8), torch.randint(1, 60, (50,))
    copies = Copies(torch.arange(50).repeat(2), torch.cat([target, torch.randint(1, 60, (50,))]), torch.randn(100) + 9)
    rank, loss = _rank_and_loss(o, e, target, torch.tensor(2.0), copies)
    weights = (2 * o @ e.T).exp()
    weights.index_put_((copies.question, copies.item), copies.score.exp(), accumulate=True)
    plain = -(weights[:, 1:] / weights[:, 1:].sum(1, keepdim=True)).log().gather(1, target[:, None] - 1)[:, 0]
    torch.testing.assert_close(loss, plain)
    weights = weights[:, 1:]
    assert rank.equal((weights >= weights.gather(1, target[:, None] - 1)).sum(1))  # equals count as ranked before


def test_rank_and_loss_of_no_events_are_empty() -> None:
    rank, loss = _rank_and_loss(
        torch.empty(0, 8), torch.randn(6, 8), torch.empty(0, dtype=torch.int64), torch.tensor(1.0), NO_COPIES
    )
    assert len(rank) == len(loss) == 0


def test_the_order_of_events_in_a_second_changes_no_metric(small_dataset: Dataset) -> None:
    """Questions see the events of earlier seconds. For a retrieval model, the order within a second counts."""
    model = build_model(small_dataset, SHAPE, seed=0)
    torch.nn.init.normal_(model.network.last.weight)  # in a new model, questions ignore the history
    validation = validation_set(Dataset(small_dataset.path), "time", 1000, 10**6, 0)
    sequences = validation.sequences
    unchanged = validate(model, validation, 64)
    rng, order = np.random.default_rng(0), np.arange(len(sequences.time))
    first = (
        sequences.offsets[validation.spans.user_index] + validation.first_evaluated
    )  # the evaluated events of a user get the same second
    for begin, end in zip(first, sequences.offsets[validation.spans.user_index] + validation.spans.end, strict=True):
        sequences.moment_start[begin:end] = begin
        sequences.time[begin:end] = sequences.time[begin]
        order[begin:end] = rng.permutation(order[begin:end])
    one_second = validate(model, validation, 64)
    shuffled = replace(
        sequences, item=sequences.item[order], condition={n: f[order] for n, f in sequences.condition.items()}
    )
    shuffled_validation = replace(validation, sequences=shuffled)
    assert validate(model, shuffled_validation, 64) == pytest.approx(one_second, abs=1e-5)
    model.config = model.config.model_copy(update={"protocol": "last"})
    assert validate(model, shuffled_validation, 64)["item_loss"] != pytest.approx(one_second["item_loss"], abs=1e-5)
    assert one_second["item_loss"] != pytest.approx(unchanged["item_loss"], abs=1e-5)


def test_without_feedback_there_are_no_feedback_metrics(small_dataset: Dataset) -> None:
    dataset = Dataset(small_dataset.path)
    dataset.sequences.condition["rating"][:] = 0
    metrics = validate(build_model(small_dataset, SHAPE, seed=0), validation_set(dataset, "time", 64, 100, 0), 64)
    assert set(metrics) == {"item_loss", "recall@10", "recall@10 any", "ndcg@10", "ndcg@10 any"}
