"""Late fusion as an estimator of scikit-learn: knowledge joins the probabilities of any ranker.

Shapes: I rows, Q knowledge scores.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from openlum.arguments.arrays import table
from openlum.arguments.frames import is_frame, to_arrow
from openlum.errors import InputError
from openlum.rank.fusion import fused_inputs, multi_value_feedback, with_probabilities
from openlum.rank.joining import Joining, Keep, fit_late_fusion

PREFIXES = ("similarity.", "feedback.")
"""How the columns of knowledge scores begin."""


class KnowledgeFusion(ClassifierMixin, BaseEstimator):
    """A logistic regression that joins the probabilities of a trained ranker with knowledge scores.

    Fit it on rows that neither the ranker nor the Large User Model was trained on, such as validation rows. The ranker stays as
    it is. If knowledge does not gain beyond its error on these rows, the predictions are exactly the ranker's. `lum rank` does
    the same with `rank.knowledge.fusion: late`.

    Args:
        scores: names of the columns of a knowledge frame to use, such as `similarity.click`; None for all similarities and
            feedback predictions.
        joining: `linear`, or `trees` for small trees on top (LightGBM), which need many rows.
        keep: the metric that must gain for knowledge to be used, `auc` or `logloss`; `always` to use it in any case.

    Attributes:
        classes_: the labels 0 and 1.
        feature_names_in_: names of the Q scores, if knowledge was a frame.
        kept_: whether knowledge is used.
        decision_: the decision, with the gain on the rows of `fit` and its interval.
        cross_fitted_: (I,) probabilities of the rows of `fit`, each by weights that were fitted to other groups; the ranker's own
            if knowledge is not used.

    Example:
        >>> valid = knowledge.join(valid_impressions)                                                   # doctest: +SKIP
        >>> fusion = KnowledgeFusion().fit(ranker.predict(valid), valid, valid["label"])                # doctest: +SKIP
        >>> probability = fusion.predict_proba(ranker.predict(test), knowledge.join(test))[:, 1]        # doctest: +SKIP
    """

    def __init__(self, scores: Sequence[str] | None = None, joining: Joining = "linear", keep: Keep = "auc") -> None:
        self.scores, self.joining, self.keep = scores, joining, keep

    def fit(self, probability: Any, knowledge: Any, y: Any, groups: Any = None) -> "KnowledgeFusion":
        """Fit the weights.

        Args:
            probability: (I,) the ranker's probabilities of the label 1.
            knowledge: (I, Q) scores as an array; or a frame with the columns of `Knowledge`, such as the result of
                `Knowledge.join`. Its other columns are ignored.
            y: (I,) labels, 0 or 1.
            groups: (I,) users: the gain is measured on users whose rows the weights were not fitted to. By default each row
                counts as a user of its own, and the error of the gain is too small if users have several rows.

        Raises:
            InputError: a parameter is unknown, a value is not a probability or not finite, the numbers of rows differ, all labels
                are the same, or the frame has no column of scores.
        """
        names = self._columns(knowledge) if is_frame(knowledge) else None
        self.n_features_in_ = len(names) if names is not None else table("knowledge", knowledge).shape[1]
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self.classes_ = np.array([0, 1])
        scores = self._scores(knowledge)
        users = np.arange(len(scores)) if groups is None else groups
        self.late_fusion_, self.cross_fitted_ = fit_late_fusion(
            probability, scores, y, users, joining=self.joining, keep=self.keep
        )
        self.decision_ = self.late_fusion_.decision
        self.kept_ = self.decision_.kept
        return self

    def decision_function(self, probability: Any, knowledge: Any) -> np.ndarray:
        """Return the log-odds of the label 1, (I,)."""
        self._check_fitted()
        inputs = fused_inputs(probability, self._scores(knowledge))
        return self.late_fusion_.joined.logit(inputs) if self.kept_ else inputs[:, 0]

    def predict_proba(self, probability: Any, knowledge: Any) -> np.ndarray:
        """Return the probabilities of the labels 0 and 1, (I, 2)."""
        self._check_fitted()
        positive = self.late_fusion_(probability, self._scores(knowledge))
        return np.column_stack([1 - positive, positive])

    def predict(self, probability: Any, knowledge: Any) -> np.ndarray:
        """Return the more probable label of each row, (I,)."""
        return self.classes_[(self.decision_function(probability, knowledge) > 0).astype(np.int64)]

    def _check_fitted(self) -> None:
        if not hasattr(self, "late_fusion_"):
            raise NotFittedError("this KnowledgeFusion is not fitted yet; call fit(probability, knowledge, y) first")

    def _scores(self, knowledge: Any) -> np.ndarray:
        """Return the scores that join the ranker's logit, and the probabilities of feedback of several values."""
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            return table("knowledge", knowledge, self.n_features_in_)
        if not is_frame(knowledge):
            raise InputError(f"knowledge: expected a frame with the columns {', '.join(names)}, as in fit")
        arrow = to_arrow("knowledge", knowledge)
        for name in names:
            if name not in arrow.column_names:
                raise InputError(f"knowledge: no column '{name}', which fit had")
        scores = np.stack([arrow[name].to_numpy() for name in names], 1).astype(np.float32)
        score_names = [name.partition(".")[2] for name in names]
        return with_probabilities(scores, score_names, multi_value_feedback(score_names, score_names))

    def _columns(self, knowledge: Any) -> list[str]:
        """Return the columns of the scores in a frame."""
        present = to_arrow("knowledge", knowledge).column_names
        names = list(self.scores) if self.scores is not None else [n for n in present if n.startswith(PREFIXES)]
        missing = [name for name in names if name not in present]
        if missing or not names:
            detail = f"no column '{missing[0]}'" if missing else "no column 'similarity.NAME' or 'feedback.FIELD=VALUE'"
            raise InputError(f"knowledge: {detail}; the frame has the columns {', '.join(present)}")
        return names
