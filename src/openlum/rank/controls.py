"""Controls: what joins a ranker in place of knowledge, to see how much of a gain comes from something simpler.

Shapes: I rows of a split.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openlum.evaluation.comparison import compare_auc
from openlum.evaluation.methods import WITH_CONTROL, WITH_KNOWLEDGE
from openlum.rank.batches import RankingData
from openlum.rank.counters import counter_scores
from openlum.rank.joining import fit_late_fusion

CONTROLS = {"counters": counter_scores}
"""Name of a control to the function that returns its scores of rows."""
Predictions = Mapping[str, Sequence[np.ndarray]]
"""Ranker to its predictions of a split, (I,), one array per seed."""


def control_predictions(
    data: RankingData, valid: Predictions, test: Predictions
) -> tuple[dict[str, list[np.ndarray]], dict[str, list[np.ndarray]], dict[str, list[bool]]]:
    """Return validation and test predictions of each plain ranker joined with each control of the settings, as late fusion does.

    Also return, for each of them, whether the fusion was kept, by seed.

    Args:
        data: the rows.
        valid: predictions of the validation rows by all rankers.
        test: the same for the test rows.
    """
    rows, settings = data.rows["valid"], data.settings.knowledge
    row_arrays = rows.label.numpy(), rows.user.numpy(), rows.item.numpy()
    joined: tuple[dict[str, list[np.ndarray]], dict[str, list[np.ndarray]], dict[str, list[bool]]] = {}, {}, {}
    for control in data.settings.controls:
        scores = CONTROLS[control](data, ["valid", "test"])
        for plain in [name for name in valid if not name.endswith(WITH_KNOWLEDGE)]:
            for plain_valid, plain_test in zip(valid[plain], test[plain], strict=True):
                late, fused = fit_late_fusion(
                    plain_valid, scores["valid"], *row_arrays, settings.joining, settings.keep
                )
                values = fused, late(plain_test, scores["test"]), late.decision.kept
                for predictions, value in zip(joined, values, strict=True):
                    predictions.setdefault(f"{plain}{WITH_CONTROL}{control}", []).append(value)  # type: ignore[attr-defined]
    return joined


def control_comparisons(data: RankingData, test: Predictions, controls: Predictions) -> list[dict[str, Any]]:
    """Return the comparisons of each control with the plain ranker, and of the ranker with knowledge with the control."""
    rows, comparisons = data.rows["test"], []
    arrays = rows.label.numpy(), rows.user.numpy(), rows.item.numpy()
    for name, predictions in controls.items():
        plain = name.partition(WITH_CONTROL)[0]
        comparisons.append(compare_auc(*arrays, predictions, test[plain]).to_dict(name, plain))
        with_knowledge = plain + WITH_KNOWLEDGE
        if with_knowledge in test:
            comparisons.append(compare_auc(*arrays, test[with_knowledge], predictions).to_dict(with_knowledge, name))
    return comparisons
