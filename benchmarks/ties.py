"""Which events of the same second may the item loss see: none, as in every question, or the events that precede it in the log?

    python benchmarks/ties.py market --runs DIR --json OUT
    python benchmarks/ties.py ml-1m --from DIR --epochs 1 --seeds 1 --no-knowledge --runs DIR --json OUT
    python benchmarks/ties.py ml-1m --from DIR --epochs 1 --seeds 1 --retrieval --runs DIR --json OUT

Two rules are trained in alternation with the same seeds and settings (configs/NAME.yaml, or the retrieval of
bench/datasets/NAME.yaml):

- `order` (reference, the rule of openlum): the item loss sees all earlier events in the log, also those of the event's own
  second;
- `second`: the item loss sees events of earlier seconds only, like every question about an impression.

Each model is evaluated by both rules on the validation events: losses and recall `second` and `order` (there every event counts
as a second of its own, also for feedback), the validation AUC of the knowledge probe and of `din` with knowledge, and the rank
of each user's last event but one. The test period is not read. Speeds are measured in alternation on the same batches.
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

from openlum.artefact.json_file import write_json
from openlum.bench.pipeline import RunContext, build_dataset
from openlum.bench.settings import bench_file, load_bench
from openlum.config import load_settings
from openlum.console import new_console
from openlum.data.dataset import Dataset
from openlum.data.packing import Spans, window_start
from openlum.evaluation.metrics import auc
from openlum.evaluation.retrieval_metrics import retrieval_metrics
from openlum.model import History, LargeUserModel, Questions
from openlum.pipeline.experiment import Experiment
from openlum.pipeline.summary import environment
from openlum.pretrain.initialization import build_model
from openlum.pretrain.objective import Objective
from openlum.pretrain.train import Trainer
from openlum.pretrain.validation import validate
from openlum.query.bulk import query
from openlum.rank.batches import RankingData
from openlum.rank.knowledge import StoredKnowledge
from openlum.rank.knowledge_probe import knowledge_probe
from openlum.rank.train import TrainedRanker, fit
from openlum.report.rendering import terminal_table
from openlum.retrieve.held_out import all_held_out

CONFIGS = Path(__file__).parent.parent / "configs"
STEPS = 25
ROUNDS = 5


class BySecond(Objective):
    """An objective whose item loss sees events of earlier seconds only."""

    def item_questions(self, history: History, positions: Tensor) -> Questions:
        assert history.prefix is not None
        return replace(super().item_questions(history, positions), prefix=history.prefix[positions])


RULES: dict[str, type[Objective]] = {"order": Objective, "second": BySecond}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the experiment in configs/ and of the data set")
    parser.add_argument("--from", dest="from_dir", type=Path, help="the publisher's files")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="directory of trainings")
    parser.add_argument("--retrieval", action="store_true", help="use the settings of the retrieval benchmark")
    parser.add_argument("--epochs", type=int, help="epochs of the Large User Model, in place of the experiment's")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--no-knowledge", action="store_true", help="evaluate on the validation events only, without rankers"
    )
    parser.add_argument("--against", type=Path, help="an older checkout to compare the speed of training steps with")
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
    plain: dict[int, TrainedRanker] = {}
    for seed in context.seeds:
        for rule in RULES:
            key = f"{'retrieval-' if options.retrieval else ''}{experiment.pretrain.epochs}-{rule}-{seed}"
            trained[rule].append(_train(experiment, dataset, rule, seed, runs / key, plain))
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
        means = (f"{np.mean([_flatten(figures)[name] for figures in trained[rule]]):.4f}" for rule in RULES)
        table.add_row(name, *means, ", ".join(f"{value:+.4f}" for value in by_seed))
    context.console.print(table)
    print(json.dumps(speed))
    write_json(options.json, {"ties": result})


def _experiment(name: str, retrieval: bool, epochs: int | None) -> Experiment:
    if retrieval:
        bench = load_bench(bench_file(name))
        assert bench.retrieval is not None
        retrieval_bench = bench.retrieval
        settings = retrieval_bench.pretrain.model_copy(update={"protocol": "last"})
        update = {
            "model": retrieval_bench.model,
            "query": None,
            "rank": None,
            "retrieve": retrieval_bench.retrieve,
        }
        experiment = bench.experiment.model_copy(update=update)
    else:
        experiment = load_settings(CONFIGS / f"{name}.yaml", Experiment)
        settings = experiment.pretrain
    settings = settings.model_copy(update={"epochs": epochs or settings.epochs})
    return experiment.model_copy(update={"pretrain": settings})


def _trainer(experiment: Experiment, dataset: Dataset, rule: str, seed: int, work: Path) -> Trainer:
    settings = experiment.pretrain.model_copy(update={"seed": seed})
    (work / "checkpoints").mkdir(parents=True, exist_ok=True)
    predicts_feedback, trained_on = settings.feedback_prediction_weight > 0, f"{work.name}-{seed}"
    model = build_model(
        dataset, experiment.model, seed, settings.protocol, trained_on, feedback_prediction=predicts_feedback
    )
    trainer = Trainer(model, dataset, settings, work)
    objective = trainer.objective
    trainer.objective = RULES[rule](
        objective.config,
        objective.settings,
        objective.frequency.numpy(),
        objective.catalogue,
        objective.time_matched_negatives,
    )
    return trainer


def _train(
    experiment: Experiment, dataset: Dataset, rule: str, seed: int, directory: Path, plain: dict[int, TrainedRanker]
) -> dict[str, Any]:
    """Return the figures of a training. It runs only if they are not stored yet."""
    file = directory / "figures.json"
    if file.exists():
        return dict(json.loads(file.read_text()))
    trainer = _trainer(experiment, dataset, rule, seed, directory)
    trainer.run()
    model, summary = trainer.model, trainer.summary()
    figures: dict[str, Any] = {name: summary[name] for name in ("epochs", "steps", "seconds", "tokens_per_second")}
    sequences = trainer.validation.sequences
    separate = replace(sequences, moment_start=np.arange(len(sequences.time)))  # every event is a second of its own
    config = model.config
    model.config = config.model_copy(
        update={"protocol": "time"}
    )  # with this protocol, questions see earlier seconds only
    for rule_name, log in {"second": sequences, "order": separate}.items():
        validation = replace(trainer.validation, sequences=log)
        figures[rule_name] = validate(model, validation, experiment.pretrain.batch_events)
    model.config = config
    if experiment.query:
        model.save_pretrained(directory / "model")
        figures["knowledge"] = _knowledge(experiment, dataset, seed, directory, plain)
    if experiment.retrieve:
        figures["retrieval"] = _retrieval(experiment, dataset, model)
    write_json(file, figures)
    return figures


def _knowledge(
    experiment: Experiment, dataset: Dataset, seed: int, directory: Path, plain: dict[int, TrainedRanker]
) -> dict[str, float]:
    """Return the validation AUC of the knowledge probe, of `din`, and of `din` with knowledge."""
    assert experiment.query is not None
    assert experiment.rank is not None
    if not (directory / "knowledge").exists():
        query(dataset.path, directory / "model", directory / "knowledge", experiment.query)
    data = RankingData(dataset, experiment.rank, StoredKnowledge(directory / "knowledge", dataset))
    if seed not in plain:
        plain[seed] = fit(data.config("din", with_knowledge=False), data, seed)
    late = fit(data.config("din", with_knowledge=True), data, seed, plain=plain[seed])
    label = data.rows["valid"].label.numpy()
    return {
        "alone": knowledge_probe(data)["all"]["valid"],
        "din": auc(label, plain[seed].valid),
        "din+knowledge": auc(label, late.valid),
    }


@torch.inference_mode()
def _retrieval(experiment: Experiment, dataset: Dataset, model: LargeUserModel) -> dict[str, dict[str, float]]:
    """Return metrics of each user's last event but one, when questions see all earlier events or those of earlier seconds
    only."""
    assert experiment.retrieve is not None
    held_out = all_held_out(dataset, "valid", model.config.items, experiment.retrieve.exclude_seen)
    sequences, e = dataset.sequences, model.items()
    ranks: dict[str, list[np.ndarray]] = {}
    for batch in held_out.batches(experiment.retrieve.batch_users):
        users = held_out.user_index[batch]
        cut = {"order": held_out.cut[batch]}
        cut["second"] = sequences.moment_start[sequences.offsets[users] + cut["order"]] - sequences.offsets[users]
        for rule_name, end in cut.items():
            start = window_start(end, model.config.settings.max_events)
            state = model.encode_history(History.gather(sequences, Spans(users, start, end)))
            user_and_prefix = torch.arange(len(users)), torch.from_numpy(end - start)
            for name, question in experiment.retrieve.questions.items():
                encoded = model.processor.encode_question(name, question, model.config.condition)
                condition = {field: value.expand(len(users), *value.shape[1:]) for field, value in encoded.items()}
                answers = model.answer_questions(state, Questions(condition, *user_and_prefix))
                ranks.setdefault(f"{name}, {rule_name}", []).append(held_out.rank(batch, answers @ e.T))
    return {name: retrieval_metrics(np.concatenate(parts), [10, 50]) for name, parts in ranks.items()}


def _speeds(arguments: list[str], old: Path) -> dict[str, Any]:
    """Return the speeds of training steps of this source tree and of an older one, measured in alternation."""
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
    """Return the median history tokens per second of process time of a training step. Process time leaves out other processes."""
    with tempfile.TemporaryDirectory() as work:
        trainer = _trainer(experiment, dataset, "order", 0, Path(work))
        speeds = []
        for batch in itertools.islice(trainer.batches(0), STEPS):
            began = time.process_time()
            trainer.step(batch)
            speeds.append(2 * int((batch.end - batch.start).sum()) / (time.process_time() - began))
    return float(np.median(speeds[3:]))  # without the warm-up


def _differences(trained: dict[str, list[dict[str, Any]]]) -> dict[str, list[float]]:
    """Return the differences `second` less `order` of every figure, one per seed."""
    pairs = [
        (_flatten(second), _flatten(order)) for second, order in zip(trained["second"], trained["order"], strict=True)
    ]
    return {name: [second[name] - order[name] for second, order in pairs] for name in pairs[0][0]}


def _flatten(figures: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Return nested figures as one dictionary, with the keys of all levels in their names."""
    flat: dict[str, float] = {}
    for name, value in figures.items():
        flat |= _flatten(value, f"{prefix}{name}: ") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


if __name__ == "__main__":
    main()
