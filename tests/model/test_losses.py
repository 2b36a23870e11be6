"""The losses against cases computed by hand and against plain implementations."""

import math

import pytest
import torch
import torch.nn.functional as F

from openlum.model import losses as losses
from openlum.model.losses import feedback_contrast_loss, full_softmax_loss, sampled_softmax_loss


def test_full_softmax_by_hand() -> None:
    """Two items (after the unknown one) at similarities 1 and 0, scale 2: -log(e^2 / (e^2 + 1))."""
    e = torch.tensor([[9.0, 9.0], [1.0, 0.0], [0.0, 1.0]])
    loss = full_softmax_loss(torch.tensor([[1.0, 0.0]]), e, torch.tensor([1]), torch.tensor(2.0))
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-2)))


def test_full_softmax_equals_cross_entropy_with_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "LOGITS_AT_ONCE", 200)  # several turns
    torch.manual_seed(0)
    o, e = torch.randn(150, 5, requires_grad=True), torch.randn(20, 5, requires_grad=True)
    scale, target = torch.tensor(3.0, requires_grad=True), torch.randint(1, 20, (150,))
    ours = full_softmax_loss(o, e, target, scale)
    found = torch.autograd.grad(2 * ours, (o, e, scale))
    plain = F.cross_entropy(scale * o @ e[1:].T, target - 1)
    torch.testing.assert_close(ours, plain)
    for one, other in zip(found, torch.autograd.grad(2 * plain, (o, e, scale)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_sampled_softmax_by_hand() -> None:
    """Positive at similarity 1; one negative at 0 that is drawn half of the time, so it counts twice."""
    e = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    drawn = torch.tensor([4, 8]), torch.tensor([0.9, 0.5]).log()
    loss = sampled_softmax_loss(torch.tensor([[1.0, 0.0]]), e, drawn, torch.tensor([0]), torch.tensor(1.0))
    assert float(loss) == pytest.approx(-math.log(math.e / (math.e + 1 / 0.5)))


def test_sampled_softmax_with_every_item_equals_the_full_one() -> None:
    torch.manual_seed(0)
    o, e, target = torch.randn(40, 6), torch.randn(12, 6), torch.randint(1, 12, (40,))
    drawn = torch.arange(1, 12), torch.zeros(11)
    sampled = sampled_softmax_loss(o, e[1:], drawn, target - 1, torch.tensor(1.5))
    torch.testing.assert_close(sampled, full_softmax_loss(o, e, target, torch.tensor(1.5)))


def test_the_unknown_item_is_no_negative() -> None:
    torch.manual_seed(0)
    o, e, target = torch.randn(40, 6), torch.randn(12, 6), torch.randint(1, 12, (40,))
    losses = [
        sampled_softmax_loss(
            o, e[first:], (torch.arange(first, 12), torch.zeros(12 - first)), target - first, torch.tensor(1.5)
        )
        for first in (0, 1)
    ]
    torch.testing.assert_close(losses[0], losses[1])


def test_sampled_softmax_estimates_the_full_one() -> None:
    """Popular items are drawn more often; with the correction that does not bias the sum over the catalogue."""
    torch.manual_seed(0)
    o, e, target = torch.randn(1, 4), torch.randn(300, 4) * 0.5, torch.tensor([7])
    probability = torch.linspace(0.05, 0.9, 300)
    scale, full = torch.tensor(1.0), []
    for _ in range(300):
        drawn = torch.rand(300) < probability
        drawn[0], drawn[7] = False, True
        ids = drawn.nonzero().squeeze(1)
        place = torch.searchsorted(ids, target)
        full.append(sampled_softmax_loss(o, e[ids], (ids, probability[ids].log()), place, scale))
    found = torch.stack(full)
    assert float(found.mean()) == pytest.approx(
        float(full_softmax_loss(o, e, target, scale)), abs=4 * float(found.std()) / 300**0.5 + 0.01
    )


def test_feedback_loss_by_hand() -> None:
    """Values at similarities 1 and -1 to the item, scale 1; the second happened: -log(e^-1 / (e + e^-1))."""
    o = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    loss = feedback_contrast_loss(o, torch.tensor([[1.0, 0.0]]), torch.tensor([1]), torch.tensor(1.0))
    assert float(loss) == pytest.approx(math.log(1 + math.exp(2)))
