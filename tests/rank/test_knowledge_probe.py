"""The knowledge probe: the AUC of knowledge scores without a ranker, on the training rows and on later rows."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from openlum.data.dataset import SPLITS, Dataset
from openlum.rank.batches import RankingData
from openlum.rank.knowledge import KnowledgeArrays, load_knowledge
from openlum.rank.knowledge_probe import knowledge_probe
from openlum.rank.settings import RankSettings


def leak_labels(data: RankingData, weight: float) -> RankingData:
    """Return the same data with the labels of the training rows added to the first score, times `weight`."""
    assert data.knowledge is not None
    train = data.dataset.impressions("train")
    scores = data.knowledge.scores.copy()
    scores[data.knowledge.index_of(train.row), 0] += weight * train.label
    knowledge: KnowledgeArrays = dataclasses.replace(data.knowledge, scores=scores)
    return RankingData(data.dataset, data.settings, knowledge)


def test_memorised_labels_show_as_a_gap(data: RankingData) -> None:
    """Scores vary by about 0.3. The AUC on later rows does not change."""
    original, memorised = knowledge_probe(data), knowledge_probe(leak_labels(data, 0.5))
    assert abs(original["gap"]) < 0.04
    assert memorised["gap"] > 0.15
    for split in ("valid", "test"):
        assert memorised["questions"]["like"][split] == original["questions"]["like"][split]
    assert memorised["gap"] == memorised["all"]["train"] - memorised["all"]["valid"]


@pytest.mark.parametrize("split", SPLITS)
def test_each_question_has_the_auc_of_its_score(data: RankingData, dataset: Dataset, split: str) -> None:
    assert data.knowledge is not None
    rows = dataset.impressions(split)  # type: ignore[arg-type]
    scores = data.knowledge.scores[data.knowledge.index_of(rows.row)]
    probe = knowledge_probe(data)
    assert list(probe["questions"]) == ["like", "dislike"]
    for index, name in enumerate(probe["questions"]):
        assert probe["questions"][name][split] == pytest.approx(roc_auc_score(rows.label, scores[:, index]))
    assert probe["questions"]["dislike"][split] < 0.5 < probe["questions"]["like"][split]
    assert probe["all"][split] > probe["questions"]["like"][split]  # two noisy views of the same signal


def test_random_scores_have_an_auc_of_one_half(dataset: Dataset, settings: RankSettings, knowledge_dir: Path) -> None:
    knowledge = load_knowledge(knowledge_dir, dataset, [])
    noise = np.random.default_rng(0).normal(size=knowledge.scores.shape).astype(np.float32)
    probe = knowledge_probe(RankingData(dataset, settings, dataclasses.replace(knowledge, scores=noise)))
    assert all(abs(probe["all"][split] - 0.5) < 0.05 for split in SPLITS)
