"""The `fusion` part of `metrics.json`: whether knowledge was used, what it gains on the validation rows, and why it may not."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openlum.evaluation.comparison import compare_auc
from openlum.evaluation.methods import WITH_KNOWLEDGE
from openlum.rank.batches import RankingData
from openlum.rank.rankers import AnyRanker
from openlum.rank.rankers.late_fusion import LateFusionRanker


def fusion_summary(
    rankers: Mapping[str, Sequence[AnyRanker]], valid: Mapping[str, Sequence[np.ndarray]], data: RankingData
) -> dict[str, Any]:
    """Return the part, or nothing if no ranker reads knowledge.

    Args:
        rankers: name to the trained rankers, one per seed.
        valid: name to the predictions of the validation rows, (I,) per seed.
        data: with knowledge.
    """
    names = [name for name in rankers if name.endswith(WITH_KNOWLEDGE)]
    if not names:
        return {}
    by_name = {
        name: _late(rankers[name])
        if isinstance(rankers[name][0], LateFusionRanker)
        else _early(valid[name], valid[name.removesuffix(WITH_KNOWLEDGE)], data)
        for name in names
    }
    return {"fusion": {"rankers": by_name, "rows": _rows(data)}}


def _late(rankers: Sequence[AnyRanker]) -> dict[str, Any]:
    """Return the decisions of late fusion, one per seed."""
    decisions = [ranker.late.decision for ranker in rankers if isinstance(ranker, LateFusionRanker)]
    return {
        "how": "late",
        "metric": decisions[0].metric,
        "kept": [decision.kept for decision in decisions],
        "gain": [decision.gain for decision in decisions],
        "p_value": [decision.p_value for decision in decisions],
    }


def _early(with_knowledge: Sequence[np.ndarray], plain: Sequence[np.ndarray], data: RankingData) -> dict[str, Any]:
    """Return what knowledge as an input gains on the validation rows, over all seeds. The p-value is two-sided."""
    rows = data.rows["valid"]
    comparison = compare_auc(rows.label.numpy(), rows.user.numpy(), rows.item.numpy(), with_knowledge, plain)
    return {"how": "early", "metric": "auc", "gain": [comparison.difference], "p_value": [comparison.p_value]}


def _rows(data: RankingData) -> dict[str, float]:
    """Return what is known of the validation rows: why knowledge may not be able to help."""
    rows, valid_time = data.rows["valid"], data.dataset.info.valid_time
    met = np.zeros(len(data.dataset.vocabulary("items")), bool)
    for shard in data.dataset.shards():
        met[shard.sequences.item[shard.sequences.time < valid_time]] = True
    return {
        "new_items": float((~met[rows.item.numpy()]).mean()),
        "median_history": float(np.median(rows.prefix.numpy())),
    }
