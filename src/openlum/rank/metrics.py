"""The metrics of `openlum.evaluation.metrics`, importable under this name too."""

from openlum.evaluation.metrics import auc, gauc, log_loss, metrics, normalised_entropy

__all__ = ["auc", "gauc", "log_loss", "metrics", "normalised_entropy"]
