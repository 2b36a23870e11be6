"""Attention against textbook loops, one token and one head at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openlum.model import attention
from openlum.model.attention import causal_attention, pointwise_attention, question_attention, relative

H, WIDTH = 2, 3
LENGTHS = [4, 0, 1, 12, 3]
"""Tokens of each user."""
QUESTIONS = [3, 2, 1, 4, 0]
"""Questions of each user."""
P = 15
"""Relative positions: more than any user has tokens."""


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def offsets() -> Tensor:
    return torch.tensor([0, *LENGTHS]).cumsum(0)


def attend(q: Tensor, keys: list[Tensor], values: list[Tensor], bias: list[Tensor] | None) -> Tensor:
    """One query (d,) over some keys and values (d,) each: softmax, or with a bias for each key the sum of HSTU."""
    if bias is None:
        weights = torch.stack([q @ key / len(q) ** 0.5 for key in keys]).softmax(0)
    else:
        weights = torch.stack([F.silu(q @ key + own) for key, own in zip(keys, bias, strict=True)])
    return sum((weight * value for weight, value in zip(weights, values, strict=True)), torch.zeros_like(q))


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("positions", [1, 5, 8])
def test_relative_is_the_bias_of_the_distance(positions: int, n: int) -> None:
    bias = draw(H, positions).requires_grad_()
    found = relative(bias, n)
    assert found.shape == (H, positions, n)
    weight = draw(H, positions, n, seed=1)
    expected_gradient = torch.zeros_like(bias)
    for head in range(H):
        for b in range(positions):
            for j in range(n):
                assert found[head, b, j] == (bias[head, b - j] if j <= b else 0)
                if j <= b:
                    expected_gradient[head, b - j] += weight[head, b, j]
    if n:
        torch.testing.assert_close(torch.autograd.grad((found * weight).sum(), bias)[0], expected_gradient)


@pytest.mark.parametrize("pointwise", [False, True])
def test_tokens_attend_as_in_the_textbook(pointwise: bool) -> None:
    q, k, v = (draw(sum(LENGTHS), H, WIDTH, seed=seed) for seed in range(3))
    bias = draw(H, P, seed=3)
    found = pointwise_attention(q, k, v, offsets(), bias) if pointwise else causal_attention(q, k, v, offsets())
    assert found.shape == q.shape
    for begin, end in zip(offsets()[:-1].tolist(), offsets()[1:].tolist(), strict=True):
        for token in range(begin, end):
            seen = range(begin, token + 1)
            for head in range(H):
                of_distance = [bias[head, token - other] for other in seen] if pointwise else None
                keys, values = [k[other, head] for other in seen], [v[other, head] for other in seen]
                torch.testing.assert_close(found[token, head], attend(q[token, head], keys, values, of_distance))


@pytest.mark.parametrize("at_once", [attention.SCORES_AT_ONCE, 2 * H * max(LENGTHS), 1])
@pytest.mark.parametrize("pointwise", [False, True])
def test_questions_attend_as_in_the_textbook(pointwise: bool, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the tokens of their prefix and to themselves, also when they are taken in turns."""
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", at_once)
    q, own_k, own_v = (draw(sum(QUESTIONS), H, WIDTH, seed=seed) for seed in range(3))
    k, v = (draw(sum(LENGTHS), H, WIDTH, seed=seed) for seed in (3, 4))
    bias = draw(H, P, seed=5)
    user = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(QUESTIONS))
    prefix = torch.tensor([0, 4, 2, 0, 0, 1, 12, 1, 5, 0])
    found = question_attention(q, (own_k, own_v), (k, v), (LENGTHS, QUESTIONS), prefix, bias if pointwise else None)
    assert found.shape == q.shape
    for question in range(sum(QUESTIONS)):
        begin, seen = int(offsets()[user[question]]), int(prefix[question])
        for head in range(H):
            keys = [*k[begin : begin + seen, head], own_k[question, head]]
            values = [*v[begin : begin + seen, head], own_v[question, head]]
            # A question stands behind what it sees: token j lies prefix - j back, itself 0.
            of_distance = [bias[head, seen - j] for j in range(seen + 1)] if pointwise else None
            torch.testing.assert_close(found[question, head], attend(q[question, head], keys, values, of_distance))


def test_no_questions_have_no_answers() -> None:
    q, k = draw(0, H, WIDTH), draw(sum(LENGTHS), H, WIDTH)
    assert (
        question_attention(q, (q, q), (k, k), (LENGTHS, [0] * len(LENGTHS)), torch.zeros(0, dtype=torch.int64)).shape
        == q.shape
    )
