"""Names of the methods and of the metrics that tables and plots compare."""

from collections.abc import Iterable, Mapping
from typing import Any

WITH_KNOWLEDGE = "+knowledge"
"""Suffix of the name of a ranker with knowledge."""
WITH_CONTROL = "+control:"
"""Between the name of a ranker and the name of the control that joins it in place of knowledge."""
WITH_TIER = f"{WITH_KNOWLEDGE}:"
"""Between the name of a ranker and the tier of the knowledge that joins it, if this is not the tier of the settings."""
METRICS = {
    "request_gauc": "AUC in request",
    "request_ndcg": "NDCG@10 in request",
    "auc": "AUC",
    "gauc": "GAUC",
    "logloss": "Log loss",
    "ne": "NE",
}
"""The metrics of rankers in the order of tables, with their names. The first two exist where the log names requests."""


def shown_metrics(rankings: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the `METRICS` that a table of rankers shows: those of requests only if a ranker has them."""
    found = {metric for metrics in rankings for metric in metrics}
    return {metric: name for metric, name in METRICS.items() if metric in found or not metric.startswith("request_")}
