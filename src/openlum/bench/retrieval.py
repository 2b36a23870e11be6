"""`lum bench retrieval`: the Large User Model's answers and end-to-end next-item models on one data set, with all items
ranked."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from openlum.artefact.json_file import fingerprint, read_json, write_json
from openlum.artefact.keys import rerun_reason, step_key
from openlum.artefact.manifest import record_key
from openlum.bench.pipeline import RunContext, build_dataset, check_before_training
from openlum.bench.progress import run_all_with_progress
from openlum.bench.settings import LUM, Bench, RetrievalBench
from openlum.console import metrics_in_words, new_console
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.evaluation.comparison import compare_means
from openlum.evaluation.retrieval_metrics import retrieval_metrics, user_metrics
from openlum.pipeline.summary import environment
from openlum.pretrain.train import pretrain
from openlum.retrieve.baselines import baseline_ranks
from openlum.retrieve.evaluate import question_ranks
from openlum.retrieve.held_out import HeldOut, all_held_out, excludes_seen, protocol_description
from openlum.retrieve.sequential import check_sequential, fit_sequential, sequential_ranks
from openlum.retrieve.settings import chosen_baselines

Training = tuple[str, int]
"""`LUM` or the name of an end-to-end model, and the seed."""
Metrics = dict[str, dict[str, float]]
"""Method to its metrics."""
Ranks = dict[str, list[int]]
"""Method to the rank of every user's held-out item."""


def bench_retrieval(bench: Bench, context: RunContext, opponents: list[str]) -> dict[str, Any]:
    """Run the benchmark and return its result, in the form of `summary.json`: means over the seeds, and each seed's metrics.

    Args:
        bench: the benchmark.
        context: where and how it runs.
        opponents: names of the end-to-end models.
    """
    settings = bench.retrieval
    assert settings is not None
    dataset = build_dataset(bench.experiment, context)
    sections = {"model": settings.model, "pretrain": settings.pretrain, "retrieve": settings.retrieve}
    check_before_training(bench.experiment.model_copy(update={"query": None, "rank": None} | sections), context)
    prepared = Dataset(dataset)
    for name in opponents:
        try:
            check_sequential(prepared, name, settings.opponents[name])
        except InputError as error:
            raise InputError(f"{context.file}: retrieval.opponents.{name}: {error}") from None
    items = len(prepared.vocabulary("items"))
    exclude_seen = excludes_seen(prepared, items, settings.retrieve.exclude_seen)
    held_out = all_held_out(prepared, "test", items, exclude_seen)
    names = chosen_baselines(settings.retrieve, items)
    baselines = baseline_ranks(prepared, items, exclude_seen, settings.retrieve.batch_users, names)
    baseline_metrics = {name: retrieval_metrics(rank, settings.retrieve.at) for name, rank in baselines.items()}
    results, seeds = _train_all(dataset, settings, opponents, context), context.seeds
    by_seed: list[Metrics] = [_by_method(results, seed, opponents, "metrics") | baseline_metrics for seed in seeds]
    ranks: list[Ranks] = [
        _by_method(results, seed, opponents, "ranks") | {name: rank.tolist() for name, rank in baselines.items()}
        for seed in seeds
    ]
    return {
        "retrieval": {
            name: {
                metric: float(np.mean([seed_metrics[name][metric] for seed_metrics in by_seed]))
                for metric in by_seed[0][name]
            }
            for name in by_seed[0]
        },
        "comparisons": _comparisons(ranks, held_out, settings, [*opponents, *baselines]),
        "retrieval_protocol": protocol_description(
            prepared.info, held_out.target, held_out.items, exclude_seen, "last"
        ),
        "bench": {
            "dataset": bench.experiment.name,
            "protocol": settings.protocol,
            "seeds": seeds,
            "by_seed": by_seed,
            "told_more": [f"{LUM}: {name}" for name in settings.retrieve.known],
        },
        "environment": environment() | {"seed": seeds[0]},
    }


def _train_all(
    dataset: Path, bench: RetrievalBench, opponents: list[str], context: RunContext
) -> dict[Training, dict[str, Any]]:
    """Return the result of every training, with its metrics and ranks. Only trainings without a stored result are run."""
    directory = context.directory / "retrieval"
    directory.mkdir(parents=True, exist_ok=True)
    trainings = [(name, seed) for seed in context.seeds for name in (LUM, *opponents)]
    results = {
        training: stored for training in trainings if (stored := _stored_result(training, dataset, directory, bench))
    }
    missing = [training for training in trainings if training not in results]
    work = partial(_train, dataset=dataset, directory=directory, bench=bench)
    results |= dict(run_all_with_progress(work, missing, context.processes, "retrieval", _lines_about))
    return results


def _lines_about(training: Training, result: dict[str, Any]) -> list[str]:
    """Return the lines about a finished training: the metrics of every method."""
    name, seed = training
    return [
        f"{method}, seed {seed}: {metrics_in_words(metrics)}"
        for method, metrics in _methods(name, result["metrics"]).items()
    ]


def _by_method(results: dict[Training, dict[str, Any]], seed: int, opponents: list[str], part: str) -> dict[str, Any]:
    """Return one part of the results with a seed, by method."""
    return {
        method: value
        for name in (*opponents, LUM)
        for method, value in _methods(name, results[name, seed][part]).items()
    }


def _methods(name: str, part: Any) -> dict[str, Any]:
    """Return a part of a training's result by method; every question of the Large User Model is a method."""
    return {f"{LUM}: {question}": value for question, value in part.items()} if name == LUM else {name: part}


def _train(training: Training, dataset: Path, directory: Path, bench: RetrievalBench) -> dict[str, Any]:
    """Train, rank every user's held-out item, and store and return the result."""
    (name, seed), console, key = training, new_console(), _key(training, dataset, bench)
    console.print(Text.assemble(("retrieval", "bold"), f" {name}, seed {seed}"))
    try:
        if name == LUM:
            result = _train_large_user_model(dataset, directory / f"model-seed{seed}", bench, seed)
        else:
            result = _train_opponent(dataset, bench, name, seed, console)
    except InputError as error:
        raise InputError(f"{name}, seed {seed}: {error}") from None
    result |= {"key": key, "checksum": fingerprint(result)}
    write_json(_file(training, directory), result)
    return result


def _train_large_user_model(dataset: Path, model: Path, bench: RetrievalBench, seed: int) -> dict[str, Any]:
    settings = bench.pretrain.model_copy(update={"seed": seed, "protocol": "last"})
    key = step_key("pretrain", [bench.model.model_dump(), settings.model_dump()], {"dataset": dataset})
    if rerun_reason(model, key) is not None:
        pretrain(dataset, model, bench.model, settings)
        record_key(model, key)
    ranks = question_ranks(Dataset(dataset), model, bench.retrieve).ranks
    return {
        "metrics": {name: retrieval_metrics(rank, bench.retrieve.at) for name, rank in ranks.items()},
        "ranks": {name: rank.tolist() for name, rank in ranks.items()},
        "pretrain": read_json(model / "pretrain.json", "lum pretrain"),
    }


def _train_opponent(dataset: Path, bench: RetrievalBench, name: str, seed: int, console: Console) -> dict[str, Any]:
    began, curve, prepared = time.perf_counter(), [], Dataset(dataset)

    def epoch_done(epoch: int, ndcg: float) -> None:
        curve.append(ndcg)
        console.print(f"  epoch {epoch}: validation NDCG@10 {ndcg:.4f}", style="dim")

    model = fit_sequential(prepared, bench.opponents[name], seed, epoch_done)
    exclude_seen = excludes_seen(prepared, model.item_encoder.rows, bench.retrieve.exclude_seen)
    ranks = sequential_ranks(model, prepared, "test", exclude_seen)
    return {
        "metrics": retrieval_metrics(ranks, bench.retrieve.at),
        "ranks": ranks.tolist(),
        "validation_ndcg@10": curve,
        "seconds": round(time.perf_counter() - began, 1),
    }


def _stored_result(training: Training, dataset: Path, directory: Path, bench: RetrievalBench) -> dict[str, Any] | None:
    """Return the stored result of an equal training; None if there is none, or its file is damaged."""
    try:
        result = read_json(_file(training, directory), "lum bench")
    except InputError:
        return None
    key, checksum = result.pop("key", None), result.pop("checksum", None)
    return result if key == _key(training, dataset, bench) and checksum == fingerprint(result) else None


def _file(training: Training, directory: Path) -> Path:
    return directory / "{}-seed{}.json".format(*training)


def _key(training: Training, dataset: Path, bench: RetrievalBench) -> str:
    """Return a key that changes with everything that a training depends on."""
    name, seed = training
    if name == LUM:
        settings: list[Any] = [
            bench.model_dump(exclude={"opponents": True, "protocol": True, "retrieve": {"baselines"}})
        ]
    else:
        ranking = bench.retrieve.model_dump(
            exclude={"questions", "known", "filters", "baselines", "batch_users"}
        )  # opponents have no questions
        settings = [bench.opponents[name].model_dump(), ranking]
    return fingerprint(step_key("bench retrieval", [*settings, seed], {"dataset": dataset}))


def _comparisons(
    ranks: list[Ranks], held_out: HeldOut, bench: RetrievalBench, opponents: list[str]
) -> list[dict[str, Any]]:
    """Return the paired comparisons of every question with every opponent and baseline, by each metric, on the same users."""
    by_seed = [
        {name: user_metrics(rank, bench.retrieve.at) for name, rank in seed_ranks.items()} for seed_ranks in ranks
    ]  # one dictionary per seed: method to metric to (n,)
    comparisons = []
    for question in bench.retrieve.questions:  # questions of `known` know more than the end-to-end models
        for opponent in opponents:
            for metric in by_seed[0][opponent]:
                method = f"{LUM}: {question}"
                a, b = ([seed_metrics[name][metric] for seed_metrics in by_seed] for name in (method, opponent))
                comparison = compare_means(held_out.user_index, held_out.target, a, b)
                comparisons.append(comparison.to_dict(method, opponent, metric))
    return comparisons
