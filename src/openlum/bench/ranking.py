"""`lum bench ranking`: every ranker without and with knowledge, and the end-to-end generative ones, on one data set.

Each is tuned over the same number of settings, on the validation rows, then trained once a seed and judged on the test rows.
The Large User Model is trained several times as well, and the seeds take these trainings in turn.
"""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from openlum.bench.pipeline import RunContext, Trained, build_dataset, build_knowledge, check_before_training
from openlum.bench.settings import Bench, RankingBench, changed
from openlum.bench.stacking import stacked_rankers
from openlum.bench.trials import Outcome, Trial, run_trials
from openlum.bench.workers import tasks_bar
from openlum.data.dataset import Dataset
from openlum.evaluation.comparison import bootstrap_auc, compare_auc
from openlum.evaluation.methods import WITH_KNOWLEDGE
from openlum.evaluation.metrics import auc
from openlum.pipeline.summary import environment
from openlum.rank.batches import RankingData, Rows
from openlum.rank.knowledge import load_knowledge
from openlum.rank.knowledge_probe import knowledge_probe
from openlum.rank.run import Predictions, evaluate
from openlum.rank.settings import GENERATIVE, Architecture, RankSettings

Method = tuple[str, Architecture, list[Trained]]
"""The name in tables, which ranker, and the knowledge that it is given, one a training of the Large User Model; none without."""


def bench_ranking(bench: Bench, context: RunContext, rankers: list[Architecture], tune: bool = True) -> dict[str, Any]:
    """Run the benchmark and return its result, in the shape of `summary.json`.

    Args:
        bench: what is compared how.
        context: where and how.
        rankers: which.
        tune: whether settings are chosen on validation; otherwise every method has the first one it would be tuned over.
    """
    assert bench.ranking is not None
    assert bench.experiment.rank is not None
    prepared = Dataset(build_dataset(bench.experiment, context))
    check_before_training(bench.experiment, context, _tried(bench, rankers))
    data = RankingData(prepared, bench.experiment.rank)
    trained = build_knowledge(bench.experiment, context)
    methods: list[Method] = [(name, name, []) for name in rankers]
    methods += [(f"{name}{WITH_KNOWLEDGE}", name, trained) for name in rankers if bench.experiment.rank.informs(name)]
    budget = bench.ranking if tune else bench.ranking.untuned()
    tuned = _tune(budget, bench, methods, context)
    trials = [
        trial
        for name, architecture, known in methods
        for trial in seed_trials(name, architecture, tuned[name]["settings"], known, context.seeds)
    ]
    outcomes = run_with_progress(trials, "test", context)
    found = {name: [outcomes[trial] for trial in trials if trial.name == name] for name, _, _ in methods}
    alone = [knowledge_alone_of(one, bench.experiment.rank, prepared) for one in trained]
    return (
        _evaluate(found, data)
        | {"knowledge": alone[0]}
        | trained[0].told
        | {
            "bench": {
                "dataset": bench.experiment.name,
                "protocol": bench.protocol,
                "seeds": context.seeds,
                "models": context.models,
                "alone": [one["all"] for one in alone],
                "tuning": {name: made["told"] for name, made in tuned.items()},
                "epochs": {name: [one.best_epoch for one in all_] for name, all_ in found.items()},
                "seconds": {name: [round(one.seconds, 1) for one in all_] for name, all_ in found.items()},
            },
            "environment": environment() | {"seed": bench.experiment.pretrain.seed},
        }
    )


def seed_trials(
    name: str, architecture: Architecture, settings: RankSettings, trained: list[Trained], seeds: list[int]
) -> list[Trial]:
    """One training a seed of a method; where it has knowledge, the trainings of the Large User Model take turns."""
    knowledge: list[Path | None] = [one.knowledge for one in trained]
    return [
        Trial(name, architecture, settings, seed, known)
        for seed, known in zip(seeds, cycle(knowledge or [None]), strict=False)
    ]


def knowledge_alone_of(trained: Trained, settings: RankSettings, dataset: Dataset) -> dict[str, Any]:
    """What a training's answers know with no ranker; see `knowledge_probe`."""
    return knowledge_probe(RankingData(dataset, settings, load_knowledge(trained.knowledge, dataset, [])))


def _tried(bench: Bench, rankers: list[Architecture]) -> list[RankSettings]:
    """All settings that rankers are tuned over, each with its own ranker alone."""
    assert bench.ranking is not None
    assert bench.experiment.rank is not None
    own = bench.experiment.rank
    return [changed(own, changes | {"rankers": [name]}) for name in rankers for changes in bench.ranking.tune[name]]


def _tune(ranking: RankingBench, bench: Bench, methods: list[Method], context: RunContext) -> dict[str, dict[str, Any]]:
    """Of every method the settings with the best validation AUC, and what was tried."""
    assert bench.experiment.rank is not None
    if len(next(iter(ranking.tune.values()))) == 1:  # nothing to choose
        first = {name: ranking.tune[architecture][0] for name, architecture, _ in methods}
        return {
            name: {"settings": changed(bench.experiment.rank, changes), "told": {"tried": [], "chosen": changes}}
            for name, changes in first.items()
        }
    trials: dict[Trial, dict[str, Any]] = {}
    for name, architecture, known in methods:
        for changes in ranking.tune[architecture]:
            settings = changed(bench.experiment.rank, changes)
            (trial,) = seed_trials(name, architecture, settings, known, [ranking.tune_seed])
            trials[trial] = changes
    outcomes = run_with_progress(list(trials), "tuning", context)
    tuned = {}
    for name, _, _ in methods:
        tried = [trial for trial in trials if trial.name == name]
        best = max(tried, key=lambda trial: outcomes[trial].valid_auc)
        told = [{"settings": trials[trial], "valid_auc": outcomes[trial].valid_auc} for trial in tried]
        tuned[name] = {"settings": best.settings, "told": {"tried": told, "chosen": trials[best]}}
    return tuned


def run_with_progress(trials: list[Trial], what: str, context: RunContext) -> dict[Trial, Outcome]:
    """The outcome of every trial, trained where it is not known yet; a line for each as it becomes known."""
    dataset, store = context.directory / "dataset", context.directory / "trials"
    outcomes = {}
    with tasks_bar(context.console) as bar:
        task = bar.add_task(what, total=len(trials))
        for trial, outcome in run_trials(trials, dataset, store, context.processes):
            outcomes[trial] = outcome
            bar.advance(task)
            told = f"validation AUC {outcome.valid_auc:.4f}, epoch {outcome.best_epoch}, {outcome.seconds:.0f} s"
            context.console.print(f"{what}: {trial.name}, seed {trial.seed}: {told}", style="dim")
    return outcomes


def _evaluate(found: dict[str, list[Outcome]], data: RankingData) -> dict[str, Any]:
    """Metrics on test and validation rows, and paired comparisons on the test rows."""
    test = data.rows["test"]
    ranking, validation = evaluate(data, *predictions_of(found))

    def best(names: Sequence[str]) -> str | None:
        """Chosen by validation, never by the test."""
        return max(names, key=lambda name: validation[name]["auc"]["mean"]) if names else None

    informed = [name for name in found if name.endswith(WITH_KNOWLEDGE)]
    generative = [name for name in found if name in GENERATIVE]
    pairs = [(name, name.removesuffix(WITH_KNOWLEDGE)) for name in informed]
    # The method is a ranker with knowledge; what knowledge adds to an end-to-end model is told beside it.
    winner = best([name for name in informed if name.removesuffix(WITH_KNOWLEDGE) not in GENERATIVE])
    plain, opponent = (
        best([name for name in found if name not in informed and name not in generative]),
        best(generative),
    )
    for other in (plain, opponent):
        if winner and other and (winner, other) not in pairs:
            pairs.append((winner, other))
    if winner and opponent:
        joined = stacked_rankers(found, plain, opponent, data.rows["valid"])
        on_test, on_valid = evaluate(data, *predictions_of(joined))
        ranking, validation, found = ranking | on_test, validation | on_valid, found | joined
        pairs += [(winner, name) for name in joined]
    comparisons = [comparison(a, b, test, found[a], found[b]) for a, b in pairs]
    return {"ranking": ranking, "comparisons": comparisons, "validation": validation}


def predictions_of(found: dict[str, list[Outcome]]) -> tuple[Predictions, Predictions]:
    """Predictions of the validation rows and of the test rows."""
    valid = {name: [one.valid for one in every] for name, every in found.items()}
    return valid, {name: [one.test for one in every] for name, every in found.items()}


def comparison(a: str, b: str, test: Rows, of_a: list[Outcome], of_b: list[Outcome]) -> dict[str, Any]:
    """Test AUC of method `a` less that of `b`, with DeLong's test, a paired bootstrap, and the difference of each seed."""
    label, user, item = test.label.numpy(), test.user.numpy(), test.item.numpy()
    predictions = [one.test for one in of_a], [one.test for one in of_b]
    return compare_auc(label, user, item, *predictions).to_dict(a, b) | {
        "bootstrap95": list(bootstrap_auc(label, user, item, *predictions)),
        "per_seed": [auc(label, x) - auc(label, y) for x, y in zip(*predictions, strict=True)],
    }
