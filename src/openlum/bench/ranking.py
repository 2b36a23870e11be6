"""`lum bench ranking`: every ranker without and with knowledge, and the end-to-end generative rankers, on one data set.

Every method is tuned over the same number of settings on the validation rows. It is then trained once per seed and evaluated on
the test rows. The Large User Model is trained several times as well, and the seeds use these trainings in turn.
"""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

from openlum.bench.pipeline import ModelKnowledge, RunContext, build_dataset, build_knowledge, check_before_training
from openlum.bench.progress import TaskProgress
from openlum.bench.settings import Bench, RankingBench, with_changes
from openlum.bench.stacking import stacked_rankers
from openlum.bench.trials import Outcome, Trial, missing_trials, run_trials
from openlum.data.dataset import Dataset
from openlum.evaluation.comparison import bootstrap_auc_interval, compare_auc
from openlum.evaluation.methods import WITH_KNOWLEDGE
from openlum.evaluation.metrics import auc
from openlum.pipeline.summary import environment
from openlum.rank.batches import RankingData, Rows
from openlum.rank.knowledge import StoredKnowledge
from openlum.rank.knowledge_probe import knowledge_probe
from openlum.rank.registry import is_end_to_end
from openlum.rank.run import Predictions, evaluate
from openlum.rank.settings import RankSettings


class Method(NamedTuple):
    """A ranker without or with knowledge."""

    name: str
    """Name in tables, such as `din+knowledge`."""
    architecture: str
    """Which ranker."""
    knowledge: list[ModelKnowledge]
    """The knowledge that the ranker reads, one per training of the Large User Model; empty without knowledge."""


class TunedMethod(NamedTuple):
    """The best settings of a method on the validation rows."""

    settings: RankSettings
    """The settings with the best validation AUC."""
    summary: dict[str, Any]
    """All settings that were `tried`, with their validation AUC, and the `chosen` changes."""


def bench_ranking(bench: Bench, context: RunContext, rankers: list[str], tune: bool = True) -> dict[str, Any]:
    """Run the benchmark and return its result, in the form of `summary.json`.

    Args:
        bench: the benchmark.
        context: where and how it runs.
        rankers: the rankers to compare.
        tune: whether settings are chosen on the validation rows; otherwise every method has the first settings of its list.
    """
    assert bench.ranking is not None
    assert bench.experiment.rank is not None
    prepared = Dataset(build_dataset(bench.experiment, context))
    check_before_training(bench.experiment, context, all_settings(bench, rankers))
    data = RankingData(prepared, bench.experiment.rank)
    knowledge = build_knowledge(bench.experiment, context)
    methods = [Method(name, name, []) for name in rankers]
    methods += [
        Method(f"{name}{WITH_KNOWLEDGE}", name, knowledge)
        for name in rankers
        if bench.experiment.rank.accepts_knowledge(name)
    ]
    budget = bench.ranking if tune else bench.ranking.untuned()
    tuned = tune_methods(budget, bench, methods, context)
    trials = [
        trial
        for method in methods
        for trial in seed_trials(
            method.name, method.architecture, tuned[method.name].settings, method.knowledge, context.seeds
        )
    ]
    trial_outcomes = run_with_progress(trials, "test", context)
    outcomes = {
        method.name: [trial_outcomes[trial] for trial in trials if trial.name == method.name] for method in methods
    }
    probes = [probe_knowledge(model_knowledge, bench.experiment.rank, prepared) for model_knowledge in knowledge]
    return (
        _evaluate(outcomes, data)
        | {"knowledge": probes[0]}
        | knowledge[0].summary
        | {
            "bench": {
                "dataset": bench.experiment.name,
                "protocol": bench.protocol,
                "seeds": context.seeds,
                "models": context.models,
                "alone": [probe["all"] for probe in probes],
                "tuning": {name: method.summary for name, method in tuned.items()},
                "epochs": {name: [outcome.best_epoch for outcome in by_seed] for name, by_seed in outcomes.items()},
                "seconds": {
                    name: [round(outcome.seconds, 1) for outcome in by_seed] for name, by_seed in outcomes.items()
                },
            },
            "environment": environment() | {"seed": bench.experiment.pretrain.seed},
        }
    )


def seed_trials(
    name: str, architecture: str, settings: RankSettings, knowledge: list[ModelKnowledge], seeds: list[int]
) -> list[Trial]:
    """Return one trial per seed of a method; with knowledge, the seeds use the trainings of the Large User Model in turn."""
    paths: list[Path | None] = [model_knowledge.path for model_knowledge in knowledge]
    return [
        Trial(name, architecture, settings, seed, path)
        for seed, path in zip(seeds, cycle(paths or [None]), strict=False)
    ]


def probe_knowledge(knowledge: ModelKnowledge, settings: RankSettings, dataset: Dataset) -> dict[str, Any]:
    """Return the knowledge probe of one training of the Large User Model; see `knowledge_probe`."""
    return knowledge_probe(RankingData(dataset, settings, StoredKnowledge(knowledge.path, dataset, [])))


def all_settings(bench: Bench, rankers: list[str]) -> list[RankSettings]:
    """Return all settings over which rankers are tuned, each with its own ranker only."""
    assert bench.ranking is not None
    assert bench.experiment.rank is not None
    settings = bench.experiment.rank
    return [
        with_changes(settings, changes | {"rankers": [name]})
        for name in rankers
        for changes in bench.ranking.tune[name]
    ]


def tune_methods(
    ranking: RankingBench, bench: Bench, methods: list[Method], context: RunContext
) -> dict[str, TunedMethod]:
    """Return the settings with the best validation AUC for every method."""
    settings = bench.experiment.rank
    assert settings is not None
    if len(next(iter(ranking.tune.values()))) == 1:  # one setting each: nothing to choose
        first = {method.name: ranking.tune[method.architecture][0] for method in methods}
        return {
            name: TunedMethod(with_changes(settings, changes), {"tried": [], "chosen": changes})
            for name, changes in first.items()
        }
    trials: dict[Trial, dict[str, Any]] = {}
    for method in methods:
        for changes in ranking.tune[method.architecture]:
            (trial,) = seed_trials(
                method.name,
                method.architecture,
                with_changes(settings, changes),
                method.knowledge,
                [ranking.tune_seed],
            )
            trials[trial] = changes
    outcomes = run_with_progress(list(trials), "tuning", context)
    tuned = {}
    for method in methods:
        method_trials = [trial for trial in trials if trial.name == method.name]
        best = max(method_trials, key=lambda trial: outcomes[trial].valid_auc)
        tried = [{"settings": trials[trial], "valid_auc": outcomes[trial].valid_auc} for trial in method_trials]
        tuned[method.name] = TunedMethod(best.settings, {"tried": tried, "chosen": trials[best]})
    return tuned


def run_with_progress(trials: list[Trial], description: str, context: RunContext) -> dict[Trial, Outcome]:
    """Return the outcome of every trial, and print a line for each. Trials without a stored outcome are trained."""
    dataset, store = context.directory / "dataset", context.directory / "trials"
    outcomes = {}
    missing = missing_trials(trials, dataset, store)
    with TaskProgress(description, len(trials), len(missing)) as progress:
        for trial, outcome in run_trials(trials, dataset, store, context.processes):
            outcomes[trial] = outcome
            figures = f"validation AUC {outcome.valid_auc:.4f}, epoch {outcome.best_epoch}, {outcome.seconds:.0f} s"
            progress.done([f"{description}: {trial.name}, seed {trial.seed}: {figures}"], worked=trial in missing)
    return outcomes


def _evaluate(outcomes: dict[str, list[Outcome]], data: RankingData) -> dict[str, Any]:
    """Return metrics on test and validation rows, and paired comparisons on the test rows."""
    test = data.rows["test"]
    ranking, validation = evaluate(data, *split_predictions(outcomes))

    def best(names: Sequence[str]) -> str | None:
        """Return the name with the best validation AUC. The test rows are never used to choose."""
        return max(names, key=lambda name: validation[name]["auc"]["mean"]) if names else None

    with_knowledge = [name for name in outcomes if name.endswith(WITH_KNOWLEDGE)]
    generative = [name for name in outcomes if is_end_to_end(name)]
    pairs = [(name, name.removesuffix(WITH_KNOWLEDGE)) for name in with_knowledge]
    # The benchmarked method is a non-generative ranker with knowledge. Generative rankers with knowledge are reported only.
    winner = best([name for name in with_knowledge if not is_end_to_end(name.removesuffix(WITH_KNOWLEDGE))])
    plain, opponent = (
        best([name for name in outcomes if name not in with_knowledge and name not in generative]),
        best(generative),
    )
    for baseline in (plain, opponent):
        if winner and baseline and (winner, baseline) not in pairs:
            pairs.append((winner, baseline))
    if winner and opponent:
        stacked = stacked_rankers(outcomes, plain, opponent, data.rows["valid"])
        test_figures, valid_figures = evaluate(data, *split_predictions(stacked))
        ranking, validation, outcomes = ranking | test_figures, validation | valid_figures, outcomes | stacked
        pairs += [(winner, name) for name in stacked]
    comparisons = [comparison(a, b, test, outcomes[a], outcomes[b]) for a, b in pairs]
    return {"ranking": ranking, "comparisons": comparisons, "validation": validation}


def split_predictions(outcomes: dict[str, list[Outcome]]) -> tuple[Predictions, Predictions]:
    """Return the predictions of the validation rows and of the test rows."""
    valid = {name: [outcome.valid for outcome in by_seed] for name, by_seed in outcomes.items()}
    return valid, {name: [outcome.test for outcome in by_seed] for name, by_seed in outcomes.items()}


def comparison(a: str, b: str, test: Rows, outcomes_a: list[Outcome], outcomes_b: list[Outcome]) -> dict[str, Any]:
    """Return the test AUC of method `a` minus that of `b`, with DeLong's test, a paired bootstrap, and each seed's difference."""
    label, user, item = test.label.numpy(), test.user.numpy(), test.item.numpy()
    predictions = [outcome.test for outcome in outcomes_a], [outcome.test for outcome in outcomes_b]
    return compare_auc(label, user, item, *predictions).to_dict(a, b) | {
        "bootstrap95": list(bootstrap_auc_interval(label, user, item, *predictions)),
        "per_seed": [auc(label, x) - auc(label, y) for x, y in zip(*predictions, strict=True)],
    }
