"""Stack two models without knowledge. This measures how much of a gain comes from stacking alone.

A ranker with late fusion is a ranker, a Large User Model, and a logistic regression that was fitted on the validation rows. Its
lead over a single ranker may come from stacking alone. Its lead over two rankers that are stacked in the same way does not.

Shapes: I rows of a split.
"""

import numpy as np

from openlum.bench.trials import Outcome
from openlum.evaluation.metrics import auc
from openlum.rank.batches import Rows
from openlum.rank.fusion import cross_fit, fused_inputs

STACKED = " & "
"""Separator of the names of two stacked models."""


def stacked_rankers(
    outcomes: dict[str, list[Outcome]], plain: str | None, generative: str, valid: Rows
) -> dict[str, list[Outcome]]:
    """Stack the end-to-end model with the training of its next seed (if there are several seeds), and with the plain ranker.

    Args:
        outcomes: outcomes of all methods, one per seed.
        plain: the ranker without knowledge to stack with, if there is one.
        generative: the end-to-end model.
        valid: the validation rows.

    Returns:
        `A & B` to its outcomes, one per seed. A model that is stacked with itself uses each of its trainings twice. Its spread
        over seeds is therefore smaller than that of independent pairs, and zero with two seeds.
    """
    generative_outcomes = outcomes[generative]
    partners = {}
    if len(generative_outcomes) > 1:
        partners[generative] = [*generative_outcomes[1:], generative_outcomes[0]]
    if plain is not None:
        partners[plain] = outcomes[plain]
    return {
        f"{name}{STACKED}{generative}": [
            _stack(a, b, valid) for a, b in zip(partner_outcomes, generative_outcomes, strict=True)
        ]
        for name, partner_outcomes in partners.items()
    }


def _stack(a: Outcome, b: Outcome, valid: Rows) -> Outcome:
    valid_inputs, test_inputs = (
        fused_inputs(x, fused_inputs(y, np.empty((len(y), 0))))  # (I, 2) logits
        for x, y in ((a.valid, b.valid), (a.test, b.test))
    )
    label = valid.label.numpy()
    fusion, valid_probability = cross_fit(valid_inputs, label, valid.user.numpy())
    return Outcome(
        valid_probability, fusion(test_inputs), auc(label, valid_probability), b.best_epoch, a.seconds + b.seconds
    )
