"""`lum bench tiers`: every ranker with each tier of knowledge and with controls, on one data set, and what each tier costs.

Rankers are tuned and trained without knowledge, as in `lum bench ranking`, which shares these trainings. Each tier and each
control then joins them by late fusion. The Large User Model is trained several times; the seeds use these trainings in turn.

Shapes: I rows of a split, S predictions of the matching head.
"""

from itertools import product
from typing import Any, get_args

import numpy as np

from openlum.bench.no_user import predict_without_users
from openlum.bench.pipeline import ModelKnowledge, RunContext, build_dataset, build_knowledge, check_before_training
from openlum.bench.ranking import (
    Method,
    all_settings,
    run_with_progress,
    seed_trials,
    split_predictions,
    tune_methods,
)
from openlum.bench.settings import Ablation, Bench
from openlum.data.dataset import Dataset, Split
from openlum.evaluation.comparison import compare_auc
from openlum.evaluation.methods import WITH_CONTROL, WITH_KNOWLEDGE, WITH_TIER
from openlum.pipeline.experiment import Experiment
from openlum.pipeline.summary import environment
from openlum.rank.batches import RankingData
from openlum.rank.controls import Predictions, Scores, control_scores, joined_predictions, scores_of_tier
from openlum.rank.fusion import multi_value_feedback, with_probabilities
from openlum.rank.inputs import names_of_tier
from openlum.rank.knowledge import StoredKnowledge
from openlum.rank.run import evaluate
from openlum.rank.settings import Tier

NONE, COUNTERS, NO_USER = "none", "counters", "no user"
TIERS: tuple[Tier, ...] = get_args(Tier)
CONTROLS = COUNTERS, NO_USER
ENDINGS = (
    {NONE: ""}
    | {tier: WITH_KNOWLEDGE if tier == "fresh" else f"{WITH_TIER}{tier}" for tier in TIERS}
    | {control: f"{WITH_CONTROL}{control}" for control in CONTROLS}
)
"""What joins a ranker to the end of the name of the two together."""
ALL_TIERS = Ablation(
    table="",
    label="tiers",
    query={"predict_feedback": True, "matching_head": ["nightly", "fresh"]},
    rank={"knowledge": {"tier": "fresh"}, "controls": [COUNTERS]},
)
"""The changes of an experiment that give its knowledge all tiers."""


def bench_tiers(bench: Bench, context: RunContext, rankers: list[str], tune: bool = True) -> dict[str, Any]:
    """Run the benchmark and return its result.

    `tiers` has the metrics on the test rows by ranker and by what joins it: `none`, each tier, `counters` and `no user`.
    `validation` has the same on the validation rows, and `kept` whether each fusion was used, by seed. `cost` is that of the
    matching head (the tiers nightly and fresh), `query.costs` that of every tier. `bench.best` is the ranker with the best
    validation AUC without knowledge.

    Args:
        bench: the benchmark.
        context: where and how it runs.
        rankers: the rankers.
        tune: whether settings are chosen on the validation rows, without knowledge; otherwise every ranker has the first settings
            of its list.
    """
    bench = bench.model_copy(update={"experiment": ALL_TIERS.apply_to(bench.experiment)})
    assert bench.ranking is not None
    assert bench.experiment.rank is not None
    prepared = Dataset(build_dataset(bench.experiment, context))
    check_before_training(bench.experiment, context, all_settings(bench, rankers))
    knowledge = build_knowledge(bench.experiment, context)
    without_users = predict_without_users([model_knowledge.model for model_knowledge in knowledge], context)
    methods = [Method(name, name, []) for name in rankers]
    tuned = tune_methods(bench.ranking if tune else bench.ranking.untuned(), bench, methods, context)
    trials = {name: seed_trials(name, name, tuned[name].settings, [], context.seeds) for name in rankers}
    outcomes = run_with_progress([trial for by_seed in trials.values() for trial in by_seed], "test", context)
    plain = split_predictions({name: [outcomes[trial] for trial in by_seed] for name, by_seed in trials.items()})
    scores = [
        _scores(bench.experiment, prepared, model_knowledge, predicted)
        for model_knowledge, predicted in zip(knowledge, without_users, strict=True)
    ]
    data = RankingData(prepared, bench.experiment.rank)
    valid, test, kept = _join(data, *plain, scores)
    ranking, validation = evaluate(data, valid, test)
    return {
        "tiers": _by_ranker(ranking, rankers),
        "validation": _by_ranker(validation, rankers),
        "kept": kept,
        "comparisons": _comparisons(data, test, rankers),
        "cost": knowledge[0].summary["query"].get("costs", {}).get("fresh", {}),
        **knowledge[0].summary,
        "bench": {
            "dataset": bench.experiment.name,
            "protocol": bench.protocol,
            "seeds": context.seeds,
            "models": context.models,
            "tuning": {name: method.summary for name, method in tuned.items()},
            "best": max(rankers, key=lambda name: validation[name]["auc"]["mean"]),
        },
        "environment": environment() | {"seed": bench.experiment.pretrain.seed},
    }


def _scores(
    experiment: Experiment, dataset: Dataset, knowledge: ModelKnowledge, without_users: dict[Split, np.ndarray]
) -> Scores:
    """Return the scores of each tier and of each control, for one training of the Large User Model.

    Args:
        experiment: with all tiers.
        dataset: of the experiment.
        knowledge: of the training.
        without_users: from `predict_without_users`, (I, S) for each split.
    """
    assert experiment.rank is not None
    data = RankingData(dataset, experiment.rank, StoredKnowledge(knowledge.path, dataset, []))
    assert data.knowledge is not None
    scores = {ENDINGS[tier]: scores_of_tier(data, tier) for tier in TIERS} | control_scores(data)
    names = names_of_tier(data.knowledge.score_names, "fresh")
    probabilities = multi_value_feedback(names, data.knowledge.score_names)
    scores[ENDINGS[NO_USER]] = {
        split: with_probabilities(predicted, names, probabilities) for split, predicted in without_users.items()
    }
    return scores


def _join(
    data: RankingData, valid: Predictions, test: Predictions, scores: list[Scores]
) -> tuple[dict[str, list[np.ndarray]], dict[str, list[np.ndarray]], dict[str, list[bool]]]:
    """Return what `joined_predictions` returns for several trainings of the Large User Model, which the seeds use in turn.

    The predictions of the plain rankers are among the returned ones.

    Args:
        data: the rows.
        valid: predictions of the validation rows by the plain rankers.
        test: the same for the test rows.
        scores: of each training.
    """
    all_valid, all_test = ({name: list(by_seed) for name, by_seed in part.items()} for part in (valid, test))
    all_kept: dict[str, list[bool]] = {}
    for index in range(len(next(iter(valid.values())))):
        valid_of_seed, test_of_seed = ({name: [part[name][index]] for name in part} for part in (valid, test))
        joined = joined_predictions(data, valid_of_seed, test_of_seed, scores[index % len(scores)])
        for name, kept in joined[2].items():
            all_valid.setdefault(name, []).extend(joined[0][name])
            all_test.setdefault(name, []).extend(joined[1][name])
            all_kept.setdefault(name, []).extend(kept)
    return all_valid, all_test, all_kept


def _by_ranker(figures: dict[str, Any], rankers: list[str]) -> dict[str, dict[str, Any]]:
    """Return the figures of all methods by ranker and by what joins it."""
    return {name: {key: figures[f"{name}{ending}"] for key, ending in ENDINGS.items()} for name in rankers}


def _comparisons(data: RankingData, test: Predictions, rankers: list[str]) -> list[dict[str, Any]]:
    """Return the comparisons of each tier and control with the plain ranker, and of each tier with each control."""
    rows, comparisons = data.rows["test"], []
    arrays = rows.label.numpy(), rows.user.numpy(), rows.item.numpy()
    pairs = [*product((*TIERS, *CONTROLS), [NONE]), *product(TIERS, CONTROLS)]
    for ranker, (a, b) in product(rankers, pairs):
        first, second = f"{ranker}{ENDINGS[a]}", f"{ranker}{ENDINGS[b]}"
        comparisons.append(compare_auc(*arrays, test[first], test[second]).to_dict(first, second))
    return comparisons
