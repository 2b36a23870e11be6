"""What the item loss may read of an event's own second: nothing, as every question, or what the log has before the event?

    python benchmarks/ties.py market --runs DIR --json OUT
    python benchmarks/ties.py ml-1m --from DIR --epochs 1 --seeds 1 --no-knowledge --runs DIR --json OUT
    python benchmarks/ties.py ml-1m --from DIR --epochs 1 --seeds 1 --retrieval --runs DIR --json OUT

The rules, trained in turn with the same seeds and settings (configs/NAME.yaml, or the retrieval of bench/datasets/NAME.yaml):

- `order` (reference, what openlum does): after all events that the log has before it, those of its own second too;
- `second`: after the events of earlier seconds alone, as every question about an impression.

Each is judged both ways on the validation events: losses and recall `second` and `order` (there every event counts as a second
of its own, for feedback too), the validation AUC of its knowledge alone and of `din` with it, and the rank of each user's last
event but one. Nothing reads the test period. Speeds are of both rules in turns on the same batches.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openlum.artefact.directory import write_json
from openlum.bench.pipeline import RunContext, build_dataset
from openlum.bench.settings import bench_file, load_bench
from openlum.config import load_settings
from openlum.console import new_console
from openlum.data.dataset import Dataset
from openlum.data.packing import Spans, window_start
from openlum.evaluation.metrics import auc
from openlum.evaluation.ranked_lists import ranking_metrics
from openlum.model import History, LargeUserModel, Questions
from openlum.pipeline.experiment import Experiment
from openlum.pipeline.summary import environment
from openlum.pretrain.initialization import build_model
from openlum.pretrain.objective import Objective
from openlum.pretrain.train import Trainer
from openlum.pretrain.validation import validate
from openlum.query.bulk import query
from openlum.rank.batches import RankingData
from openlum.rank.knowledge import load_knowledge
from openlum.rank.knowledge_probe import knowledge_probe
from openlum.rank.train import Fit, fit
from openlum.report.rendering import terminal_table
from openlum.retrieve.held_out import HeldOut

CONFIGS = Path(__file__).parent.parent / "configs"
STEPS = 25
ROUNDS = 5


class BySecond(Objective):
    """An item is asked for after the events of earlier seconds alone."""

    def item_questions(self, history: History, positions: Tensor) -> Questions:
        assert history.prefix is not None
        return replace(super().item_questions(history, positions), prefix=history.prefix[positions])


RULES: dict[str, type[Objective]] = {"order": Objective, "second": BySecond}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the experiment in configs/, and of the data set")
    parser.add_argument("--from", dest="from_dir", type=Path, help="the publisher's files")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where trainings are kept")
    parser.add_argument("--retrieval", action="store_true", help="the settings of the retrieval benchmark")
    parser.add_argument("--epochs", type=int, help="of the Large User Model, instead of the experiment's")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--no-knowledge", action="store_true", help="judge by the validation events alone, not by rankers"
    )
    parser.add_argument(
        "--against", type=Path, help="an older checkout, whose training steps are timed in turns with ours"
    )
    parser.add_argument("--speed", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, required=True, help="result file")
    options = parser.parse_args()
    experiment = _experiment(options.name, options.retrieval, options.epochs)
    if options.no_knowledge:
        experiment = experiment.model_copy(update={"query": None, "rank": None})
    runs = options.runs / f"ties-{options.name}"
    context = RunContext(
        CONFIGS / f"{options.name}.yaml", runs, new_console(), options.from_dir, list(range(options.seeds))
    )
    dataset = Dataset(build_dataset(experiment, context))
    if options.speed:
        print(_speed(experiment, dataset))
        return
    speed = (
        _speeds([options.name, "--runs", str(options.runs), "--json", "-"], options.against) if options.against else {}
    )
    trained: dict[str, list[dict[str, Any]]] = {rule: [] for rule in RULES}
    plain: dict[int, Fit] = {}
    for seed in context.seeds:
        for rule in RULES:
            key = f"{'retrieval-' if options.retrieval else ''}{experiment.pretrain.epochs}-{rule}-{seed}"
            trained[rule].append(_trained(experiment, dataset, rule, seed, runs / key, plain))
            print(rule, seed, json.dumps(trained[rule][-1]), flush=True)
    sequences = dataset.sequences
    difference = _differences(trained)
    result = {
        "not_first_of_their_second": float((sequences.moment_start != np.arange(len(sequences.time))).mean()),
        "reference": "order",
        "speed": speed,
        "trained": trained,
        "difference": difference,
        "settings": {"model": experiment.model.model_dump(), "pretrain": experiment.pretrain.model_dump()},
        "environment": environment() | {"seed": 0},
    }
    table = terminal_table(options.name, "figure", "order", "second", "second less order, by seed")
    for name, by_seed in difference.items():
        means = (f"{np.mean([_flat(one)[name] for one in trained[rule]]):.4f}" for rule in RULES)
        table.add_row(name, *means, ", ".join(f"{one:+.4f}" for one in by_seed))
    context.console.print(table)
    print(json.dumps(speed))
    write_json(options.json, {"ties": result})


def _experiment(name: str, retrieval: bool, epochs: int | None) -> Experiment:
    if retrieval:
        bench = load_bench(bench_file(name))
        assert bench.retrieval is not None
        chosen = bench.retrieval
        settings = chosen.pretrain.model_copy(update={"protocol": "last"})
        update = {"model": chosen.model, "query": None, "rank": None, "retrieve": chosen.retrieve}
        experiment = bench.experiment.model_copy(update=update)
    else:
        experiment = load_settings(CONFIGS / f"{name}.yaml", Experiment)
        settings = experiment.pretrain
    settings = settings.model_copy(update={"epochs": epochs or settings.epochs})
    return experiment.model_copy(update={"pretrain": settings})


def _trainer(experiment: Experiment, dataset: Dataset, rule: str, seed: int, work: Path) -> Trainer:
    settings = experiment.pretrain.model_copy(update={"seed": seed})
    (work / "checkpoints").mkdir(parents=True, exist_ok=True)
    judges, trained_on = settings.feedback_prediction_weight > 0, f"{work.name}-{seed}"
    model = build_model(dataset, experiment.model, seed, settings.protocol, trained_on, feedback_prediction=judges)
    trainer = Trainer(model, dataset, settings, work)
    ours = trainer.objective
    trainer.objective = RULES[rule](
        ours.config, ours.settings, ours.frequency.numpy(), ours.catalogue, ours.time_matched_negatives
    )
    return trainer


def _trained(
    experiment: Experiment, dataset: Dataset, rule: str, seed: int, directory: Path, plain: dict[int, Fit]
) -> dict[str, Any]:
    """What a training came to; made unless it is there."""
    file = directory / "figures.json"
    if file.exists():
        return dict(json.loads(file.read_text()))
    trainer = _trainer(experiment, dataset, rule, seed, directory)
    trainer.run()
    model, summary = trainer.model, trainer.summary()
    figures: dict[str, Any] = {name: summary[name] for name in ("epochs", "steps", "seconds", "tokens_per_second")}
    apart = Dataset(dataset.path)  # every event is a second of its own
    apart.__dict__["sequences"] = replace(dataset.sequences, moment_start=np.arange(len(dataset.sequences.time)))
    own, model.config = model.config, model.config.model_copy(update={"protocol": "time"})  # which asks by seconds
    for seen, log in {"second": dataset, "order": apart}.items():
        figures[seen] = validate(model, log, trainer.validation, experiment.pretrain.batch_events)
    model.config = own
    if experiment.query:
        model.save_pretrained(directory / "model")
        figures["knowledge"] = _knowledge(experiment, dataset, seed, directory, plain)
    if experiment.retrieve:
        figures["retrieval"] = _retrieval(experiment, dataset, model)
    write_json(file, figures)
    return figures


def _knowledge(
    experiment: Experiment, dataset: Dataset, seed: int, directory: Path, plain: dict[int, Fit]
) -> dict[str, float]:
    """Validation AUC of the model's knowledge alone, of `din` and of `din` with it."""
    assert experiment.query is not None
    assert experiment.rank is not None
    if not (directory / "knowledge").exists():
        query(dataset.path, directory / "model", directory / "knowledge", experiment.query)
    data = RankingData(dataset, experiment.rank, load_knowledge(directory / "knowledge", dataset))
    if seed not in plain:
        plain[seed] = fit(data.config("din", with_knowledge=False), data, seed)
    joined = fit(data.config("din", with_knowledge=True), data, seed, plain=plain[seed])
    label = data.rows["valid"].label.numpy()
    return {
        "alone": knowledge_probe(data)["all"]["valid"],
        "din": auc(label, plain[seed].valid),
        "din+knowledge": auc(label, joined.valid),
    }


@torch.inference_mode()
def _retrieval(experiment: Experiment, dataset: Dataset, model: LargeUserModel) -> dict[str, dict[str, float]]:
    """Metrics of each user's last event but one, asked for after all before it in the log, and after earlier seconds alone."""
    assert experiment.retrieve is not None
    held_out = HeldOut(dataset, "valid", model.config.items, experiment.retrieve.exclude_seen)
    sequences, e = dataset.sequences, model.items()
    found: dict[str, list[np.ndarray]] = {}
    for turn in held_out.turns(experiment.retrieve.batch_users):
        users = held_out.users[turn]
        cut = {"order": held_out.cut[turn]}
        cut["second"] = sequences.moment_start[sequences.offsets[users] + cut["order"]] - sequences.offsets[users]
        for seen, end in cut.items():
            start = window_start(end, model.config.settings.max_events)
            state = model.encode_history(History.gather(sequences, Spans(users, start, end)))
            at = torch.arange(len(users)), torch.from_numpy(end - start)
            for name, question in experiment.retrieve.questions.items():
                one = model.processor.encode_question(name, question, model.config.condition)
                asked = {field: value.expand(len(users), *value.shape[1:]) for field, value in one.items()}
                ranks = held_out.rank(turn, model.answer_questions(state, Questions(asked, *at)) @ e.T)
                found.setdefault(f"{name}, {seen}", []).append(ranks)
    return {name: ranking_metrics(np.concatenate(ranks), [10, 50]) for name, ranks in found.items()}


def _speeds(arguments: list[str], old: Path) -> dict[str, Any]:
    """Training steps of this source tree and of an older one, in turns in processes of their own."""
    trees = {"new": Path(__file__).parent.parent, "old": old}
    speeds: dict[str, list[float]] = {name: [] for name in trees}
    for _ in range(ROUNDS):
        for name, tree in trees.items():
            command, paths = [sys.executable, __file__, *arguments, "--speed"], {"PYTHONPATH": str(tree / "src")}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | paths)
            speeds[name].append(float(done.stdout.splitlines()[-1]))
    ratio = float(np.median(np.divide(speeds["new"], speeds["old"])))
    commit = subprocess.run(["git", "-C", str(old), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return {"tokens_per_cpu_second": speeds, "ratio": ratio, "old_commit": commit.stdout.strip()}


def _speed(experiment: Experiment, dataset: Dataset) -> float:
    """Median tokens of histories that a training step takes in a second of this process: other work beside it counts less."""
    with tempfile.TemporaryDirectory() as work:
        trainer = _trainer(experiment, dataset, "order", 0, Path(work))
        speeds = []
        for batch in itertools.islice(trainer._epoch_batches(0), STEPS):
            began = time.process_time()
            trainer._step(batch)
            speeds.append(2 * int((batch.end - batch.start).sum()) / (time.process_time() - began))
    return float(np.median(speeds[3:]))  # after a warm-up


def _differences(trained: dict[str, list[dict[str, Any]]]) -> dict[str, list[float]]:
    """Figure to `second` less `order`, of each seed."""
    pairs = [(_flat(one), _flat(other)) for one, other in zip(trained["second"], trained["order"], strict=True)]
    return {name: [one[name] - other[name] for one, other in pairs] for name in pairs[0][0]}


def _flat(figures: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested figures with the keys of all levels in their names."""
    flat: dict[str, float] = {}
    for name, value in figures.items():
        flat |= _flat(value, f"{prefix}{name}: ") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


if __name__ == "__main__":
    main()
