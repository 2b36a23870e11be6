"""Tiers of knowledge: which scores and answers a ranker reads, and what the other tiers add."""

from pathlib import Path

import pytest

from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.rank.inputs import names_of_tier, tier_scores
from openlum.rank.knowledge import StoredKnowledge
from openlum.rank.run import rank
from openlum.rank.settings import KnowledgeSettings, RankSettings, Tier
from tests.rank.planted import write_knowledge

NAMES = ["like", "fresh", "feedback=click", "fresh.feedback=click", "nightly.feedback=click"]


@pytest.fixture(scope="module")
def tiered(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Knowledge in which the signal is weaker the less must run at request time."""
    matched = {"nightly": 0.1, "fresh": 0.3}
    return write_knowledge(tmp_path_factory.mktemp("tiered") / "knowledge", dataset, matched=matched)


@pytest.mark.parametrize(
    ("tier", "names"),
    [
        ("live", ["like", "fresh", "feedback=click"]),
        ("fresh", ["fresh.feedback=click"]),
        ("nightly", ["nightly.feedback=click"]),
    ],
)
def test_a_tier_has_its_scores(tier: Tier, names: list[str]) -> None:
    assert names_of_tier(NAMES, tier) == tier_scores(NAMES, tier, None) == names
    assert tier_scores(NAMES, tier, ["like"]) == ["like"]


def test_a_tier_that_knowledge_lacks_is_refused() -> None:
    with pytest.raises(InputError, match=r"no predictions of the matching head for the tier 'fresh'.*'live'"):
        tier_scores(["like"], "fresh", None)


@pytest.mark.parametrize(("tier", "answers"), [("live", ["like", "dislike"]), ("fresh", ["like"]), ("nightly", [])])
def test_early_fusion_reads_the_answers_of_the_tier(
    dataset: Dataset, tiered: Path, tier: Tier, answers: list[str]
) -> None:
    assert StoredKnowledge(tiered, dataset, tier=tier).answer_names == answers
    assert StoredKnowledge(tiered, dataset, ["dislike"], tier).answer_names == ["dislike"]


def test_the_other_tiers_stand_beside_that_of_the_settings(
    dataset: Dataset, tiered: Path, settings: RankSettings, tmp_path: Path
) -> None:
    knowledge = KnowledgeSettings()
    assert knowledge.tier == "fresh"
    short = {"max_epochs": 1, "seeds": [3, 4], "rankers": ["dnn"], "controls": [], "knowledge": knowledge}
    summary = rank(dataset.path, tiered, tmp_path / "ranker", settings.model_copy(update=short))
    tiers = summary["tiers"]
    assert list(tiers["ranking"]) == ["dnn+knowledge:nightly", "dnn+knowledge:live"]
    assert tiers["kept"]["dnn+knowledge:live"] == [True, True]
    nightly, live = (tiers["ranking"][f"dnn+knowledge:{tier}"]["auc"]["mean"] for tier in ("nightly", "live"))
    assert nightly < summary["ranking"]["dnn+knowledge"]["auc"]["mean"] < live
    pairs = [(comparison["a"], comparison["b"]) for comparison in tiers["comparisons"]]
    assert ("dnn+knowledge:live", "dnn") in pairs
    assert ("dnn+knowledge", "dnn+knowledge:nightly") in pairs


def test_early_fusion_has_no_other_tiers(
    dataset: Dataset, tiered: Path, settings: RankSettings, tmp_path: Path
) -> None:
    for tier in ("nightly", "fresh"):
        knowledge = KnowledgeSettings(fusion="early", tier=tier)
        short = {"max_epochs": 1, "seeds": [3], "rankers": ["dnn"], "controls": [], "knowledge": knowledge}
        summary = rank(dataset.path, tiered, tmp_path / tier, settings.model_copy(update=short))
        assert "tiers" not in summary
        assert set(summary["ranking"]) == {"dnn", "dnn+knowledge"}
