"""`lum bench retrieval`: the Large User Model's answers and end-to-end next-item models, all items ranked, on one data set."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from openlum import __version__
from openlum.artefact import fingerprint, read_json, write_json
from openlum.bench.chain import Place, build_dataset, check_before_training
from openlum.bench.settings import Bench, RetrievalBench
from openlum.data.dataset import Dataset
from openlum.pretrain.train import pretrain
from openlum.rank.compare import compare_means
from openlum.retrieve.evaluate import question_ranks
from openlum.retrieve.held_out import HeldOut
from openlum.retrieve.metrics import ranking_metrics, user_metrics
from openlum.retrieve.sequential import SequentialSettings, fit_sequential, sequential_ranks
from openlum.summary import environment

Metrics = dict[str, dict[str, float]]
"""Method to its metrics."""
Ranks = dict[str, list[int]]
"""Method to the rank of every user's held-out item."""


def bench_retrieval(bench: Bench, place: Place, opponents: list[str]) -> dict[str, Any]:
    """Run the benchmark and return its result, in the shape of `summary.json`: means over the seeds, and all of them apart.

    Args:
        bench: what is compared how.
        place: where and how.
        opponents: which end-to-end models.
    """
    chosen = bench.retrieval
    assert chosen is not None
    dataset = build_dataset(bench.experiment, place)
    asked = bench.experiment.model_copy(update={"query": None, "rank": None, "retrieve": chosen.retrieve})
    check_before_training(asked, place)
    directory, console, seeds = place.directory, place.console, place.seeds
    prepared = Dataset(dataset)
    by_seed: list[Metrics] = []
    ranks: list[Ranks] = []
    for seed in seeds:
        found: Metrics = {}
        ranks.append({})
        for name in opponents:
            settings = chosen.opponents[name]
            where = directory / "retrieval" / f"{name}-seed{seed}.json"
            key = [prepared.info.fingerprint, settings.model_dump(), chosen.retrieve.model_dump(), seed]
            made = _kept(where, key, _Opponent(prepared, settings, chosen, seed, console))
            found[name], ranks[-1][name] = made["metrics"], made["ranks"]
            console.print(f"[dim]{name}, seed {seed}: {_told(found[name])}[/dim]", soft_wrap=True)
        where = directory / "retrieval" / f"lum-seed{seed}.json"
        key = [prepared.info.fingerprint, chosen.model_dump(exclude={"opponents", "protocol"}), seed]
        made = _kept(where, key, lambda seed=seed: _large_user_model(dataset, directory, chosen, seed))  # type: ignore[misc]
        found |= {f"lum: {question}": metrics for question, metrics in made["metrics"].items()}
        ranks[-1] |= {f"lum: {question}": its for question, its in made["ranks"].items()}
        for question, metrics in made["metrics"].items():
            console.print(f"[dim]lum: {question}, seed {seed}: {_told(metrics)}[/dim]", soft_wrap=True)
        by_seed.append(found)
    held_out = HeldOut(prepared, "test", len(prepared.vocabulary("items")), chosen.retrieve.exclude_seen)
    return {
        "retrieval": {
            name: {metric: float(np.mean([one[name][metric] for one in by_seed])) for metric in by_seed[0][name]}
            for name in by_seed[0]
        },
        "comparisons": _comparisons(ranks, held_out, chosen, opponents),
        "retrieval_protocol": held_out.protocol(),
        "bench": {
            "dataset": bench.experiment.name,
            "protocol": chosen.protocol,
            "seeds": seeds,
            "by_seed": by_seed,
            "told_more": [f"lum: {name}" for name in chosen.retrieve.known],
        },
        "environment": environment() | {"seed": seeds[0]},
    }


class _Opponent:
    """Trains and judges one end-to-end model."""

    def __init__(
        self, dataset: Dataset, settings: SequentialSettings, bench: RetrievalBench, seed: int, console: Console
    ) -> None:
        self.dataset, self.settings, self.bench, self.seed, self.console = dataset, settings, bench, seed, console

    def __call__(self) -> dict[str, Any]:
        began, curve = time.perf_counter(), []

        def note(epoch: int, reached: float) -> None:
            curve.append(reached)
            self.console.print(f"[dim]  epoch {epoch}: validation NDCG@10 {reached:.4f}[/dim]")

        model = fit_sequential(self.dataset, self.settings, self.seed, note)
        held_out = HeldOut(self.dataset, "test", model.item_encoder.rows, self.bench.retrieve.exclude_seen)
        ranks = sequential_ranks(model, self.dataset, held_out)
        return {
            "metrics": ranking_metrics(ranks, self.bench.retrieve.at),
            "ranks": ranks.tolist(),
            "validation_ndcg@10": curve,
            "seconds": round(time.perf_counter() - began, 1),
        }


def _large_user_model(dataset: Path, directory: Path, bench: RetrievalBench, seed: int) -> dict[str, Any]:
    model = directory / "retrieval" / f"model-seed{seed}"
    trained = pretrain(
        dataset, model, bench.model, bench.pretrain.model_copy(update={"seed": seed, "protocol": "last"})
    )
    ranks, _ = question_ranks(dataset, model, bench.retrieve)
    return {
        "metrics": {name: ranking_metrics(found, bench.retrieve.at) for name, found in ranks.items()},
        "ranks": {name: found.tolist() for name, found in ranks.items()},
        "pretrain": trained,
    }


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
                out.append(found.told(f"lum: {question}", opponent, metric))
    return out


def _kept(file: Path, key: list[Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` gives, or gave before with the same key."""
    wanted = fingerprint(__version__, "ranks", key)
    if file.exists():
        kept = read_json(file, "lum bench")
        if kept.get("key") == wanted:
            return dict(kept)
    made = work() | {"key": wanted}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, made)
    return made


def _told(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
