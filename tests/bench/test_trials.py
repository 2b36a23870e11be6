"""Trainings of a benchmark: each is made once and kept."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openlum.bench import trials as trials
from openlum.bench.trials import Outcome, Trial, run_trials
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.evaluation.metrics import auc
from openlum.rank.batches import RankingData
from openlum.rank.knowledge import load_knowledge
from openlum.rank.settings import KnowledgeSettings, RankSettings
from openlum.rank.train import fit

from .conftest import planted_knowledge

SETTINGS = RankSettings(embedding_width=4, item_width=8, hidden=[8], max_epochs=1, batch_size=512)
PLAIN = Trial("dnn", "dnn", SETTINGS, seed=0, knowledge=None)


def outcomes(chosen: list[Trial], dataset: Dataset, store: Path, processes: int = 1) -> dict[str, Outcome]:
    return {trial.name: outcome for trial, outcome in run_trials(chosen, dataset.path, store, processes)}


def equal(one: Outcome, other: Outcome) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(dataclasses.astuple(one), dataclasses.astuple(other), strict=True))


def test_an_outcome_is_that_of_the_training(dataset: Dataset, tmp_path: Path) -> None:
    found = outcomes([PLAIN], dataset, tmp_path)["dnn"]
    data = RankingData(dataset, SETTINGS)
    ranker = fit(data.config("dnn", False), data, seed=0).ranker
    for split, prediction in (("valid", found.valid), ("test", found.test)):
        np.testing.assert_allclose(prediction, ranker.predict(data, data.rows[split]), atol=1e-5)  # type: ignore[index]
    assert found.valid_auc == auc(data.rows["valid"].label.numpy(), found.valid)
    assert found.best_epoch == 1
    assert found.seconds > 0


def test_processes_come_to_the_same(dataset: Dataset, knowledge_dir: Path, tmp_path: Path) -> None:
    """One of the trials begins with the other."""
    chosen = [
        PLAIN,
        Trial("dnn+knowledge", "dnn", SETTINGS, 0, knowledge_dir),
        dataclasses.replace(PLAIN, name="other", seed=1),
    ]
    here = outcomes(chosen, dataset, tmp_path / "here")
    elsewhere = outcomes(chosen, dataset, tmp_path / "elsewhere", processes=2)
    assert set(here) == set(elsewhere) == {"dnn", "dnn+knowledge", "other"}
    for name, outcome in here.items():
        np.testing.assert_allclose(outcome.test, elsewhere[name].test, atol=1e-5)


def test_late_knowledge_joins_the_outcome_of_the_plain_cell(
    dataset: Dataset, knowledge_dir: Path, tmp_path: Path, trained: list[str]
) -> None:
    """Only the late one is asked for; what it begins with is trained first, kept, and not told."""
    informed = Trial("dnn+knowledge", "dnn", SETTINGS, 0, knowledge_dir)
    found = outcomes([informed], dataset, tmp_path)
    assert list(found) == ["dnn+knowledge"]
    assert trained == ["dnn", "dnn+knowledge"]
    data = RankingData(dataset, SETTINGS, load_knowledge(knowledge_dir, dataset, []))
    fitted = fit(data.config("dnn", True), data, seed=0)
    np.testing.assert_allclose(found["dnn+knowledge"].valid, fitted.valid, atol=1e-5)
    np.testing.assert_allclose(found["dnn+knowledge"].test, fitted.ranker.predict(data, data.rows["test"]), atol=1e-5)
    fewer = SETTINGS.model_copy(update={"knowledge": KnowledgeSettings(matching_questions=["like"])})
    outcomes([dataclasses.replace(informed, settings=fewer)], dataset, tmp_path)
    assert trained[2:] == ["dnn+knowledge"]


def test_early_knowledge_is_trained_with(
    dataset: Dataset, knowledge_dir: Path, tmp_path: Path, trained: list[str]
) -> None:
    """After a late trial in the same process, which has no answers in memory; with all of them or with some."""
    late = Trial("late", "dnn", SETTINGS, 0, knowledge_dir)
    outcomes([late], dataset, tmp_path)
    del trained[:]
    for questions in (None, ["dislike"]):
        knowledge = KnowledgeSettings(fusion="early", direct_questions=questions)
        settings = SETTINGS.model_copy(update={"knowledge": knowledge})
        found = outcomes([Trial("early", "dnn", settings, 0, knowledge_dir)], dataset, tmp_path)["early"]
        data = RankingData(dataset, settings, load_knowledge(knowledge_dir, dataset))
        fitted = fit(data.config("dnn", True), data, seed=0)
        np.testing.assert_allclose(found.valid, fitted.valid, atol=1e-5)
        np.testing.assert_allclose(found.test, fitted.ranker.predict(data, data.rows["test"]), atol=1e-5)
    assert trained == ["early", "early"]


def test_what_was_trained_is_not_trained_again(
    dataset: Dataset, knowledge_dir: Path, tmp_path: Path, trained: list[str]
) -> None:
    informed = Trial("dnn+knowledge", "dnn", SETTINGS, 0, knowledge_dir)
    first = outcomes([PLAIN, informed], dataset, tmp_path)
    assert sorted(trained) == ["dnn", "dnn+knowledge"]
    again = outcomes([informed, PLAIN], dataset, tmp_path)
    assert len(trained) == 2
    assert all(equal(first[name], again[name]) for name in first)
    assert not equal(first["dnn"], first["dnn+knowledge"])
    one_more = dataclasses.replace(PLAIN, name="other", settings=SETTINGS.model_copy(update={"learning_rate": 1e-2}))
    outcomes([PLAIN, one_more, informed], dataset, tmp_path)
    assert trained[2:] == ["other"]


def test_cells_that_come_to_the_same_are_trained_once(dataset: Dataset, tmp_path: Path, trained: list[str]) -> None:
    twin = dataclasses.replace(PLAIN, name="twin")
    found = outcomes([PLAIN, twin], dataset, tmp_path)
    assert equal(found["dnn"], found["twin"])
    assert len(trained) == 1


def test_an_interrupted_benchmark_keeps_what_is_done(
    dataset: Dataset, tmp_path: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = dataclasses.replace(PLAIN, name="later", seed=1)
    train = trials._train

    def until_the_second(trial: Trial, **rest: Any) -> None:
        if trial is later:
            raise KeyboardInterrupt
        train(trial, **rest)

    monkeypatch.setattr(trials, "_train", until_the_second)
    with pytest.raises(KeyboardInterrupt):
        outcomes([PLAIN, later], dataset, tmp_path)
    monkeypatch.setattr(trials, "_train", train)
    trained.clear()
    assert set(outcomes([PLAIN, later], dataset, tmp_path)) == {"dnn", "later"}
    assert trained == ["later"]


def test_a_damaged_outcome_is_trained_again(
    dataset: Dataset, knowledge_dir: Path, tmp_path: Path, trained: list[str]
) -> None:
    """And the plain one that a late one begins with."""
    informed = Trial("dnn+knowledge", "dnn", SETTINGS, 0, knowledge_dir)
    first = outcomes([PLAIN, informed], dataset, tmp_path)
    for trial, again in ((PLAIN, ["dnn"]), (informed, ["dnn+knowledge"])):
        file = trial.file(dataset.path, tmp_path)
        content = file.read_bytes()
        middle = len(content) // 2
        for damage in (content[:middle], b"", b"[]", content[:middle] + b"\x55\xaa" + content[middle + 2 :]):
            trained.clear()
            file.write_bytes(damage)
            found = outcomes([PLAIN, informed], dataset, tmp_path)
            assert trained == again
            assert all(np.array_equal(found[name].test, first[name].test) for name in first)
    for trial in (PLAIN, informed):
        trial.file(dataset.path, tmp_path).write_bytes(b"")
    trained.clear()
    outcomes([informed], dataset, tmp_path)
    assert trained == ["dnn", "dnn+knowledge"]


def test_a_failure_names_the_cell(dataset: Dataset, tmp_path: Path) -> None:
    wild = SETTINGS.model_copy(update={"learning_rate": 1e30})
    diverging = Trial("dcnv2", "dcnv2", wild, seed=0, knowledge=None)
    with pytest.raises(InputError, match=r"dcnv2, seed 0, .*diverged"):
        outcomes([diverging], dataset, tmp_path)


def test_a_key_changes_with_what_the_result_depends_on(dataset: Dataset, knowledge_dir: Path, tmp_path: Path) -> None:
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
    without = {"settings": SETTINGS.model_copy(update={"rankers": ["din"], "seeds": [8]}), "name": "other"}
    assert dataclasses.replace(PLAIN, **without).key(dataset.path) == keys[0]
