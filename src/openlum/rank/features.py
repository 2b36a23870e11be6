"""Knowledge as features of any PyTorch model (paper, section 3.3: direct use and interest matching).

Shapes: B rows, Q questions, E width of an answer, K width inside, H width of the result.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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

    Example:
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
        similarities = questions if similarities is None else similarities
        if not questions and not similarities:
            raise ValueError("knowledge must be used directly, for matching, or both")
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
        """To features, (B, H) float32.

        Args:
            answers: (B, Q, E), unit length, any floating dtype; not needed for matching alone.
            target: (B, E), unit length; likewise.
            similarity: (B, Q) of each answer to the target; computed from them where it is not given.
        """
        parts = []
        if self.answer is not None:
            assert self.target is not None
            assert self.gate is not None
            assert answers is not None
            assert target is not None
            asked = self.answer(answers.float() * self.scale).relu()  # (B, Q, K)
            wanted = self.target(target.float() * self.scale).relu()  # (B, K)
            match = self.dropout(asked) * wanted.unsqueeze(1)  # (B, Q, K)
            weight = self.gate(match).softmax(1)  # (B, Q, 1): which questions matter for this target
            parts += [match.flatten(1), (weight * asked).sum(1), wanted]
        if self.norm is not None:
            if similarity is None:
                assert answers is not None
                assert target is not None
                similarity = (answers.float() @ target.float().unsqueeze(2)).squeeze(2)
            seen = self.norm.running_mean, self.norm.running_var
            parts.append(F.batch_norm(similarity, *seen, training=self.training and len(similarity) > 1))
        return self.out(torch.cat(parts, 1))
