"""`lum bench ablation`: the value of each part of the method for one ranker, on one data set.

Each ablation changes the benchmark's experiment in one way. The ranker's settings are the experiment's own, untuned.
"""

from typing import Any

import numpy as np

from openlum.bench.pipeline import RunContext, build_dataset, build_knowledge, check_before_training
from openlum.bench.ranking import comparison, probe_knowledge, run_with_progress, seed_trials, split_predictions
from openlum.bench.settings import NO_KNOWLEDGE, WHOLE_METHOD, Ablation, Bench, with_changes
from openlum.data.dataset import SPLITS, Dataset
from openlum.pipeline.summary import environment
from openlum.rank.batches import RankingData
from openlum.rank.run import evaluate

UNCHANGED = Ablation(table="", label=WHOLE_METHOD)


def bench_ablation(bench: Bench, context: RunContext, tables: list[str]) -> dict[str, Any]:
    """Run the ablations and return `ablations`: one row for each, with its difference from the whole method.

    Args:
        bench: the benchmark.
        context: where and how it runs.
        tables: the tables of ablations to run.
    """
    prepared = Dataset(build_dataset(bench.experiment, context))
    ablations = [UNCHANGED, *(ablation for ablation in bench.ablations if ablation.table in tables)]
    assert bench.experiment.rank is not None
    ranker = bench.ablation_ranker
    for ablation in ablations:
        check_before_training(
            ablation.apply_to(bench.experiment), context, [with_changes(bench.experiment.rank, {"rankers": [ranker]})]
        )
    plain = RankingData(prepared, bench.experiment.rank)
    trials = {NO_KNOWLEDGE: seed_trials(NO_KNOWLEDGE, ranker, bench.experiment.rank, [], context.seeds)}
    probe_auc = {}
    for ablation in ablations:
        experiment = ablation.apply_to(bench.experiment)
        knowledge = build_knowledge(experiment, context)
        assert experiment.rank is not None
        trials[ablation.label] = seed_trials(ablation.label, ranker, experiment.rank, knowledge, context.seeds)
        if experiment.rank.knowledge.matching:
            probes = [
                probe_knowledge(model_knowledge, experiment.rank, prepared)["all"] for model_knowledge in knowledge
            ]
            probe_auc[ablation.label] = {split: float(np.mean([probe[split] for probe in probes])) for split in SPLITS}
    trial_outcomes = run_with_progress(
        [trial for label_trials in trials.values() for trial in label_trials], "ablation", context
    )
    outcomes = {label: [trial_outcomes[trial] for trial in label_trials] for label, label_trials in trials.items()}
    test, (ranking, _) = plain.rows["test"], evaluate(plain, *split_predictions(outcomes))
    rows = []
    for table, label in [("", NO_KNOWLEDGE), *((ablation.table, ablation.label) for ablation in ablations)]:
        rows.append(
            {
                "table": table,
                "label": label,
                "ranking": ranking[label],
                "valid_auc": [outcome.valid_auc for outcome in outcomes[label]],
                "alone": probe_auc.get(label),
                "from_whole": None
                if label == WHOLE_METHOD
                else comparison(label, WHOLE_METHOD, test, outcomes[label], outcomes[WHOLE_METHOD]),
            }
        )
    summary = {
        "dataset": bench.experiment.name,
        "protocol": bench.protocol,
        "seeds": context.seeds,
        "models": context.models,
        "ranker": ranker,
    }
    return {
        "ablations": rows,
        "bench": summary,
        "environment": environment() | {"seed": bench.experiment.pretrain.seed},
    }
