"""Trials of a benchmark: each is trained once, and its outcome is stored."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openlum.bench import trials
from openlum.bench.trials import Outcome, Trial, run_trials
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.evaluation.metrics import auc
from openlum.rank.batches import RankingData
from openlum.rank.knowledge import load_knowledge
from openlum.rank.settings import KnowledgeSettings, RankSettings
from openlum.rank.train import fit
from tests.bench.conftest import planted_knowledge

SETTINGS = RankSettings(
    embedding_width=4,
    item_width=8,
    hidden=[8],
    max_epochs=1,
    batch_size=512,
    knowledge=KnowledgeSettings(tier="live"),  # the planted knowledge has no matching head
)
PLAIN = Trial("dnn", "dnn", SETTINGS, seed=0, knowledge=None)


def run(selected: list[Trial], dataset: Dataset, store: Path, processes: int = 1) -> dict[str, Outcome]:
    return {trial.name: outcome for trial, outcome in run_trials(selected, dataset.path, store, processes)}


def equal(a: Outcome, b: Outcome) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(dataclasses.astuple(a), dataclasses.astuple(b), strict=True))


def test_an_outcome_has_the_predictions_and_figures_of_the_training(dataset: Dataset, tmp_path: Path) -> None:
    outcome = run([PLAIN], dataset, tmp_path)["dnn"]
    data = RankingData(dataset, SETTINGS)
    ranker = fit(data.config("dnn", False), data, seed=0).ranker
    for split, prediction in (("valid", outcome.valid), ("test", outcome.test)):
        np.testing.assert_allclose(prediction, ranker.predict(data, data.rows[split]), atol=1e-5)  # type: ignore[index]
    assert outcome.valid_auc == auc(data.rows["valid"].label.numpy(), outcome.valid)
    assert outcome.best_epoch == 1
    assert outcome.seconds > 0


def test_worker_processes_give_the_same_outcomes(dataset: Dataset, knowledge_dir: Path, tmp_path: Path) -> None:
    """One of the trials starts from another."""
    selected = [
        PLAIN,
        Trial("dnn+knowledge", "dnn", SETTINGS, 0, knowledge_dir),
        dataclasses.replace(PLAIN, name="other", seed=1),
    ]
    own_process = run(selected, dataset, tmp_path / "own")
    workers = run(selected, dataset, tmp_path / "workers", processes=2)
    assert set(own_process) == set(workers) == {"dnn", "dnn+knowledge", "other"}
    for name, outcome in own_process.items():
        np.testing.assert_allclose(outcome.test, workers[name].test, atol=1e-5)


def test_late_fusion_starts_from_the_outcome_of_the_plain_trial(
    dataset: Dataset, knowledge_dir: Path, tmp_path: Path, trained: list[str]
) -> None:
    """Only the trial with late fusion is requested. The plain trial is trained first and stored, but not yielded."""
    late = Trial("dnn+knowledge", "dnn", SETTINGS, 0, knowledge_dir)
    outcomes = run([late], dataset, tmp_path)
    assert list(outcomes) == ["dnn+knowledge"]
    assert trained == ["dnn", "dnn+knowledge"]
    data = RankingData(dataset, SETTINGS, load_knowledge(knowledge_dir, dataset, []))
    expected = fit(data.config("dnn", True), data, seed=0)
    np.testing.assert_allclose(outcomes["dnn+knowledge"].valid, expected.valid, atol=1e-5)
    np.testing.assert_allclose(
        outcomes["dnn+knowledge"].test, expected.ranker.predict(data, data.rows["test"]), atol=1e-5
    )
    fewer = SETTINGS.model_copy(update={"knowledge": KnowledgeSettings(tier="live", matching_questions=["like"])})
    run([dataclasses.replace(late, settings=fewer)], dataset, tmp_path)
    assert trained[2:] == ["dnn+knowledge"]


def test_early_fusion_trains_a_ranker_with_knowledge(
    dataset: Dataset, knowledge_dir: Path, tmp_path: Path, trained: list[str]
) -> None:
    """With all answers or some, after a late-fusion trial in the same process, whose data have no answers."""
    late = Trial("late", "dnn", SETTINGS, 0, knowledge_dir)
    run([late], dataset, tmp_path)
    del trained[:]
    for questions in (None, ["dislike"]):
        knowledge = KnowledgeSettings(tier="live", fusion="early", direct_questions=questions)
        settings = SETTINGS.model_copy(update={"knowledge": knowledge})
        outcome = run([Trial("early", "dnn", settings, 0, knowledge_dir)], dataset, tmp_path)["early"]
        data = RankingData(dataset, settings, load_knowledge(knowledge_dir, dataset))
        expected = fit(data.config("dnn", True), data, seed=0)
        np.testing.assert_allclose(outcome.valid, expected.valid, atol=1e-5)
        np.testing.assert_allclose(outcome.test, expected.ranker.predict(data, data.rows["test"]), atol=1e-5)
    assert trained == ["early", "early"]


def test_stored_outcomes_are_not_trained_again(
    dataset: Dataset, knowledge_dir: Path, tmp_path: Path, trained: list[str]
) -> None:
    late = Trial("dnn+knowledge", "dnn", SETTINGS, 0, knowledge_dir)
    first = run([PLAIN, late], dataset, tmp_path)
    assert sorted(trained) == ["dnn", "dnn+knowledge"]
    repeated = run([late, PLAIN], dataset, tmp_path)
    assert len(trained) == 2
    assert all(equal(first[name], repeated[name]) for name in first)
    assert not equal(first["dnn"], first["dnn+knowledge"])
    new = dataclasses.replace(PLAIN, name="other", settings=SETTINGS.model_copy(update={"learning_rate": 1e-2}))
    run([PLAIN, new, late], dataset, tmp_path)
    assert trained[2:] == ["other"]


def test_equal_trials_are_trained_once(dataset: Dataset, tmp_path: Path, trained: list[str]) -> None:
    twin = dataclasses.replace(PLAIN, name="twin")
    outcomes = run([PLAIN, twin], dataset, tmp_path)
    assert equal(outcomes["dnn"], outcomes["twin"])
    assert len(trained) == 1


def test_an_interrupted_benchmark_keeps_finished_trials(
    dataset: Dataset, tmp_path: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = dataclasses.replace(PLAIN, name="later", seed=1)
    train = trials._train

    def interrupted_at_second(trial: Trial, **options: Any) -> None:
        if trial is later:
            raise KeyboardInterrupt
        train(trial, **options)

    monkeypatch.setattr(trials, "_train", interrupted_at_second)
    with pytest.raises(KeyboardInterrupt):
        run([PLAIN, later], dataset, tmp_path)
    monkeypatch.setattr(trials, "_train", train)
    trained.clear()
    assert set(run([PLAIN, later], dataset, tmp_path)) == {"dnn", "later"}
    assert trained == ["later"]


def test_a_damaged_outcome_is_trained_again(
    dataset: Dataset, knowledge_dir: Path, tmp_path: Path, trained: list[str]
) -> None:
    """Also the plain trial that late fusion starts from."""
    late = Trial("dnn+knowledge", "dnn", SETTINGS, 0, knowledge_dir)
    first = run([PLAIN, late], dataset, tmp_path)
    for trial, retrained in ((PLAIN, ["dnn"]), (late, ["dnn+knowledge"])):
        file = trial.file(dataset.path, tmp_path)
        content = file.read_bytes()
        middle = len(content) // 2
        for damage in (content[:middle], b"", b"[]", content[:middle] + b"\x55\xaa" + content[middle + 2 :]):
            trained.clear()
            file.write_bytes(damage)
            outcomes = run([PLAIN, late], dataset, tmp_path)
            assert trained == retrained
            assert all(np.array_equal(outcomes[name].test, first[name].test) for name in first)
    for trial in (PLAIN, late):
        trial.file(dataset.path, tmp_path).write_bytes(b"")
    trained.clear()
    run([late], dataset, tmp_path)
    assert trained == ["dnn", "dnn+knowledge"]


def test_a_failure_names_the_trial(dataset: Dataset, tmp_path: Path) -> None:
    divergent = SETTINGS.model_copy(update={"learning_rate": 1e30})
    diverging = Trial("dcnv2", "dcnv2", divergent, seed=0, knowledge=None)
    with pytest.raises(InputError, match=r"dcnv2, seed 0, .*diverged"):
        run([diverging], dataset, tmp_path)


def test_a_key_changes_with_everything_that_the_outcome_depends_on(
    dataset: Dataset, knowledge_dir: Path, tmp_path: Path
) -> None:
    other_knowledge = planted_knowledge(tmp_path / "knowledge", dataset, seed=1)
    nested = SETTINGS.model_copy(update={"trees": SETTINGS.trees.model_copy(update={"leaves": 7})})
    changes: list[dict[str, Any]] = [
        {},
        {"architecture": "din"},
        {"seed": 1},
        {"settings": SETTINGS.model_copy(update={"dropout": 0.1})},
        {"settings": nested},
        {"knowledge": knowledge_dir},
        {"knowledge": other_knowledge},
    ]
    keys = [dataclasses.replace(PLAIN, **change).key(dataset.path) for change in changes]
    assert len(set(keys)) == len(keys)
    unused = {"settings": SETTINGS.model_copy(update={"rankers": ["din"], "seeds": [8]}), "name": "other"}
    assert dataclasses.replace(PLAIN, **unused).key(dataset.path) == keys[0]
