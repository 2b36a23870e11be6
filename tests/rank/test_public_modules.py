"""The modules of `openlum.rank` that users import."""

import openlum.evaluation.metrics
import openlum.rank.features
import openlum.rank.fusion
import openlum.rank.metrics


def test_metrics_are_importable_from_rank_and_from_evaluation() -> None:
    for name in ("auc", "gauc", "log_loss", "metrics", "normalised_entropy"):
        assert getattr(openlum.rank.metrics, name) is getattr(openlum.evaluation.metrics, name)


def test_features_and_fusion_are_importable_from_rank() -> None:
    assert callable(openlum.rank.features.KnowledgeFeatures)
    for name in ("calibration", "cross_fit", "fit_fusion", "fused_inputs", "with_probabilities"):
        assert callable(getattr(openlum.rank.fusion, name))
