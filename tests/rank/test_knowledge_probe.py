"""What similarities know with no ranker, and whether they know more of the training rows."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from openlum.data.dataset import SPLITS, Dataset
from openlum.rank.batches import RankingData
from openlum.rank.knowledge import Knowledge, load_knowledge
from openlum.rank.knowledge_probe import knowledge_probe
from openlum.rank.settings import RankSettings


def told(data: RankingData, memory: float) -> RankingData:
    """The same data, but similarities of the training rows tell their labels, more or less."""
    assert data.knowledge is not None
    train = data.dataset.impressions("train")
    similarity = data.knowledge.similarity.copy()
    similarity[data.knowledge.places(train.row), 0] += memory * train.label
    knowledge: Knowledge = dataclasses.replace(data.knowledge, similarity=similarity)
    return RankingData(data.dataset, data.settings, knowledge)


def test_memorised_labels_show_as_a_gap(data: RankingData) -> None:
    """Similarities spread by about 0.3; of later rows they know as much as before."""
    honest, memorised = knowledge_probe(data), knowledge_probe(told(data, 0.5))
    assert abs(honest["gap"]) < 0.04
    assert memorised["gap"] > 0.15
    for split in ("valid", "test"):
        assert memorised["questions"]["like"][split] == honest["questions"]["like"][split]
    assert memorised["gap"] == memorised["all"]["train"] - memorised["all"]["valid"]


@pytest.mark.parametrize("split", SPLITS)
def test_each_question_has_the_auc_of_its_similarity(data: RankingData, dataset: Dataset, split: str) -> None:
    assert data.knowledge is not None
    rows = dataset.impressions(split)  # type: ignore[arg-type]
    similarity = data.knowledge.similarity[data.knowledge.places(rows.row)]
    found = knowledge_probe(data)
    assert list(found["questions"]) == ["like", "dislike"]
    for index, name in enumerate(found["questions"]):
        assert found["questions"][name][split] == pytest.approx(roc_auc_score(rows.label, similarity[:, index]))
    assert found["questions"]["dislike"][split] < 0.5 < found["questions"]["like"][split]
    assert found["all"][split] > found["questions"]["like"][split]  # two noisy views of one truth


def test_similarities_that_say_nothing_know_nothing(
    dataset: Dataset, settings: RankSettings, knowledge_dir: Path
) -> None:
    knowledge = load_knowledge(knowledge_dir, dataset, [])
    noise = np.random.default_rng(0).normal(size=knowledge.similarity.shape).astype(np.float32)
    found = knowledge_probe(RankingData(dataset, settings, dataclasses.replace(knowledge, similarity=noise)))
    assert all(abs(found["all"][split] - 0.5) < 0.05 for split in SPLITS)
