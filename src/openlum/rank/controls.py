"""What joins a ranker in place of the knowledge of the settings: controls, and the other tiers of knowledge.

A control shows how much of a gain comes from something simpler. The other tiers show what a gain needs when a request arrives.

Shapes: I rows of a split, X scores.
"""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from openlum.data.dataset import Split
from openlum.evaluation.comparison import compare_auc
from openlum.evaluation.methods import WITH_CONTROL, WITH_KNOWLEDGE, WITH_TIER
from openlum.rank.batches import RankingData
from openlum.rank.counters import counter_scores
from openlum.rank.fusion import multi_value_feedback, with_probabilities
from openlum.rank.inputs import names_of_tier
from openlum.rank.joining import fit_late_fusion
from openlum.rank.settings import Tier

SPLITS: list[Split] = ["valid", "test"]
"""The fusion is fitted on the first split and used on the second."""
CONTROLS = {"counters": counter_scores}
"""Name of a control to the function that returns its scores of rows."""
Predictions = Mapping[str, Sequence[np.ndarray]]
"""Ranker to its predictions of a split, (I,), one array per seed."""
Scores = dict[str, dict[Split, np.ndarray]]
"""What joins a ranker, as the end of the name of the two together, to its scores of the rows of each split, (I, X)."""


def control_scores(data: RankingData) -> Scores:
    """Return the scores of each control of the settings."""
    return {f"{WITH_CONTROL}{name}": CONTROLS[name](data, SPLITS) for name in data.settings.controls}


def other_tier_scores(data: RankingData) -> Scores:
    """Return the scores of each tier of the knowledge, without the tier of the settings."""
    assert data.knowledge is not None
    names, own = data.knowledge.score_names, data.settings.knowledge.tier
    others = [tier for tier in get_args(Tier) if tier != own and names_of_tier(names, tier)]
    return {f"{WITH_TIER}{tier}": scores_of_tier(data, tier) for tier in others}


def scores_of_tier(data: RankingData, tier: Tier) -> dict[Split, np.ndarray]:
    """Return the scores of a tier that the knowledge has, (I, X) for each split."""
    assert data.knowledge is not None
    all_names = data.knowledge.score_names
    names = names_of_tier(all_names, tier)
    probabilities = multi_value_feedback(names, all_names)
    return {split: with_probabilities(data.scores(data.rows[split], names), names, probabilities) for split in SPLITS}


def joined_predictions(
    data: RankingData, valid: Predictions, test: Predictions, scores: Scores
) -> tuple[dict[str, list[np.ndarray]], dict[str, list[np.ndarray]], dict[str, list[bool]]]:
    """Return validation and test predictions of each plain ranker joined with scores, as late fusion does.

    Also return, for each of them, whether the fusion was kept, by seed.

    Args:
        data: the rows.
        valid: predictions of the validation rows by all rankers.
        test: the same for the test rows.
        scores: from `control_scores` or `other_tier_scores`.
    """
    rows, settings = data.rows["valid"], data.settings.knowledge
    row_arrays = rows.label.numpy(), rows.user.numpy(), rows.item.numpy()
    joined: tuple[dict[str, list[np.ndarray]], dict[str, list[np.ndarray]], dict[str, list[bool]]] = {}, {}, {}
    for ending, by_split in scores.items():
        for plain in [name for name in valid if not name.endswith(WITH_KNOWLEDGE)]:
            for plain_valid, plain_test in zip(valid[plain], test[plain], strict=True):
                late, fused = fit_late_fusion(
                    plain_valid, by_split["valid"], *row_arrays, settings.joining, settings.keep
                )
                values = fused, late(plain_test, by_split["test"]), late.decision.kept
                for predictions, value in zip(joined, values, strict=True):
                    predictions.setdefault(f"{plain}{ending}", []).append(value)  # type: ignore[attr-defined]
    return joined


def joined_comparisons(data: RankingData, test: Predictions, joined: Predictions) -> list[dict[str, Any]]:
    """Return the comparisons of each joined ranker with the plain ranker, and of the ranker with knowledge with it."""
    rows, comparisons = data.rows["test"], []
    arrays = rows.label.numpy(), rows.user.numpy(), rows.item.numpy()
    for name, predictions in joined.items():
        plain = name.partition("+")[0]
        comparisons.append(compare_auc(*arrays, predictions, test[plain]).to_dict(name, plain))
        with_knowledge = plain + WITH_KNOWLEDGE
        if with_knowledge in test:
            comparisons.append(compare_auc(*arrays, test[with_knowledge], predictions).to_dict(with_knowledge, name))
    return comparisons
