"""Validation figures against plain computations."""

import pytest
import torch

from openlum.pretrain.validation import _recall_and_loss


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
