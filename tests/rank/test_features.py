"""Knowledge as input features of any network, in any precision."""

from typing import Any

import pytest
import torch

from openlum.errors import InputError
from openlum.rank.features import KnowledgeFeatures

B, Q, E, H = 6, 3, 8, 5
SHAPES = [{}, {"similarities": 0}, {"questions": 0, "similarities": Q}]
"""Direct use and matching, direct use only, matching only."""


def features(seed: int = 0, **changed: Any) -> KnowledgeFeatures:
    torch.manual_seed(seed)
    module = KnowledgeFeatures(**{"questions": Q, "width": E, "out": H} | changed)
    torch.nn.init.normal_(module.out.weight)  # its initial value is zero
    return module


def unit(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape), dim=-1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("input_dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_every_precision_gives_nearly_the_same_output(
    shape: dict[str, Any], training: bool, dtype: torch.dtype, input_dtype: torch.dtype
) -> None:
    precise, coarse = features(**shape).train(training), features(**shape).to(dtype).train(training)
    answers, target = unit(B, Q, E).to(input_dtype), unit(B, E).to(input_dtype)
    output = coarse(answers, target)
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), precise(answers, target), atol=0.15, rtol=0.1)
    similarity = (answers.float() @ target.float().unsqueeze(2)).squeeze(2)
    assert coarse(answers, target, similarity.to(input_dtype)).isfinite().all()
    output.sum().backward()
    assert all(p.grad.isfinite().all() for p in coarse.parameters() if p.grad is not None)


@pytest.mark.parametrize("rows", [0, 1])
def test_zero_rows_and_one_row_have_features(rows: int) -> None:
    assert features()(unit(rows, Q, E), unit(rows, E)).shape == (rows, H)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, unit(B, E)), "answers: expected a tensor of floating dtype, found None"),
        ((unit(B, Q, E), None), "target: expected a tensor of floating dtype, found None"),
        ((unit(B, Q, E).numpy(), unit(B, E)), "answers: expected a tensor"),
        ((torch.ones(B, Q, E, dtype=torch.int8), unit(B, E)), "answers: .*torch.int8; divide int8 answers"),
        ((unit(B, Q + 1, E), unit(B, E)), r"answers: expected the shape \(rows, 3, 8\), found \(6, 4, 8\)"),
        ((unit(B, E), unit(B, E)), r"answers: expected the shape \(rows, 3, 8\), found \(6, 8\)"),
        ((unit(B, Q, E), unit(B + 1, E)), r"target: expected the shape \(6, 8\), found \(7, 8\)"),
        ((unit(B, Q, E), unit(B, E), unit(B, Q + 1)), r"similarity: expected the shape \(6, 3\), found \(6, 4\)"),
        ((unit(B, Q, E), unit(B, E), unit(B + 1, Q)), r"similarity: expected the shape \(6, 3\), found \(7, 3\)"),
    ],
)
def test_wrong_inputs_are_named(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        features()(*arguments)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"questions": 0}, "use answers directly, similarities for matching, or both"),
        ({"questions": -1}, "questions: expected a whole number of at least 0"),
        ({"width": 0}, "width: expected a whole number of at least 1"),
        ({"out": 2.0}, "out: expected a whole number"),
        ({"similarities": True}, "similarities: expected a whole number"),
    ],
)
def test_wrong_sizes_are_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        features(**changed)
