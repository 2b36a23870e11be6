"""Attention compared with loops over single tokens and heads."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openlum.model import attention
from openlum.model.attention import (
    HIDDEN,
    causal_attention,
    pointwise_attention,
    question_attention,
    relative_bias,
)
from openlum.model.plan import HistoryPlan, QuestionPlan

H, WIDTH = 2, 3
LENGTHS = [4, 0, 1, 12, 3]
"""Number of tokens of each user."""
QUESTIONS = [3, 2, 1, 4, 0]
"""Number of questions of each user."""
P = 15
"""Number of relative positions, more than any user has tokens."""


def random_tensor(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def offsets() -> Tensor:
    return torch.tensor([0, *LENGTHS]).cumsum(0)


def attend(q: Tensor, keys: list[Tensor], values: list[Tensor], bias: list[Tensor] | None) -> Tensor:
    """Return the attention of one query (d,) over keys and values (d,) each: softmax, or HSTU with a bias for each key."""
    if bias is None:
        weights = torch.stack([q @ key / len(q) ** 0.5 for key in keys]).softmax(0)
    else:
        weights = torch.stack([F.silu(q @ key + key_bias) for key, key_bias in zip(keys, bias, strict=True)])
    return sum((weight * value for weight, value in zip(weights, values, strict=True)), torch.zeros_like(q))


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("positions", [1, 5, 8])
def test_relative_bias_is_the_bias_of_the_distance(positions: int, n: int) -> None:
    bias = random_tensor(H, positions).requires_grad_()
    result = relative_bias(bias, n)
    assert result.shape == (H, positions, n)
    weight = random_tensor(H, positions, n, seed=1)
    expected_gradient = torch.zeros_like(bias)
    for head in range(H):
        for b in range(positions):
            for j in range(n):
                row = positions - 1 - b  # the last query comes first
                assert result[head, row, j] == (bias[head, b - j] if j <= b else HIDDEN)
                if j <= b:
                    expected_gradient[head, b - j] += weight[head, row, j]
    if n:
        torch.testing.assert_close(torch.autograd.grad((result * weight).sum(), bias)[0], expected_gradient)


@pytest.mark.parametrize("max_scores", [attention.MAX_SCORES, 3 * H * max(LENGTHS), 1])
@pytest.mark.parametrize("pointwise", [False, True])
def test_attention_of_tokens_equals_single_loops(
    pointwise: bool, max_scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "MAX_SCORES", max_scores)
    q, k, v = (random_tensor(sum(LENGTHS), H, WIDTH, seed=seed) for seed in range(3))
    bias = random_tensor(H, P, seed=3)
    plan = HistoryPlan(offsets(), q.device)
    result = pointwise_attention(q, k, v, plan, bias) if pointwise else causal_attention(q, k, v, plan)
    assert result.shape == q.shape
    for begin, end in zip(offsets()[:-1].tolist(), offsets()[1:].tolist(), strict=True):
        for token in range(begin, end):
            visible = range(begin, token + 1)
            for head in range(H):
                distance_bias = [bias[head, token - other] for other in visible] if pointwise else None
                keys, values = [k[other, head] for other in visible], [v[other, head] for other in visible]
                torch.testing.assert_close(result[token, head], attend(q[token, head], keys, values, distance_bias))


@pytest.mark.parametrize("max_scores", [attention.MAX_SCORES, 2 * H * max(LENGTHS), 1])
@pytest.mark.parametrize("pointwise", [False, True])
def test_attention_of_questions_equals_single_loops(
    pointwise: bool, max_scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question attends to the tokens of its prefix and to itself, also if questions are computed in chunks."""
    monkeypatch.setattr(attention, "MAX_SCORES", max_scores)
    q, own_k, own_v = (random_tensor(sum(QUESTIONS), H, WIDTH, seed=seed) for seed in range(3))
    k, v = (random_tensor(sum(LENGTHS), H, WIDTH, seed=seed) for seed in (3, 4))
    bias = random_tensor(H, P, seed=5)
    user = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(QUESTIONS))
    prefix = torch.tensor([0, 4, 2, 0, 0, 1, 12, 1, 5, 0])
    plan = QuestionPlan(offsets(), user, prefix)
    result = question_attention(q, (own_k, own_v), (k, v), plan, bias if pointwise else None)
    assert result.shape == q.shape
    for question in range(sum(QUESTIONS)):
        begin, visible = int(offsets()[user[question]]), int(prefix[question])
        for head in range(H):
            keys = [*k[begin : begin + visible, head], own_k[question, head]]
            values = [*v[begin : begin + visible, head], own_v[question, head]]
            # The distance of a question to token j is prefix - j, and to itself 0.
            distance_bias = [bias[head, visible - j] for j in range(visible + 1)] if pointwise else None
            torch.testing.assert_close(result[question, head], attend(q[question, head], keys, values, distance_bias))


def test_no_questions_have_no_answers() -> None:
    q, k = random_tensor(0, H, WIDTH), random_tensor(sum(LENGTHS), H, WIDTH)
    none = torch.zeros(0, dtype=torch.int64)
    assert question_attention(q, (q, q), (k, k), QuestionPlan(offsets(), none, none)).shape == q.shape
