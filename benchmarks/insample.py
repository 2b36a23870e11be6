"""Knowledge that has seen the answer: how much more do answers know of the rows that a ranker is trained on, and what cures it?

    python benchmarks/insample.py --dataset kuairand-pure --from DIR --json OUT

Feedback predictions and similarities of the Large User Model alone (logistic regression, no ranker) and in a ranker, when the training rows
are answered by

- `as it is`: the one model that was trained on all users' events of the training period, for one epoch, and for as many as the
  benchmark has;
- `folds`: each by a model that was not trained on the row's user (two halves of the users); validation and test by the one model;
- `forward`: a model that was trained on the first half of the training events; the ranker trains on the rows of the second half.

Vectors of different models do not lie in one space, so the ranker takes numbers only (no direct answers), for all three alike.
They are its inputs (`rank.knowledge.fusion: early`): late fusion has its weights from later rows, and no such trap.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openlum.artefact.directory import write_json
from openlum.bench.pipeline import RunContext, build_dataset
from openlum.bench.settings import Bench, bench_file, load_bench
from openlum.console import new_console
from openlum.data.dataset import SPLITS, Dataset, Split
from openlum.data.packing import training_end
from openlum.evaluation.metrics import auc, gauc
from openlum.model import LargeUserModel
from openlum.pipeline.summary import environment
from openlum.pretrain.initialization import build_model
from openlum.pretrain.train import Trainer
from openlum.query.bulk import answer_impressions, embed_items
from openlum.query.questions import QuestionSet, feedback_column_names
from openlum.rank.batches import RankingData
from openlum.rank.knowledge import Knowledge
from openlum.rank.knowledge_probe import knowledge_probe
from openlum.rank.settings import KnowledgeSettings
from openlum.rank.train import fit
from openlum.report.rendering import terminal_table

Matched = dict[Split, np.ndarray]
"""Split to similarities and feedback predictions of its rows, (I, Q)."""


@dataclass(frozen=True)
class Variant:
    """One way to answer training rows."""

    name: str
    matched: Matched
    first_time: int = 0
    """The ranker's training rows begin here."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="kuairand-pure", help="a benchmark's name")
    parser.add_argument("--from", dest="from_dir", type=Path, help="the publisher's files")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where bench-DATASET is")
    parser.add_argument("--ranker", default="dnn", help="an architecture of lum rank")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, required=True, help="result file")
    options = parser.parse_args()
    file = bench_file(options.dataset)
    bench = load_bench(file)
    context = RunContext(
        file,
        options.runs / f"bench-{bench.experiment.name}",
        new_console(),
        options.from_dir,
        list(range(options.seeds)),
    )
    dataset = Dataset(build_dataset(bench.experiment, context))
    rows = [_judge(bench, dataset, variant, options.ranker, context.seeds) for variant in _variants(bench, dataset)]
    table = terminal_table(f"{options.dataset}: {options.ranker}", "Training rows answered by", "alone: train", "valid", "test",
                           "ranker: valid", "test")  # fmt: skip
    for row in rows:
        alone = (f"{row['alone'][split]:.4f}" for split in SPLITS)
        ranker = (f"{np.mean(row[split]):.4f}" for split in ("valid", "test"))
        table.add_row(row["name"], *alone, *ranker)
    context.console.print(table)
    told = {"dataset": options.dataset, "protocol": bench.protocol, "seeds": context.seeds, "ranker": options.ranker}
    write_json(options.json, {"insample": rows, "bench": told, "environment": environment() | {"seed": 0}})


def _variants(bench: Bench, dataset: Dataset) -> Iterator[Variant]:
    everybody = np.ones(len(dataset.sequences.user), bool)
    half = np.random.default_rng(0).random(len(everybody)) < 0.5
    whole: Matched = {}
    for epochs in sorted({1, bench.experiment.pretrain.epochs}):
        whole = _answers(bench, dataset, _train(bench, dataset, everybody, epochs))
        yield Variant(f"as it is, {epochs} epochs", whole)
    train = dataset.impressions("train")
    mine = half[np.maximum(dataset.sequences.user_index(train.user), 0)]
    others = [_answers(bench, dataset, _train(bench, dataset, some, bench.experiment.pretrain.epochs))["train"]
              for some in (~half, half)]  # fmt: skip
    yield Variant("folds of users", whole | {"train": np.where(mine[:, None], *others)})
    middle = int(np.quantile(train.time, 0.5))
    early = _train(bench, dataset, everybody, bench.experiment.pretrain.epochs, middle)
    yield Variant("time-forward", _answers(bench, dataset, early), middle)


def _train(bench: Bench, dataset: Dataset, users: np.ndarray, epochs: int, before: int | None = None) -> LargeUserModel:
    """A model trained on the training events of some users, (U,) bool, of those before a time."""
    settings = bench.experiment.pretrain.model_copy(update={"epochs": epochs, "patience": epochs})
    model = build_model(dataset, bench.experiment.model, settings.seed, settings.protocol)
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "checkpoints").mkdir()
        sequences = dataset.sequences
        early = np.concatenate([[0], np.cumsum(sequences.time < (before or dataset.info.valid_time))])
        most = early[sequences.offsets[1:]] - early[sequences.offsets[:-1]]
        end = np.where(users, np.minimum(training_end(dataset, settings.protocol), most), 0)
        trainer = Trainer(model, dataset, settings, Path(work), end)
        trainer.run(until=trainer.total_steps)  # the last weights, not those of the best validation
    return model.eval()


def _answers(bench: Bench, dataset: Dataset, model: LargeUserModel) -> Matched:
    chosen = bench.experiment.query
    assert chosen is not None
    questions = QuestionSet(model.processor, model.config.condition, chosen.questions)
    items = embed_items(model, len(dataset.vocabulary("items")))
    width = len(questions) + (
        len(feedback_column_names(model.processor, model.config.trained_feedback_targets))
        if chosen.predict_feedback
        else 0
    )
    matched: Matched = {}
    for split in SPLITS:
        rows = dataset.impressions(split)
        matched[split] = np.empty((len(rows.row), width), np.float32)
        for index, answers, judged in answer_impressions(model, dataset, rows, questions, chosen, items, split):
            target = items[torch.from_numpy(rows.item[index])].unsqueeze(1)  # (n, 1, E)
            matched[split][index] = torch.cat([(answers * target).sum(-1), judged], 1).numpy()
    return matched


def _judge(bench: Bench, dataset: Dataset, variant: Variant, ranker: Any, seeds: list[int]) -> dict[str, Any]:
    """AUC of the numbers alone, and of a ranker that takes them."""
    row = np.concatenate([dataset.impressions(split).row for split in SPLITS])
    order = np.argsort(row)
    similarity = np.concatenate([variant.matched[split] for split in SPLITS])
    names = [str(index) for index in range(similarity.shape[1])]
    items = np.zeros((len(dataset.vocabulary("items")), 1), np.float16)
    known = Knowledge(names, [], row[order], order, np.empty((len(row), 0, 1), np.float16), similarity, items)
    assert bench.experiment.rank is not None
    early = KnowledgeSettings(fusion="early", direct=False)
    data = RankingData(dataset, bench.experiment.rank.model_copy(update={"knowledge": early}), known)
    train = data.rows["train"]
    data.rows["train"] = train.take((train.time >= variant.first_time).nonzero().squeeze(1))
    found: dict[str, Any] = {
        "name": variant.name,
        "alone": knowledge_probe(data)["all"],
        "valid": [],
        "test": [],
        "test_gauc": [],
    }
    for seed in seeds:
        fitted = fit(data.config(ranker, True), data, seed).ranker
        for split in SPLITS[1:]:
            rows = data.rows[split]
            prediction = fitted.predict(data, rows)
            found[split].append(auc(rows.label.numpy(), prediction))
        found["test_gauc"].append(gauc(rows.label.numpy(), prediction, rows.user.numpy()))
    return found


if __name__ == "__main__":
    main()
