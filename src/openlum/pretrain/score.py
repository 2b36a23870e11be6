"""The score of a validation: by how much the model is good at what it is trained for. The weights with the best score are kept.

The loss is a poor score: it rises with overconfident answers while recall and AUC still rise too.
"""

import math
from collections.abc import Mapping

from openlum.data.packing import Protocol
from openlum.pretrain.validation import NDCG_ANY, POPULARITY, PREDICTED, TOP

LEAST = 0.001
"""With `both`, a purpose counts at least this much. Otherwise the other one would not count where one is not learned yet."""
TIE = 1e-6
"""Weight of the loss in the choice of the weights to keep: it decides between equal scores only."""


def validation_score(protocol: Protocol, metrics: Mapping[str, float]) -> float | None:
    """Return the score of the metrics of a validation; the higher, the better.

    For `last` (retrieval), it is NDCG@10 of the question "what next?". For `time` (ranking), it is `feedback_skill`. For `both`,
    it is the geometric mean of the two: a relative gain of either counts the same. Without predicted feedback, it is NDCG@10 for
    all protocols.

    Args:
        protocol: of the training.
        metrics: from `validate`.

    Returns:
        The score; None if there are no validation events.
    """
    if not metrics:
        return None
    retrieval, ranking = metrics[NDCG_ANY], feedback_skill(metrics)
    if protocol == "last" or ranking is None:
        return retrieval
    return ranking if protocol == "time" else math.sqrt(max(ranking, LEAST) * max(retrieval, LEAST))


def feedback_skill(metrics: Mapping[str, float]) -> float | None:
    """Return twice the AUC of the predicted feedback, less 1, averaged over the feedback fields: 0 by chance, at most 1.

    None if no feedback was predicted, or all events have the same feedback.
    """
    auc = [value for name, value in metrics.items() if name.startswith("auc ") and name.endswith(PREDICTED)]
    return 2 * sum(auc) / len(auc) - 1 if auc else None


def popularity_warning(metrics: Mapping[str, float]) -> str | None:
    """Return a warning if the model finds the next item no better than a list of the most popular items; otherwise None.

    Args:
        metrics: of the kept weights, with the recall of the most popular items.
    """
    if POPULARITY not in metrics:
        return None
    recall, popularity = max(metrics[f"recall@{TOP}"], metrics[f"recall@{TOP} any"]), metrics[POPULARITY]
    if recall > popularity:
        return None
    return (
        f"This model has not learned what users do next: its recall@{TOP} is {recall:.4f} on validation events, and the {TOP} "
        f"most popular items have {popularity:.4f}. Train longer (pretrain.epochs, pretrain.patience), or with more steps "
        "(a smaller pretrain.batch_events)."
    )
