"""Knowledge as input features of any PyTorch model (LUM paper, section 3.3: direct use and interest matching).

Shapes: B rows, Q questions, E width of an answer, K hidden width, H output width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openlum.arguments.values import shown, whole_number
from openlum.errors import InputError


class KnowledgeFeatures(nn.Module):
    """A module that turns answers and the target item's embedding into features for a ranker.

    *Direct use*: answers and target are projected, and a gate weighs the questions by each answer's match with the target.
    *Interest matching*: the similarities are standardised and used as one number per question. The output layer starts at zero.
    A model that adds the features to a hidden layer, or appends them to its inputs, therefore starts with unchanged predictions.

    Args:
        questions: Q, the number of answers for direct use; 0 for none.
        width: E.
        out: H.
        similarities: number of similarities for interest matching; by default Q, 0 for none.
        hidden: K.
        dropout: dropout of the projected answers.

    Examples:
        >>> knowledge = KnowledgeFeatures(questions=5, width=64, out=128)
        >>> answers, target = torch.randn(32, 5, 64), torch.randn(32, 64)
        >>> knowledge(answers, target).shape
        torch.Size([32, 128])
    """

    def __init__(
        self,
        questions: int,
        width: int,
        out: int,
        *,
        similarities: int | None = None,
        hidden: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        questions = whole_number("questions", questions, 0)
        similarities = questions if similarities is None else whole_number("similarities", similarities, 0)
        if not questions and not similarities:
            raise InputError(
                "questions, similarities: both are 0; use answers directly, similarities for matching, or both"
            )
        width, out, hidden = (
            whole_number("width", width, 1),
            whole_number("out", out, 1),
            whole_number("hidden", hidden, 1),
        )
        self.shape = questions, width, similarities
        self.scale = width**0.5  # scales the entries of a unit vector to unit variance
        self.answer = nn.Linear(width, hidden) if questions else None
        self.target = nn.Linear(width, hidden) if questions else None
        self.gate = nn.Linear(hidden, 1) if questions else None
        self.norm = nn.BatchNorm1d(similarities, affine=False) if similarities else None
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(((questions + 2) * hidden if questions else 0) + similarities, out)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, answers: Tensor | None, target: Tensor | None, similarity: Tensor | None = None) -> Tensor:
        """Return features, (B, H), in the dtype of the weights.

        Args:
            answers: (B, Q, E), unit length, any floating dtype; may be None if only `similarity` is used.
            target: (B, E), unit length; may be None if only `similarity` is used.
            similarity: (B, Q) similarity of each answer to the target; by default computed from `answers` and `target`.

        Raises:
            InputError: a needed tensor is missing or has a wrong shape.
        """
        questions, width, similarities = self.shape
        dtype, parts = self.out.weight.dtype, []
        if questions or similarity is None:
            answers = _checked("answers", answers, (None, questions or similarities, width))
            target = _checked("target", target, (len(answers), width))
        if self.answer is not None:
            assert self.target is not None
            assert self.gate is not None
            assert answers is not None
            assert target is not None
            projected = self.answer(answers.to(dtype) * self.scale).relu()  # (B, Q, K)
            projected_target = self.target(target.to(dtype) * self.scale).relu()  # (B, K)
            match = self.dropout(projected) * projected_target.unsqueeze(1)  # (B, Q, K)
            weight = self.gate(match).softmax(1)  # (B, Q, 1): weight of each question for this target
            parts += [match.flatten(1), (weight * projected).sum(1), projected_target]
        if self.norm is not None:
            if similarity is None:
                assert answers is not None
                assert target is not None
                precise = torch.promote_types(dtype, torch.float32)
                similarity = (answers.to(precise) @ target.to(precise).unsqueeze(2)).squeeze(2)
            similarity = _checked("similarity", similarity, (len(parts[0]) if parts else None, similarities))
            running = self.norm.running_mean, self.norm.running_var
            use_batch = self.training and len(similarity) > 1
            parts.append(F.batch_norm(similarity.to(dtype), *running, training=use_batch))
        return self.out(torch.cat(parts, 1))


def _checked(name: str, x: Tensor | None, shape: tuple[int | None, ...]) -> Tensor:
    """Return `x` if it has a floating dtype and this shape, in which None stands for any length.

    Raises:
        InputError: `x` is not such a tensor.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        actual = shown(x)
        if isinstance(x, Tensor):
            actual = f"dtype {x.dtype}; divide int8 answers by their length first"
        raise InputError(f"KnowledgeFeatures: {name}: expected a tensor of floating dtype, found {actual}")
    if x.dim() != len(shape) or any(n not in (None, size) for n, size in zip(shape, x.shape, strict=True)):
        expected = ", ".join("rows" if n is None else str(n) for n in shape)
        raise InputError(f"KnowledgeFeatures: {name}: expected the shape ({expected}), found {tuple(x.shape)}")
    return x
