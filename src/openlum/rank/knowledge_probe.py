"""Knowledge probe: the AUC of the answers without any ranker, on the rows of each split.

The Large User Model was trained on the events behind the training rows. If it memorised them, its answers know more about the
training rows than about later rows. A ranker that reads the answers as inputs (early fusion) then learns to trust them too
much. The gap between the training and the validation AUC shows the memorisation.

Shapes: I rows of a split, Q knowledge scores.
"""

from typing import Any

import numpy as np

from openlum.evaluation.metrics import auc
from openlum.rank.batches import RankingData
from openlum.rank.fusion import fit_fusion, multi_value_feedback, with_probabilities
from openlum.rank.inputs import tier_scores


def knowledge_probe(data: RankingData) -> dict[str, Any]:
    """Return the AUC of every knowledge score, and of all scores joined by logistic regression, on each split.

    The joined scores are those that `rank.knowledge.matching_questions` selects; by default all of the tier.

    Returns:
        `all` (split to AUC; fitted on the training rows), `questions` (name to split to AUC, of all tiers), and `gap`: the
        training AUC of `all` minus its validation AUC.
    """
    assert data.knowledge is not None
    all_names = data.knowledge.score_names
    chosen = data.settings.knowledge
    names = tier_scores(all_names, chosen.tier, chosen.matching_questions)
    shown = all_names if chosen.matching_questions is None else names
    splits = {
        split: (data.scores(rows, shown), rows.label.numpy()) for split, rows in data.rows.items()
    }  # (I, Q), (I,)
    probability_names, columns = multi_value_feedback(names, all_names), [shown.index(name) for name in names]
    inputs = {
        split: with_probabilities(scores[:, columns], names, probability_names) for split, (scores, _) in splits.items()
    }
    fusion = fit_fusion(inputs["train"], splits["train"][1])
    joint_auc = {split: auc(label, fusion(inputs[split])) for split, (_, label) in splits.items()}
    question_auc = {
        name: {split: auc(label, np.asarray(scores[:, index])) for split, (scores, label) in splits.items()}
        for index, name in enumerate(shown)
    }
    return {"all": joint_auc, "questions": question_auc, "gap": joint_auc["train"] - joint_auc["valid"]}
