"""The choice of settings and the comparisons of the ranking benchmark."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from openlum.bench import ranking
from openlum.bench.pipeline import ModelKnowledge, RunContext
from openlum.bench.ranking import Method, _evaluate, tune_methods
from openlum.bench.settings import Bench
from openlum.bench.stacking import stacked_rankers
from openlum.bench.trials import Outcome, Trial
from openlum.data.dataset import Dataset
from openlum.rank.batches import RankingData
from openlum.rank.settings import RankSettings

NOISE = {
    "dnn": (2.0, 2.0),
    "din": (1.0, 3.0),
    "hstu": (2.0, 1.0),
    "sasrec": (1.0, 2.0),
    "dnn+knowledge": (0.5, 2.0),
    "din+knowledge": (1.0, 0.5),
    "hstu+knowledge": (0.2, 0.2),
}
"""Noise of each method's predictions on the validation rows and on the test rows; less noise is a better method."""


def test_the_best_are_chosen_by_validation_and_compared_on_the_test(dataset: Dataset) -> None:
    data, rng = RankingData(dataset, RankSettings()), np.random.default_rng(0)
    label = {split: data.rows[split].label.numpy() for split in ("valid", "test")}

    def outcome(valid: float, test: float) -> Outcome:
        logits = [
            label[split] + noise * rng.normal(size=len(label[split]))
            for split, noise in (("valid", valid), ("test", test))
        ]
        valid_probability, test_probability = (1 / (1 + np.exp(-x)) for x in logits)
        return Outcome(valid_probability, test_probability, 0.0, 1, 0.0)

    outcomes = {name: [outcome(*noise) for _ in range(2)] for name, noise in NOISE.items()}
    result = _evaluate(outcomes, data)
    stacked = ["sasrec & sasrec", "din & sasrec"]
    assert list(result["ranking"]) == [*NOISE, *stacked]
    for name in stacked:  # the noise of stacked models is independent
        assert result["ranking"][name]["auc"]["mean"] > result["ranking"]["sasrec"]["auc"]["mean"] + 0.01
    pairs = [(comparison["a"], comparison["b"]) for comparison in result["comparisons"]]
    assert pairs[:3] == [("dnn+knowledge", "dnn"), ("din+knowledge", "din"), ("hstu+knowledge", "hstu")]
    # The best ranker with knowledge against the best plain and the best end-to-end ranker, all chosen by validation.
    # Other methods are better on the test rows.
    baselines = ["din", "sasrec", *stacked]
    assert pairs[3:] == [("dnn+knowledge", baseline) for baseline in baselines]
    for comparison in result["comparisons"]:
        auc = [result["ranking"][comparison[side]]["auc"]["mean"] for side in ("a", "b")]
        assert comparison["difference"] == pytest.approx(auc[0] - auc[1])
        assert np.mean(comparison["per_seed"]) == pytest.approx(comparison["difference"])
        width = comparison["ci95"][1] - comparison["ci95"][0]
        assert comparison["bootstrap95"] == pytest.approx(comparison["ci95"], abs=0.2 * width)


def test_without_knowledge_there_are_no_comparisons(dataset: Dataset) -> None:
    data = RankingData(dataset, RankSettings())
    constant = Outcome(np.full(len(data.rows["valid"]), 0.5), np.full(len(data.rows["test"]), 0.5), 0.5, 1, 0.0)
    assert _evaluate({"hstu": [constant]}, data)["comparisons"] == []


def test_an_end_to_end_model_of_one_seed_is_stacked_with_the_plain_ranker_only(dataset: Dataset) -> None:
    data = RankingData(dataset, RankSettings())
    rng = np.random.default_rng(0)
    outcome = Outcome(rng.random(len(data.rows["valid"])), rng.random(len(data.rows["test"])), 0.5, 1, 0.0)
    stacked = stacked_rankers({"din": [outcome], "hstu": [outcome]}, "din", "hstu", data.rows["valid"])
    assert list(stacked) == ["din & hstu"]
    assert stacked_rankers({"hstu": [outcome]}, None, "hstu", data.rows["valid"]) == {}


def test_every_method_has_the_settings_with_the_best_validation_auc(
    dataset: Dataset, knowledge_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best settings may differ without and with knowledge."""
    content: dict[str, Any] = {
        "protocol": [],
        "experiment": {"name": "x", "data": {"schema_file": "x"}, "rank": {"batch_size": 77}},
        "ranking": {"tune": {"dnn": [{}, {"dropout": 0.1}, {"trees": {"leaves": 9}}]}, "tune_seed": 41},
    }
    bench = Bench.model_validate(content)
    assert bench.ranking is not None
    best = {None: 0.1, knowledge_dir: 0.0}

    def run(trials: list[Trial], *_: object) -> Iterator[tuple[Trial, Outcome]]:
        for trial in trials:
            assert (trial.seed, trial.settings.batch_size) == (41, 77)
            good = trial.settings.dropout == best[trial.knowledge] and trial.settings.trees.leaves != 9
            yield trial, Outcome(np.empty(0), np.empty(0), float(good), 1, 0.0)

    monkeypatch.setattr(ranking, "run_trials", run)
    monkeypatch.setattr(ranking, "missing_trials", lambda trials, *_: set(trials))
    methods = [
        Method("dnn", "dnn", []),
        Method("dnn+knowledge", "dnn", [ModelKnowledge(knowledge_dir, knowledge_dir, {})]),
    ]
    tuned = tune_methods(
        bench.ranking, bench, methods, RunContext(tmp_path / "tiny.yaml", tmp_path, Console(), None, [0])
    )
    assert [tuned[method.name].summary["chosen"] for method in methods] == [{"dropout": 0.1}, {}]
    assert tuned["dnn"].settings.dropout == 0.1
    assert [tried["settings"] for tried in tuned["dnn"].summary["tried"]] == content["ranking"]["tune"]["dnn"]
