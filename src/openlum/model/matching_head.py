"""The matching head: a small network that predicts the feedback to an item from vectors of the user that can be cached.

The user encoder predicts feedback with one question per candidate item, so it must run when a request arrives. The matching head
reads *user vectors* instead: answers that were computed before, last night or after the user's last event. They belong to
questions that are the same for all users: *fixed questions*, each with one feedback value, and *learned questions*, whose tokens
are parameters (the codes of poly-encoders, Humeau et al. 2020). For each candidate, the head computes a mixture of the user
vectors, weighted by the item and the context, and compares it with the item.

The head predicts the feedback, and also the similarities of the item to the answers that the user encoder would give now: to
each fixed question as it is, and to each fixed question in the context of the request. Late fusion joins all these numbers, as it
joins those of the user encoder. A single number, the feedback, keeps less of the gain (docs/experiments/market.md).

Shapes: n candidates, M user vectors, the first F of fixed questions, E width of a vector and of an item embedding, D width of a
context, H heads of width K, R feedback values of all fields.
"""

import math

import torch
from torch import Tensor, nn

from openlum.field_spec import FieldSpec
from openlum.model.batch import Fields, blank
from openlum.model.initialisation import zero_
from openlum.model.processor import Processor

MAX_FIXED = 8
"""Largest number of fixed questions."""
MAX_HEADS, KEY_WIDTH = 4, 16
HIDDEN = 128, 64
"""Widths of the hidden layers."""


class MatchingHead(nn.Module):
    """The matching head: user vectors, an item and a context to feedback logits.

    Args:
        vectors: M.
        fixed: F.
        embedding_width: E.
        context_width: D.
        values: R.
    """

    def __init__(self, vectors: int, fixed: int, embedding_width: int, context_width: int, values: int) -> None:
        super().__init__()
        self.fixed = fixed
        self.heads = math.gcd(MAX_HEADS, embedding_width)
        self.key = nn.Linear(embedding_width, self.heads * KEY_WIDTH, bias=False)
        self.query = nn.Linear(embedding_width + context_width, self.heads * KEY_WIDTH)
        self.context = nn.Linear(context_width, embedding_width)
        features = 4 * embedding_width + vectors + context_width
        first, second = HIDDEN
        self.mlp = nn.Sequential(
            nn.Linear(features, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, values)
        )
        self.correction = nn.Linear(second, 2 * fixed)
        zero_(self.correction.weight)
        zero_(self.correction.bias)

    def forward(self, vectors: Tensor, item: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return feedback logits, (n, R), and similarities to answers, (n, 2 F): of the fixed questions as they are, then in the
        context. They begin as the similarities of the item to the user vectors, which the head learns to correct.

        Args:
            vectors: user vectors, (n, M, E), or (1, M, E) for candidates of one user; of unit length.
            item: (n, E) embeddings of the candidates, of unit length.
            context: (n, D) encoded conditions, or (1, D) for candidates of one request.
        """
        scale = item.shape[1] ** 0.5  # gives the entries of a unit vector the variance 1
        vectors, item = vectors * scale, item * scale
        context = context.expand(item.shape[0], -1)
        key = self.key(vectors).unflatten(2, (self.heads, KEY_WIDTH))  # (n, M, H, K)
        query = self.query(torch.cat([item, context], 1)).unflatten(1, (self.heads, KEY_WIDTH))  # (n, H, K)
        weights = torch.einsum("nhk,nmhk->nhm", query, key * KEY_WIDTH**-0.5).softmax(2)  # (n, H, M)
        mixture = torch.einsum("nhm,nmhe->nhe", weights, vectors.unflatten(2, (self.heads, -1))).flatten(1)  # (n, E)
        similarity = torch.einsum("nme,ne->nm", vectors, item) / scale  # (n, M)
        features = [mixture, mixture * item, item, self.context(context) * item, similarity, context]
        hidden = self.mlp[:-1](torch.cat(features, 1))
        similarities = similarity[:, : self.fixed].repeat(1, 2) / scale + self.correction(hidden)
        return self.mlp[-1](hidden), similarities


def fixed_question_names(specs: list[FieldSpec]) -> list[str]:
    """Return the names of the fixed questions: `any`, and FIELD=ID for the values of the feedback fields, `MAX_FIXED` at most.

    Args:
        specs: the condition fields.
    """
    return ["any", *(f"{spec.name}={value}" for spec, value in _fixed_values(specs))]


def similarity_names(processor: Processor, specs: list[FieldSpec]) -> list[str]:
    """Return the 2 F names of the head's similarities: `similarity.QUESTION` and `similarity_in_context.QUESTION`.

    QUESTION is `any`, or FIELD:VALUE with a feedback value of the log.

    Args:
        processor: of the model.
        specs: the condition fields.
    """
    values = [(spec.name, processor.feedback_values(spec)[value - 1]) for spec, value in _fixed_values(specs)]
    questions = ["any", *(f"{name}:{value}" for name, value in values)]
    return [f"{kind}.{question}" for kind in ("similarity", "similarity_in_context") for question in questions]


def fixed_questions(specs: list[FieldSpec]) -> Fields:
    """Return the condition fields of the fixed questions, in the order of `fixed_question_names`."""
    values = _fixed_values(specs)
    fields = blank(specs, 1 + len(values))
    for row, (spec, value) in enumerate(values, start=1):
        fields[spec.name][row] = value
    return fields


def _fixed_values(specs: list[FieldSpec]) -> list[tuple[FieldSpec, int]]:
    fields = [spec for spec in specs if spec.feedback and spec.type == "categorical"]
    return [(spec, value) for spec in fields for value in range(1, spec.size)][: MAX_FIXED - 1]
