"""`lum bench retrieval`: the Large User Model's answers and end-to-end next-item models, all items ranked, on one data set."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from openlum.artefact.directory import fingerprint, read_json, write_json
from openlum.artefact.keys import step_key
from openlum.bench.pipeline import RunContext, build_dataset, check_before_training
from openlum.bench.settings import LUM, Bench, RetrievalBench
from openlum.bench.workers import run_all_shown
from openlum.console import new_console
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.evaluation.comparison import compare_means
from openlum.evaluation.ranked_lists import ranking_metrics, user_metrics
from openlum.pipeline.summary import environment
from openlum.pretrain.train import pretrain
from openlum.retrieve.evaluate import question_ranks
from openlum.retrieve.held_out import HeldOut
from openlum.retrieve.sequential import check_sequential, fit_sequential, sequential_ranks

Training = tuple[str, int]
"""`LUM` or the name of an end-to-end model, and the seed."""
Metrics = dict[str, dict[str, float]]
"""Method to its metrics."""
Ranks = dict[str, list[int]]
"""Method to the rank of every user's held-out item."""


def bench_retrieval(bench: Bench, context: RunContext, opponents: list[str]) -> dict[str, Any]:
    """Run the benchmark and return its result, in the shape of `summary.json`: means over the seeds, and all of them apart.

    Args:
        bench: what is compared how.
        context: where and how.
        opponents: which end-to-end models.
    """
    chosen = bench.retrieval
    assert chosen is not None
    dataset = build_dataset(bench.experiment, context)
    sections = {"model": chosen.model, "pretrain": chosen.pretrain, "retrieve": chosen.retrieve}
    check_before_training(bench.experiment.model_copy(update={"query": None, "rank": None} | sections), context)
    prepared = Dataset(dataset)
    for name in opponents:
        try:
            check_sequential(prepared, name, chosen.opponents[name])
        except InputError as error:
            raise InputError(f"{context.bench}: retrieval.opponents.{name}: {error}") from None
    made, seeds = _make(dataset, chosen, opponents, context), context.seeds
    by_seed: list[Metrics] = [_of_seed(made, seed, opponents, "metrics") for seed in seeds]
    ranks: list[Ranks] = [_of_seed(made, seed, opponents, "ranks") for seed in seeds]
    held_out = HeldOut(prepared, "test", len(prepared.vocabulary("items")), chosen.retrieve.exclude_seen)
    return {
        "retrieval": {
            name: {metric: float(np.mean([one[name][metric] for one in by_seed])) for metric in by_seed[0][name]}
            for name in by_seed[0]
        },
        "comparisons": _comparisons(ranks, held_out, chosen, opponents),
        "retrieval_protocol": held_out.protocol("last"),
        "bench": {
            "dataset": bench.experiment.name,
            "protocol": chosen.protocol,
            "seeds": seeds,
            "by_seed": by_seed,
            "told_more": [f"lum: {name}" for name in chosen.retrieve.known],
        },
        "environment": environment() | {"seed": seeds[0]},
    }


def _make(
    dataset: Path, bench: RetrievalBench, opponents: list[str], context: RunContext
) -> dict[Training, dict[str, Any]]:
    """What every training came to, its metrics and ranks among it; made unless it was before."""
    directory = context.directory / "retrieval"
    directory.mkdir(parents=True, exist_ok=True)
    trainings = [(name, seed) for seed in context.seeds for name in (LUM, *opponents)]
    found = {one: kept for one in trainings if (kept := _kept(one, dataset, directory, bench))}
    missing = [one for one in trainings if one not in found]
    work = partial(_train, dataset=dataset, directory=directory, bench=bench)
    for one, made in run_all_shown(work, missing, context.processes, "retrieval", context.console):
        found[one] = made
        for method, metrics in _methods(one[0], made["metrics"]).items():
            told = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            context.console.print(f"{method}, seed {one[1]}: {told}", style="dim", soft_wrap=True)
    return found


def _of_seed(made: dict[Training, dict[str, Any]], seed: int, opponents: list[str], part: str) -> dict[str, Any]:
    """Every method to a part of what its training of this seed came to."""
    return {method: its for name in (*opponents, LUM) for method, its in _methods(name, made[name, seed][part]).items()}


def _methods(name: str, part: Any) -> dict[str, Any]:
    """A part of what a training came to, by method: with the Large User Model every question is one."""
    return {f"{LUM}: {question}": its for question, its in part.items()} if name == LUM else {name: part}


def _train(training: Training, dataset: Path, directory: Path, bench: RetrievalBench) -> dict[str, Any]:
    """Train, rank every user's held-out item, and keep what came of it."""
    (name, seed), console, key = training, new_console(), _key(training, dataset, bench)
    console.print(Text.assemble(("retrieval", "bold"), f" {name}, seed {seed}"))
    try:
        if name == LUM:
            made = _large_user_model(dataset, directory / f"model-seed{seed}", bench, seed)
        else:
            made = _opponent(dataset, bench, name, seed, console)
    except InputError as error:
        raise InputError(f"{name}, seed {seed}: {error}") from None
    made |= {"key": key, "checksum": fingerprint(made)}
    write_json(_file(training, directory), made)
    return made


def _large_user_model(dataset: Path, model: Path, bench: RetrievalBench, seed: int) -> dict[str, Any]:
    settings = bench.pretrain.model_copy(update={"seed": seed, "protocol": "last"})
    trained = pretrain(dataset, model, bench.model, settings)
    ranks, _ = question_ranks(dataset, model, bench.retrieve)
    return {
        "metrics": {name: ranking_metrics(found, bench.retrieve.at) for name, found in ranks.items()},
        "ranks": {name: found.tolist() for name, found in ranks.items()},
        "pretrain": trained,
    }


def _opponent(dataset: Path, bench: RetrievalBench, name: str, seed: int, console: Console) -> dict[str, Any]:
    began, curve, prepared = time.perf_counter(), [], Dataset(dataset)

    def note(epoch: int, reached: float) -> None:
        curve.append(reached)
        console.print(f"  epoch {epoch}: validation NDCG@10 {reached:.4f}", style="dim")

    model = fit_sequential(prepared, bench.opponents[name], seed, note)
    held_out = HeldOut(prepared, "test", model.item_encoder.rows, bench.retrieve.exclude_seen)
    ranks = sequential_ranks(model, prepared, held_out)
    return {
        "metrics": ranking_metrics(ranks, bench.retrieve.at),
        "ranks": ranks.tolist(),
        "validation_ndcg@10": curve,
        "seconds": round(time.perf_counter() - began, 1),
    }


def _kept(training: Training, dataset: Path, directory: Path, bench: RetrievalBench) -> dict[str, Any] | None:
    """What came of an equal training; None where there was none, or its file is damaged."""
    try:
        kept = read_json(_file(training, directory), "lum bench")
    except InputError:
        return None
    key, checksum = kept.pop("key", None), kept.pop("checksum", None)
    return kept if key == _key(training, dataset, bench) and checksum == fingerprint(kept) else None


def _file(training: Training, directory: Path) -> Path:
    return directory / "{}-seed{}.json".format(*training)


def _key(training: Training, dataset: Path, bench: RetrievalBench) -> str:
    """Changes with everything that a training depends on."""
    name, seed = training
    if name == LUM:
        settings: list[Any] = [bench.model_dump(exclude={"opponents", "protocol"})]
    else:
        settings = [bench.opponents[name].model_dump(), bench.retrieve.model_dump()]
    return fingerprint(step_key("bench retrieval", [*settings, seed], {"dataset": dataset}))


def _comparisons(
    ranks: list[Ranks], held_out: HeldOut, bench: RetrievalBench, opponents: list[str]
) -> list[dict[str, Any]]:
    """The answers against every end-to-end model, by each metric, on the same users."""
    of_users = [
        {name: user_metrics(found, bench.retrieve.at) for name, found in one.items()} for one in ranks
    ]  # a seed to method to metric to (n,)
    out = []
    for question in bench.retrieve.questions:  # those of `known` are told more
        for opponent in opponents:
            for metric in of_users[0][opponent]:
                a, b = ([one[name][metric] for one in of_users] for name in (f"lum: {question}", opponent))
                found = compare_means(held_out.users, held_out.target, a, b)
                out.append(found.to_dict(f"lum: {question}", opponent, metric))
    return out
