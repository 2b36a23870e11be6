"""Knowledge as features of any PyTorch model (paper, section 3.3: direct use and interest matching).

Shapes: B rows, Q questions, E width of an answer, K width inside, H width of the result.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openlum.arguments.values import shown, whole_number
from openlum.errors import InputError


class KnowledgeFeatures(nn.Module):
    """Answers and a target item's embedding to features that say what the user wants and whether the target is it.

    *Direct*: answers and target are projected, and a gate on each answer's match with the target weighs the questions. *Interest
    matching*: the similarities, standardised, one number a question. The result starts at zero, so that a model which
    has it added to a hidden layer, or joined to its inputs, begins as it was.

    Args:
        questions: Q, how many answers are used directly; 0 for none.
        width: E.
        out: H.
        similarities: how many similarities are used; by default one a question, 0 for none.
        hidden: K.
        dropout: of the projected answers.

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
            raise InputError("questions, similarities: knowledge must be used directly, for matching, or both")
        width, out, hidden = (
            whole_number("width", width, 1),
            whole_number("out", out, 1),
            whole_number("hidden", hidden, 1),
        )
        self.shape = questions, width, similarities
        self.scale = width**0.5  # entries of a unit vector to unit variance
        self.answer = nn.Linear(width, hidden) if questions else None
        self.target = nn.Linear(width, hidden) if questions else None
        self.gate = nn.Linear(hidden, 1) if questions else None
        self.norm = nn.BatchNorm1d(similarities, affine=False) if similarities else None
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(((questions + 2) * hidden if questions else 0) + similarities, out)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, answers: Tensor | None, target: Tensor | None, similarity: Tensor | None = None) -> Tensor:
        """To features, (B, H), in the dtype of the weights.

        Args:
            answers: (B, Q, E), unit length, any floating dtype; not needed for matching alone.
            target: (B, E), unit length; likewise.
            similarity: (B, Q) of each answer to the target; computed from them where it is not given.

        Raises:
            InputError: one that is needed is not given, or has another shape.
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
            asked = self.answer(answers.to(dtype) * self.scale).relu()  # (B, Q, K)
            wanted = self.target(target.to(dtype) * self.scale).relu()  # (B, K)
            match = self.dropout(asked) * wanted.unsqueeze(1)  # (B, Q, K)
            weight = self.gate(match).softmax(1)  # (B, Q, 1): which questions matter for this target
            parts += [match.flatten(1), (weight * asked).sum(1), wanted]
        if self.norm is not None:
            if similarity is None:
                assert answers is not None
                assert target is not None
                fine = torch.promote_types(dtype, torch.float32)
                similarity = (answers.to(fine) @ target.to(fine).unsqueeze(2)).squeeze(2)
            similarity = _checked("similarity", similarity, (len(parts[0]) if parts else None, similarities))
            seen = self.norm.running_mean, self.norm.running_var
            parts.append(F.batch_norm(similarity.to(dtype), *seen, training=self.training and len(similarity) > 1))
        return self.out(torch.cat(parts, 1))


def _checked(name: str, x: Tensor | None, shape: tuple[int | None, ...]) -> Tensor:
    """A tensor of floating dtype with this shape; None stands for any length."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        found = shown(x)
        if isinstance(x, Tensor):
            found = f"one of {x.dtype}; int8 answers are to be divided by their length"
        raise InputError(f"KnowledgeFeatures: {name}: expected a tensor of floating dtype, found {found}")
    if x.dim() != len(shape) or any(n not in (None, size) for n, size in zip(shape, x.shape, strict=True)):
        expected = ", ".join("rows" if n is None else str(n) for n in shape)
        raise InputError(f"KnowledgeFeatures: {name}: expected the shape ({expected}), found {tuple(x.shape)}")
    return x
