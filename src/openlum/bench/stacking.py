"""Two models joined as knowledge joins a ranker: the control for what the joining itself is worth.

A ranker with knowledge is two models and a logistic regression that has seen the validation rows. A lead over one model may be no
more than that; a lead over two models that are joined likewise, without a Large User Model, is not.

Shapes: I rows of a split.
"""

import numpy as np

from openlum.bench.trials import Outcome
from openlum.evaluation.metrics import auc
from openlum.rank.batches import Rows
from openlum.rank.fusion import cross_fit, fused_inputs

STACKED = " & "
"""Between the names of two models that are joined."""


def stacked_rankers(
    found: dict[str, list[Outcome]], plain: str | None, generative: str, valid: Rows
) -> dict[str, list[Outcome]]:
    """The end-to-end model joined with itself of the next seed, where there are several, and with the plain ranker.

    Args:
        found: outcomes of all methods, one a seed.
        plain: the ranker without knowledge that the end-to-end model is joined with, if there is one.
        generative: the end-to-end model.
        valid: the validation rows.

    Returns:
        `A & B` to its outcomes, one a seed. Those of a model joined with itself have each of its trainings twice, so their spread
        over seeds is smaller than that of as many independent pairs, and with two seeds it is none.
    """
    own = found[generative]
    others = {generative: [*own[1:], own[0]]} if len(own) > 1 else {}
    if plain is not None:
        others[plain] = found[plain]
    return {
        f"{name}{STACKED}{generative}": [_stack(a, b, valid) for a, b in zip(other, own, strict=True)]
        for name, other in others.items()
    }


def _stack(a: Outcome, b: Outcome, valid: Rows) -> Outcome:
    on_valid, on_test = (
        fused_inputs(first, fused_inputs(second, np.empty((len(second), 0))))  # (I, 2) logits
        for first, second in ((a.valid, b.valid), (a.test, b.test))
    )
    label = valid.label.numpy()
    fusion, crossed = cross_fit(on_valid, label, valid.user.numpy())
    return Outcome(crossed, fusion(on_test), auc(label, crossed), b.best_epoch, a.seconds + b.seconds)
