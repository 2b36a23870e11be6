"""AUC of averaged trainings, and of all methods stacked together: the upper bound for a method that joins them.

    python benchmarks/ensembles.py --dataset kuairand-pure --ranking RANKING.json --json OUT

Run it after `lum bench ranking`. It reads the settings from that result, and reuses its trainings (a training that is missing in
`--runs` is run again). It reports the AUC of

- every ranker without knowledge: one training (mean over the seeds), and the averaged log-odds of all trainings;
- the knowledge scores of one Large User Model, and the averaged scores of all: in the knowledge probe, and joined by late
  fusion with the best of these rankers (one training of the ranker; mean over the seeds);
- all rankers stacked by logistic regression on the validation rows: one training of each (mean over the seeds), and all
  trainings of each.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openlum.artefact.json_file import read_json, write_json
from openlum.bench.pipeline import RunContext, build_knowledge
from openlum.bench.ranking import run_with_progress, seed_trials
from openlum.bench.settings import bench_file, load_bench, with_changes
from openlum.bench.trials import Outcome
from openlum.console import new_console
from openlum.data.dataset import SPLITS, Dataset
from openlum.evaluation.methods import WITH_KNOWLEDGE
from openlum.evaluation.metrics import auc
from openlum.pipeline.summary import environment
from openlum.rank.batches import RankingData
from openlum.rank.fusion import cross_fit, fused_inputs
from openlum.rank.knowledge import StoredKnowledge
from openlum.rank.rankers.late_fusion import late_fusion_scores
from openlum.rank.registry import is_end_to_end
from openlum.report.rendering import format_number, terminal_table

Inputs = tuple[np.ndarray, np.ndarray]
"""Fusion inputs of the validation rows and of the test rows, (I, X) each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="a benchmark's name")
    parser.add_argument("--ranking", type=Path, required=True, help="the result of lum bench ranking")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="directory with bench-DATASET")
    parser.add_argument("--json", type=Path, required=True, help="result file")
    options = parser.parse_args()
    file, result = bench_file(options.dataset), read_json(options.ranking, "lum bench ranking")
    bench, summary = load_bench(file), result["bench"]
    directory = options.runs / f"bench-{bench.experiment.name}"
    context = RunContext(file, directory, new_console(), None, summary["seeds"], summary["models"])
    settings, dataset = bench.experiment.rank, Dataset(directory / "dataset")
    assert settings is not None
    knowledge = build_knowledge(bench.experiment, context)
    trials = [
        trial
        for name, tuned in summary["tuning"].items()
        for trial in seed_trials(
            name,
            name.removesuffix(WITH_KNOWLEDGE),
            with_changes(settings, tuned["chosen"]),
            knowledge if name.endswith(WITH_KNOWLEDGE) else [],
            context.seeds,
        )
    ]
    trial_outcomes = run_with_progress(trials, "read", context)
    outcomes = {name: [trial_outcomes[trial] for trial in trials if trial.name == name] for name in summary["tuning"]}
    model_data = [
        RankingData(dataset, settings, StoredKnowledge(model_knowledge.path, dataset, []))
        for model_knowledge in knowledge
    ]
    rows = [
        *_averaged_trainings(outcomes, model_data[0]),
        *_averaged_knowledge(outcomes, model_data, result["validation"]),
        *_stacked_methods(outcomes, model_data[0]),
    ]
    table = terminal_table(f"{options.dataset}: AUC", "Method", "Trainings", "Validation", "Test")
    for method, trainings, aucs in rows:
        table.add_row(method, trainings, format_number(aucs["valid"]), format_number(aucs["test"]))
    context.console.print(table)
    content = {key: summary[key] for key in ("dataset", "seeds", "models")} | {"protocol": bench.protocol}
    json_rows = [{"of": method, "how": trainings} | aucs for method, trainings, aucs in rows]
    write_json(options.json, {"ensembles": json_rows, "bench": content, "environment": environment()})


Row = tuple[str, str, dict[str, float]]
"""The method, its number of trainings, and its AUC by split."""
Outcomes = dict[str, list[Outcome]]
"""Method to the outcomes of its trainings."""


def _averaged_trainings(outcomes: Outcomes, data: RankingData) -> list[Row]:
    """Return every ranker without knowledge: one training, and all trainings averaged."""
    rows = []
    for name in _without_knowledge(outcomes):
        log_odds = [_log_odds(outcome) for outcome in outcomes[name]]
        rows.append((name, "one", _mean_auc([_auc(inputs, data) for inputs in log_odds])))
        rows.append((name, f"{len(log_odds)} averaged", _auc(_average(log_odds), data)))
    return rows


def _averaged_knowledge(outcomes: Outcomes, model_data: list[RankingData], validation: dict[str, Any]) -> list[Row]:
    """Return the knowledge scores of one Large User Model and of all averaged, without a ranker and with the best ranker."""
    plain = [name for name in _without_knowledge(outcomes) if not is_end_to_end(name)]
    best = max(plain, key=lambda name: validation[name]["auc"]["mean"])
    by_seed = [[_late_inputs(best, outcome, data) for data in model_data] for outcome in outcomes[best]]
    scores = [(valid[:, 1:], test[:, 1:]) for valid, test in by_seed[0]]  # the first column is the ranker's logit
    one_model = [seed_inputs[number % len(model_data)] for number, seed_inputs in enumerate(by_seed)]
    data, averaged = model_data[0], f"{len(model_data)} averaged"
    rows = [
        ("answers alone", "one", _mean_auc([_fused_auc(inputs, data) for inputs in scores])),
        (f"{best}{WITH_KNOWLEDGE}", "answers of one", _mean_auc([_fused_auc(inputs, data) for inputs in one_model])),
    ]
    if len(model_data) > 1:
        averaged_aucs = [_fused_auc(_average(seed_inputs), data) for seed_inputs in by_seed]
        rows.append(("answers alone", averaged, _fused_auc(_average(scores), data)))
        rows.append((f"{best}{WITH_KNOWLEDGE}", f"answers of {averaged}", _mean_auc(averaged_aucs)))
    return rows


def _stacked_methods(outcomes: Outcomes, data: RankingData) -> list[Row]:
    """Return all rankers stacked, without and with knowledge."""
    rows = []
    without = _without_knowledge(outcomes)
    for method, names in (
        ("all without knowledge", without),
        ("all with knowledge", [name for name in outcomes if name not in without]),
    ):
        by_seed = [_stack(inputs) for inputs in zip(*(map(_log_odds, outcomes[name]) for name in names), strict=True)]
        rows.append((method, "one of each", _mean_auc([_fused_auc(inputs, data) for inputs in by_seed])))
        rows.append((method, f"{len(by_seed)} of each", _fused_auc(_stack(by_seed), data)))
    return rows


def _without_knowledge(outcomes: Outcomes) -> list[str]:
    return [name for name in outcomes if not name.endswith(WITH_KNOWLEDGE)]


def _log_odds(outcome: Outcome) -> Inputs:
    valid, test = (fused_inputs(x, np.empty((len(x), 0))) for x in (outcome.valid, outcome.test))
    return valid, test


def _late_inputs(name: str, outcome: Outcome, data: RankingData) -> Inputs:
    """Return the inputs of a late fusion: a ranker's log-odds and knowledge scores."""
    config = data.config(name, True)  # type: ignore[arg-type]
    valid, test = (
        fused_inputs(probability, late_fusion_scores(data, rows, config))
        for rows, probability in ((data.rows["valid"], outcome.valid), (data.rows["test"], outcome.test))
    )
    return valid, test


def _average(inputs: Sequence[Inputs]) -> Inputs:
    return np.mean([valid for valid, _ in inputs], 0), np.mean([test for _, test in inputs], 0)


def _stack(inputs: Sequence[Inputs]) -> Inputs:
    return np.hstack([valid for valid, _ in inputs]), np.hstack([test for _, test in inputs])


def _fused_auc(inputs: Inputs, data: RankingData) -> dict[str, float]:
    """Return the AUCs of a fusion that is fitted on the validation rows; the validation AUC is cross-fitted by user."""
    valid, test = inputs
    label, user = data.rows["valid"].label.numpy(), data.rows["valid"].user.numpy()
    fusion, valid_probability = cross_fit(valid, label, user)
    return _auc((valid_probability, fusion(test)), data)


def _auc(predictions: Inputs, data: RankingData) -> dict[str, float]:
    valid, test = (data.rows[split].label.numpy() for split in SPLITS[1:])
    return {"valid": auc(valid, np.ravel(predictions[0])), "test": auc(test, np.ravel(predictions[1]))}


def _mean_auc(aucs: list[dict[str, float]]) -> dict[str, float]:
    return {split: float(np.mean([split_auc[split] for split_auc in aucs])) for split in aucs[0]}


if __name__ == "__main__":
    main()
