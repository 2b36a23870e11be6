"""The losses compared with values computed by hand and with plain implementations."""

import math

import pytest
import torch
import torch.nn.functional as F

from openlum.model import losses as losses_module
from openlum.model.losses import feedback_contrast_loss, full_softmax_loss, sampled_softmax_loss


def test_full_softmax_equals_a_value_computed_by_hand() -> None:
    """Two items, besides the unknown item, have the similarities 1 and 0; the scale is 2: -log(e^2 / (e^2 + 1))."""
    e = torch.tensor([[9.0, 9.0], [1.0, 0.0], [0.0, 1.0]])
    loss = full_softmax_loss(torch.tensor([[1.0, 0.0]]), e, torch.tensor([1]), torch.tensor(2.0))
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-2)))


def test_full_softmax_equals_cross_entropy_with_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses_module, "MAX_LOGITS", 200)  # several chunks
    torch.manual_seed(0)
    o, e = torch.randn(150, 5, requires_grad=True), torch.randn(20, 5, requires_grad=True)
    scale, target = torch.tensor(3.0, requires_grad=True), torch.randint(1, 20, (150,))
    loss = full_softmax_loss(o, e, target, scale)
    gradients = torch.autograd.grad(2 * loss, (o, e, scale))
    plain = F.cross_entropy(scale * o @ e[1:].T, target - 1)
    torch.testing.assert_close(loss, plain)
    for gradient, expected in zip(gradients, torch.autograd.grad(2 * plain, (o, e, scale)), strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-4)


def test_copies_add_to_the_weights_of_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss with copies equals the cross-entropy over the catalogue and a further column of copies, with its gradient."""
    monkeypatch.setattr(losses_module, "MAX_LOGITS", 200)  # several chunks
    torch.manual_seed(0)
    o, e = torch.randn(150, 5, requires_grad=True), torch.randn(20, 5, requires_grad=True)
    target = torch.randint(1, 20, (150,))
    copied = torch.randn(150, requires_grad=True)
    other = torch.randn(150, requires_grad=True)  # copies of other items
    scale = torch.tensor(3.0)
    all_copied = torch.logaddexp(copied, other)
    loss = full_softmax_loss(o, e, target, scale, copied, all_copied)
    logits = scale * o @ e[1:].T
    weights = torch.cat([logits, copied[:, None], other[:, None]], 1).softmax(1)
    plain = -torch.log(weights.gather(1, target[:, None] - 1)[:, 0] + weights[:, -2]).mean()
    torch.testing.assert_close(loss, plain)
    inputs = (o, e, copied, other)
    expected = torch.autograd.grad(plain, inputs, retain_graph=True)
    for gradient, own in zip(torch.autograd.grad(loss, inputs), expected, strict=True):
        torch.testing.assert_close(gradient, own, atol=1e-6, rtol=1e-4)
    candidates = torch.arange(1, 20), torch.zeros(19)
    sampled = sampled_softmax_loss(o, e[1:], candidates, target - 1, scale, copied, torch.logaddexp(copied, other))
    torch.testing.assert_close(sampled, plain)


def test_sampled_softmax_equals_a_value_computed_by_hand() -> None:
    """The positive has the similarity 1. One negative has 0 and is drawn with probability 1/2, so it counts twice."""
    e = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    drawn = torch.tensor([4, 8]), torch.tensor([0.9, 0.5]).log()
    loss = sampled_softmax_loss(torch.tensor([[1.0, 0.0]]), e, drawn, torch.tensor([0]), torch.tensor(1.0))
    assert float(loss) == pytest.approx(-math.log(math.e / (math.e + 1 / 0.5)))


def test_sampled_softmax_with_every_item_equals_full_softmax() -> None:
    torch.manual_seed(0)
    o, e, target = torch.randn(40, 6), torch.randn(12, 6), torch.randint(1, 12, (40,))
    drawn = torch.arange(1, 12), torch.zeros(11)
    sampled = sampled_softmax_loss(o, e[1:], drawn, target - 1, torch.tensor(1.5))
    torch.testing.assert_close(sampled, full_softmax_loss(o, e, target, torch.tensor(1.5)))


def test_the_unknown_item_is_not_a_negative() -> None:
    torch.manual_seed(0)
    o, e, target = torch.randn(40, 6), torch.randn(12, 6), torch.randint(1, 12, (40,))
    losses = [
        sampled_softmax_loss(
            o, e[first:], (torch.arange(first, 12), torch.zeros(12 - first)), target - first, torch.tensor(1.5)
        )
        for first in (0, 1)
    ]
    torch.testing.assert_close(losses[0], losses[1])


def test_sampled_softmax_estimates_full_softmax() -> None:
    """Popular items are drawn more often. With the correction, this does not bias the sum over the catalogue."""
    torch.manual_seed(0)
    o, e, target = torch.randn(1, 4), torch.randn(300, 4) * 0.5, torch.tensor([7])
    probability = torch.linspace(0.05, 0.9, 300)
    scale, samples = torch.tensor(1.0), []
    for _ in range(300):
        drawn = torch.rand(300) < probability
        drawn[0], drawn[7] = False, True
        ids = drawn.nonzero().squeeze(1)
        target_index = torch.searchsorted(ids, target)
        samples.append(sampled_softmax_loss(o, e[ids], (ids, probability[ids].log()), target_index, scale))
    estimates = torch.stack(samples)
    assert float(estimates.mean()) == pytest.approx(
        float(full_softmax_loss(o, e, target, scale)), abs=4 * float(estimates.std()) / 300**0.5 + 0.01
    )


def test_feedback_contrast_equals_a_value_computed_by_hand() -> None:
    """The answers have the similarities 1 and -1 to the item; the second value was observed: -log(e^-1 / (e + e^-1))."""
    o = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    loss = feedback_contrast_loss(o, torch.tensor([[1.0, 0.0]]), torch.tensor([1]), torch.tensor(1.0))
    assert float(loss) == pytest.approx(math.log(1 + math.exp(2)))
