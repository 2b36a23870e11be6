"""How much the answers know with no ranker, and whether they know more of the rows that rankers learn from than of later ones.

The Large User Model has learned from the events that training rows are made of. If its answers have memorised them, a ranker
that has them as inputs (early fusion) learns to trust them more than later rows deserve; the gap between training and validation
rows shows it.

Shapes: I rows of a split, Q questions.
"""

from typing import Any

import numpy as np

from openlum.data.dataset import SPLITS
from openlum.evaluation.metrics import auc
from openlum.rank.batches import RankingData, chosen_questions
from openlum.rank.fusion import fit_fusion, of_several_values, with_probabilities


def knowledge_probe(data: RankingData) -> dict[str, Any]:
    """AUC on the rows of each split of every question's similarity, and of all together by logistic regression.

    Of all questions, or of those that the settings of the rankers choose.

    Returns:
        `all` (fitted on the training rows), `questions` (name to splits), and `gap`: training less validation AUC of `all`.
    """
    assert data.knowledge is not None
    known = data.knowledge.questions
    names = chosen_questions(known, data.settings.knowledge.matching_questions)
    columns = [known.index(name) for name in names]
    of_split = {}
    for split in SPLITS:
        rows = data.rows[split]
        assert rows.known is not None
        of_split[split] = data.similarity[rows.known][:, columns].numpy(), rows.label.numpy()  # (I, Q), (I,)
    several = of_several_values(names, known)
    joined = {split: with_probabilities(x, names, several) for split, (x, _) in of_split.items()}
    together = fit_fusion(joined["train"], of_split["train"][1])
    every = {split: auc(label, together(joined[split])) for split, (_, label) in of_split.items()}
    single = {
        name: {split: auc(label, np.asarray(x[:, index])) for split, (x, label) in of_split.items()}
        for index, name in enumerate(names)
    }
    return {"all": every, "questions": single, "gap": every["train"] - every["valid"]}
