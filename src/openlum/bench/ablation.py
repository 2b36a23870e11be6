"""`lum bench ablation`: what each part of the method is worth to one ranker, on one data set.

Every change is made to the benchmark's experiment, all else as it is; the ranker's settings are the experiment's, untuned.
"""

from typing import Any

import numpy as np

from openlum.bench.pipeline import RunContext, build_dataset, build_knowledge, check_before_training
from openlum.bench.ranking import comparison, knowledge_alone_of, predictions_of, run_with_progress, seed_trials
from openlum.bench.settings import NO_KNOWLEDGE, WHOLE_METHOD, Ablation, Bench, changed
from openlum.data.dataset import SPLITS, Dataset
from openlum.pipeline.summary import environment
from openlum.rank.batches import RankingData
from openlum.rank.run import evaluate

WHOLE = Ablation(table="", label=WHOLE_METHOD)


def bench_ablation(bench: Bench, context: RunContext, tables: list[str]) -> dict[str, Any]:
    """Run the ablations and return their result: `ablations`, a list of rows, each with its difference from the whole method.

    Args:
        bench: what is compared how.
        context: where and how.
        tables: which comparisons.
    """
    prepared = Dataset(build_dataset(bench.experiment, context))
    chosen = [WHOLE, *(one for one in bench.ablations if one.table in tables)]
    assert bench.experiment.rank is not None
    ranker = bench.ablation_ranker
    for one in chosen:
        check_before_training(
            one.of(bench.experiment), context, [changed(bench.experiment.rank, {"rankers": [ranker]})]
        )
    plain = RankingData(prepared, bench.experiment.rank)
    trials = {NO_KNOWLEDGE: seed_trials(NO_KNOWLEDGE, ranker, bench.experiment.rank, [], context.seeds)}
    alone = {}
    for ablation in chosen:
        experiment = ablation.of(bench.experiment)
        trained = build_knowledge(experiment, context)
        assert experiment.rank is not None
        trials[ablation.label] = seed_trials(ablation.label, ranker, experiment.rank, trained, context.seeds)
        if experiment.rank.knowledge.matching:
            every = [knowledge_alone_of(one, experiment.rank, prepared)["all"] for one in trained]
            alone[ablation.label] = {split: float(np.mean([one[split] for one in every])) for split in SPLITS}
    outcomes = run_with_progress([trial for some in trials.values() for trial in some], "ablation", context)
    found = {label: [outcomes[trial] for trial in some] for label, some in trials.items()}
    test, (ranking, _) = plain.rows["test"], evaluate(plain, *predictions_of(found))
    whole = found[WHOLE.label]
    rows = []
    for table, label in [("", NO_KNOWLEDGE), *((one.table, one.label) for one in chosen)]:
        rows.append(
            {
                "table": table,
                "label": label,
                "ranking": ranking[label],
                "valid_auc": [one.valid_auc for one in found[label]],
                "alone": alone.get(label),
                "from_whole": None
                if label == WHOLE.label
                else comparison(label, WHOLE.label, test, found[label], whole),
            }
        )
    told = {
        "dataset": bench.experiment.name,
        "protocol": bench.protocol,
        "seeds": context.seeds,
        "models": context.models,
        "ranker": ranker,
    }
    return {"ablations": rows, "bench": told, "environment": environment() | {"seed": bench.experiment.pretrain.seed}}
