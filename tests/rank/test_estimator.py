"""`KnowledgeFusion` gives the predictions of late fusion in `lum rank`, and is an estimator of scikit-learn."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from openlum.errors import InputError
from openlum.rank.batches import RankingData
from openlum.rank.estimator import KnowledgeFusion
from openlum.rank.rankers.late_fusion import LateFusionRanker
from openlum.rank.train import fit


@pytest.fixture(scope="module")
def plain(data: RankingData) -> Any:
    return fit(data.config("dnn", with_knowledge=False), data, seed=0).ranker


def frame_of(data: RankingData, split: Any) -> pd.DataFrame:
    """Return the scores of a split's rows as a frame with the columns of knowledge."""
    assert data.knowledge is not None
    config = data.config("dnn", with_knowledge=True)
    scores = data.knowledge_scores(data.rows[split], config)
    names = [f"{'feedback' if '=' in name else 'similarity'}.{name}" for name in data.knowledge.score_names]
    return pd.DataFrame(scores, columns=names)


def test_the_estimator_equals_late_fusion(data: RankingData, plain: Any) -> None:
    late = LateFusionRanker(data.config("dnn", with_knowledge=True), plain)
    cross_fitted = late.fit(data)
    valid, test = data.rows["valid"], data.rows["test"]
    fusion = KnowledgeFusion().fit(plain.predict(data, valid), frame_of(data, "valid"), valid.label, groups=valid.user)
    np.testing.assert_allclose(fusion.cross_fitted_, cross_fitted, atol=1e-6)
    probability = fusion.predict_proba(plain.predict(data, test), frame_of(data, "test"))
    np.testing.assert_allclose(probability[:, 1], late.predict(data, test), atol=1e-6)
    np.testing.assert_allclose(probability.sum(1), 1)
    assert ((probability[:, 1] > 0.5) == fusion.predict(plain.predict(data, test), frame_of(data, "test"))).all()


def test_other_columns_and_their_order_do_not_matter(data: RankingData, plain: Any) -> None:
    valid = data.rows["valid"]
    frame, prediction = frame_of(data, "valid"), plain.predict(data, valid)
    fusion = KnowledgeFusion().fit(prediction, frame, valid.label)
    expected = fusion.predict_proba(prediction, frame)
    more = frame[frame.columns[::-1]].assign(user="x", row=1)
    assert (fusion.predict_proba(prediction, more) == expected).all()
    assert (fusion.predict_proba(prediction, pa.Table.from_pandas(more)) == expected).all()
    same = KnowledgeFusion(scores=list(frame.columns)).fit(prediction, more, valid.label)
    assert (same.predict_proba(prediction, more) == expected).all()


def test_an_array_has_no_names(data: RankingData, plain: Any) -> None:
    valid = data.rows["valid"]
    scores, prediction = frame_of(data, "valid").to_numpy(), plain.predict(data, valid)
    fusion = KnowledgeFusion().fit(prediction, scores, valid.label)
    assert fusion.n_features_in_ == scores.shape[1]
    assert fusion.predict_proba(prediction, scores).shape == (len(scores), 2)


def test_it_is_cloned_and_has_parameters() -> None:
    fusion = KnowledgeFusion(scores=["similarity.click"])
    assert clone(fusion).get_params() == {"scores": ["similarity.click"], "joining": "linear", "keep": "auc"}
    assert fusion.set_params(scores=None).scores is None
    assert "KnowledgeFusion" in repr(fusion)
    with pytest.raises(NotFittedError):
        fusion.predict_proba([0.5], [[1.0]])


@pytest.mark.parametrize(
    ("knowledge", "message"),
    [
        (pd.DataFrame({"click": [1.0, 2, 3, 4]}), "no column 'similarity.NAME' or 'feedback.FIELD=VALUE'"),
        (np.ones((3, 1)), "expected"),
        (np.full((4, 1), np.nan), "finite"),
        ([[1], [2], [3], ["x"]], "expected"),
    ],
)
def test_wrong_knowledge_is_explained(knowledge: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        KnowledgeFusion().fit([0.1, 0.2, 0.3, 0.4], knowledge, [0, 1, 0, 1])


def test_prediction_needs_the_columns_of_fit() -> None:
    frame = pd.DataFrame({"similarity.a": [1.0, 2, 3, 4], "similarity.b": [1.0, 1, 3, 4]})
    fusion = KnowledgeFusion().fit([0.1, 0.2, 0.3, 0.4], frame, [0, 1, 0, 1])
    with pytest.raises(InputError, match=r"no column 'similarity\.b', which fit had"):
        fusion.predict_proba([0.1], frame[["similarity.a"]].iloc[:1])
    with pytest.raises(InputError, match="expected a frame with the columns"):
        fusion.predict_proba([0.1], [[1.0, 2.0]])
    with pytest.raises(InputError, match=r"no column 'similarity\.c'"):
        KnowledgeFusion(scores=["similarity.c"]).fit([0.1] * 4, frame, [0, 1, 0, 1])
