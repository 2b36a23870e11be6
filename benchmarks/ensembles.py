"""What several trainings are worth, averaged; and how much all methods know together, which is the ceiling of what joins them.

    python benchmarks/ensembles.py --dataset kuairand-pure --ranking RANKING.json --json OUT

After `lum bench ranking`, whose result tells the settings and whose trainings are read again (one that is gone from `--runs` is
trained again). AUC of

- every ranker without knowledge: one training (mean over the seeds), and all trainings, their log-odds averaged;
- the answers of one Large User Model and those of all, averaged number by number: alone, and joined with the best of these
  rankers as late fusion does (one training of it; mean over the seeds);
- all rankers joined by logistic regression on the validation rows: one training of each (mean over the seeds), and all of each.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openlum.artefact.directory import read_json, write_json
from openlum.bench.pipeline import RunContext, build_knowledge
from openlum.bench.ranking import run_with_progress, seed_trials
from openlum.bench.settings import bench_file, changed, load_bench
from openlum.bench.trials import Outcome
from openlum.console import new_console
from openlum.data.dataset import SPLITS, Dataset
from openlum.evaluation.methods import WITH_KNOWLEDGE
from openlum.evaluation.metrics import auc
from openlum.pipeline.summary import environment
from openlum.rank.batches import RankingData
from openlum.rank.fusion import cross_fit, fused_inputs
from openlum.rank.knowledge import load_knowledge
from openlum.rank.rankers.late import late_inputs
from openlum.rank.settings import GENERATIVE
from openlum.report.rendering import figure, terminal_table

Numbers = tuple[np.ndarray, np.ndarray]
"""Of the validation rows and of the test rows, (I, X) each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="a benchmark's name")
    parser.add_argument("--ranking", type=Path, required=True, help="result of lum bench ranking")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where bench-DATASET is")
    parser.add_argument("--json", type=Path, required=True, help="result file")
    options = parser.parse_args()
    file, result = bench_file(options.dataset), read_json(options.ranking, "lum bench ranking")
    bench, told = load_bench(file), result["bench"]
    directory = options.runs / f"bench-{bench.experiment.name}"
    context = RunContext(file, directory, new_console(), None, told["seeds"], told["models"])
    settings, dataset = bench.experiment.rank, Dataset(directory / "dataset")
    assert settings is not None
    trained = build_knowledge(bench.experiment, context)
    trials = [
        trial
        for name, tuned in told["tuning"].items()
        for trial in seed_trials(
            name,
            name.removesuffix(WITH_KNOWLEDGE),
            changed(settings, tuned["chosen"]),
            trained if name.endswith(WITH_KNOWLEDGE) else [],
            context.seeds,
        )
    ]
    outcomes = run_with_progress(trials, "read", context)
    found = {name: [outcomes[trial] for trial in trials if trial.name == name] for name in told["tuning"]}
    answered = [RankingData(dataset, settings, load_knowledge(one.knowledge, dataset, [])) for one in trained]
    rows = [
        *_averages(found, answered[0]),
        *_answers(found, answered, result["validation"]),
        *_ceilings(found, answered[0]),
    ]
    table = terminal_table(f"{options.dataset}: AUC", "Of", "", "Validation", "Test")
    for of, how, reached in rows:
        table.add_row(of, how, figure(reached["valid"]), figure(reached["test"]))
    context.console.print(table)
    content = {"dataset": told["dataset"], "protocol": bench.protocol, "seeds": told["seeds"], "models": told["models"]}
    told_rows = [{"of": of, "how": how} | reached for of, how, reached in rows]
    write_json(options.json, {"ensembles": told_rows, "bench": content, "environment": environment()})


Row = tuple[str, str, dict[str, float]]
"""Of what, how many trainings, and its AUCs."""
Found = dict[str, list[Outcome]]
"""Methods to their trainings."""


def _averages(found: Found, data: RankingData) -> list[Row]:
    rows = []
    for name in _without_knowledge(found):
        each = [_log_odds(one) for one in found[name]]
        rows.append((name, "one", _mean_of([_auc(one, data) for one in each])))
        rows.append((name, f"{len(each)} averaged", _auc(_averaged(each), data)))
    return rows


def _answers(found: Found, answered: list[RankingData], validation: dict[str, Any]) -> list[Row]:
    plain = [name for name in _without_knowledge(found) if name not in GENERATIVE]
    best = max(plain, key=lambda name: validation[name]["auc"]["mean"])
    by_seed = [[_with_numbers(best, one, data) for data in answered] for one in found[best]]
    alone = [(valid[:, 1:], test[:, 1:]) for valid, test in by_seed[0]]  # the first column is the ranker's
    turns = [of_seed[number % len(answered)] for number, of_seed in enumerate(by_seed)]
    data, several = answered[0], f"{len(answered)} averaged"
    rows = [
        ("answers alone", "one", _mean_of([_joined(one, data) for one in alone])),
        (f"{best}{WITH_KNOWLEDGE}", "answers of one", _mean_of([_joined(one, data) for one in turns])),
    ]
    if len(answered) > 1:
        together = [_joined(_averaged(one), data) for one in by_seed]
        rows.append(("answers alone", several, _joined(_averaged(alone), data)))
        rows.append((f"{best}{WITH_KNOWLEDGE}", f"answers of {several}", _mean_of(together)))
    return rows


def _ceilings(found: Found, data: RankingData) -> list[Row]:
    rows = []
    without = _without_knowledge(found)
    for of, names in (
        ("all without knowledge", without),
        ("all with knowledge", [name for name in found if name not in without]),
    ):
        by_seed = [_beside(one) for one in zip(*(map(_log_odds, found[name]) for name in names), strict=True)]
        rows.append((of, "one of each", _mean_of([_joined(one, data) for one in by_seed])))
        rows.append((of, f"{len(by_seed)} of each", _joined(_beside(by_seed), data)))
    return rows


def _without_knowledge(found: Found) -> list[str]:
    return [name for name in found if not name.endswith(WITH_KNOWLEDGE)]


def _log_odds(one: Outcome) -> Numbers:
    valid, test = (fused_inputs(x, np.empty((len(x), 0))) for x in (one.valid, one.test))
    return valid, test


def _with_numbers(name: str, one: Outcome, data: RankingData) -> Numbers:
    """A ranker's log-odds and the numbers that join it."""
    config = data.config(name, True)  # type: ignore[arg-type]
    return late_inputs(one.valid, data, data.rows["valid"], config), late_inputs(
        one.test, data, data.rows["test"], config
    )


def _averaged(several: Sequence[Numbers]) -> Numbers:
    return np.mean([valid for valid, _ in several], 0), np.mean([test for _, test in several], 0)


def _beside(several: Sequence[Numbers]) -> Numbers:
    return np.hstack([valid for valid, _ in several]), np.hstack([test for _, test in several])


def _joined(x: Numbers, data: RankingData) -> dict[str, float]:
    """AUCs of numbers that a logistic regression joins on the validation rows; these are judged by the rows of other users."""
    valid, test = x
    label, user = data.rows["valid"].label.numpy(), data.rows["valid"].user.numpy()
    fusion, crossed = cross_fit(valid, label, user)
    return _auc((crossed, fusion(test)), data)


def _auc(x: Numbers, data: RankingData) -> dict[str, float]:
    valid, test = (data.rows[split].label.numpy() for split in SPLITS[1:])
    return {"valid": auc(valid, np.ravel(x[0])), "test": auc(test, np.ravel(x[1]))}


def _mean_of(several: list[dict[str, float]]) -> dict[str, float]:
    return {split: float(np.mean([one[split] for one in several])) for split in several[0]}


if __name__ == "__main__":
    main()
