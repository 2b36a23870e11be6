"""In-sample knowledge: how much more accurate are answers on the rows that a ranker is trained on, and which remedy helps?

    python benchmarks/insample.py --dataset kuairand-pure --from DIR --json OUT

It reports the AUC of the Large User Model's knowledge scores (similarities and feedback logits), in the knowledge probe and in a
ranker. Three variants differ in the model that answers the ranker's training rows:

- `as it is`: one model that was trained on the training period of all users, for one epoch and for the benchmark's number of
  epochs;
- `folds of users`: a model that was not trained on the row's user (two halves of the users); validation and test rows are
  answered by the model of `as it is`;
- `time-forward`: a model that was trained on the first half of the training rows' period; the ranker is trained on the rows of
  the second half.

Answers of different models do not lie in the same space. In all three variants, the ranker therefore reads scores only, no
answers. The scores are its inputs (`rank.knowledge.fusion: early`). Late fusion fits its weights on later rows and does not
have this problem.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openlum.artefact.json_file import write_json
from openlum.bench.pipeline import RunContext, build_dataset
from openlum.bench.settings import Bench, bench_file, load_bench
from openlum.console import new_console
from openlum.data.dataset import SPLITS, Dataset, Split
from openlum.data.packing import events_before, training_end
from openlum.data.sequences import Sequences
from openlum.evaluation.metrics import auc, gauc
from openlum.model import LargeUserModel
from openlum.pipeline.summary import environment
from openlum.pretrain.initialization import build_model
from openlum.pretrain.train import Trainer
from openlum.query.answers import answer_impressions, embed_items
from openlum.query.questions import QuestionSet, feedback_column_names
from openlum.rank.batches import RankingData
from openlum.rank.knowledge import KnowledgeArrays
from openlum.rank.knowledge_probe import knowledge_probe
from openlum.rank.settings import KnowledgeSettings
from openlum.rank.train import fit
from openlum.report.rendering import terminal_table

Scores = dict[Split, np.ndarray]
"""Split to knowledge scores of its rows, (I, Q)."""


@dataclass(frozen=True)
class Variant:
    """One way to answer the training rows."""

    name: str
    scores: Scores
    first_time: int = 0
    """Earliest time of the ranker's training rows."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="kuairand-pure", help="a benchmark's name")
    parser.add_argument("--from", dest="from_dir", type=Path, help="the publisher's files")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="directory with bench-DATASET")
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
    rows = [_evaluate(bench, dataset, variant, options.ranker, context.seeds) for variant in _variants(bench, dataset)]
    table = terminal_table(f"{options.dataset}: {options.ranker}", "Training rows answered by", "probe: train", "valid", "test",
                           "ranker: valid", "test")  # fmt: skip
    for row in rows:
        probe = (f"{row['alone'][split]:.4f}" for split in SPLITS)
        ranker = (f"{np.mean(row[split]):.4f}" for split in ("valid", "test"))
        table.add_row(row["name"], *probe, *ranker)
    context.console.print(table)
    summary = {"dataset": options.dataset, "protocol": bench.protocol, "seeds": context.seeds, "ranker": options.ranker}
    write_json(options.json, {"insample": rows, "bench": summary, "environment": environment() | {"seed": 0}})


def _variants(bench: Bench, dataset: Dataset) -> Iterator[Variant]:
    all_users = np.ones(len(dataset.sequences.user), bool)
    half = np.random.default_rng(0).random(len(all_users)) < 0.5
    scores: Scores = {}
    for epochs in sorted({1, bench.experiment.pretrain.epochs}):
        scores = _answer_rows(bench, dataset, _train(bench, dataset, all_users, epochs))
        yield Variant(f"as it is, {epochs} epochs", scores)
    train = dataset.impressions("train")
    in_half = half[np.maximum(dataset.sequences.user_index(train.user), 0)]
    fold_scores = [_answer_rows(bench, dataset, _train(bench, dataset, users, bench.experiment.pretrain.epochs))["train"]
                   for users in (~half, half)]  # fmt: skip
    yield Variant("folds of users", scores | {"train": np.where(in_half[:, None], *fold_scores)})
    middle = int(np.quantile(train.time, 0.5))
    early = _train(bench, dataset, all_users, bench.experiment.pretrain.epochs, middle)
    yield Variant("time-forward", _answer_rows(bench, dataset, early), middle)


def _train(bench: Bench, dataset: Dataset, users: np.ndarray, epochs: int, before: int | None = None) -> LargeUserModel:
    """Train a model on the training events of `users`, (U,) bool, before the time `before`, and return it."""
    settings = bench.experiment.pretrain.model_copy(update={"epochs": epochs, "patience": epochs})
    model = build_model(dataset, bench.experiment.model, settings.seed, settings.protocol)
    with tempfile.TemporaryDirectory() as work:
        trained = dataset.sequences.user[users]

        def end(sequences: Sequences) -> np.ndarray:
            early = events_before(sequences, before or dataset.info.valid_time)
            early = np.minimum(training_end(sequences, dataset.info, settings.protocol), early)
            return np.where(np.isin(sequences.user, trained), early, 0)

        trainer = Trainer(model, dataset, settings, Path(work), end)
        trainer.run(until=trainer.total_steps)  # keeps the last weights, not those of the best validation
    return model.eval()


def _answer_rows(bench: Bench, dataset: Dataset, model: LargeUserModel) -> Scores:
    """Return the knowledge scores of the rows of all splits."""
    settings = bench.experiment.query
    assert settings is not None
    questions = QuestionSet(model.processor, model.config.condition, settings.questions)
    items = embed_items(model, len(dataset.vocabulary("items")))
    width = len(questions) + (
        len(feedback_column_names(model.processor, model.config.trained_feedback_targets))
        if settings.predict_feedback
        else 0
    )
    scores: Scores = {}
    for split in SPLITS:
        rows = dataset.impressions(split)
        scores[split] = np.empty((len(rows.row), width), np.float32)
        parts = answer_impressions(model, dataset.sequences, rows, questions, settings, items)
        for index, answers, feedback_logits in parts:
            target = items[torch.from_numpy(rows.item[index].astype(np.int64))].unsqueeze(1)  # (n, 1, E)
            scores[split][index] = torch.cat([(answers * target).sum(-1), feedback_logits], 1).numpy()
    return scores


def _evaluate(bench: Bench, dataset: Dataset, variant: Variant, ranker: Any, seeds: list[int]) -> dict[str, Any]:
    """Return the AUC of the knowledge probe, and of a ranker that reads the scores."""
    row = np.concatenate([dataset.impressions(split).row for split in SPLITS])
    order = np.argsort(row)
    scores = np.concatenate([variant.scores[split] for split in SPLITS])
    names = [str(index) for index in range(scores.shape[1])]
    items = np.zeros((len(dataset.vocabulary("items")), 1), np.float16)
    answers = np.empty((len(row), 0, 1), np.float16)
    knowledge = KnowledgeArrays(dataset.path, names, [], row[order], order, answers, scores, items)
    assert bench.experiment.rank is not None
    early = KnowledgeSettings(fusion="early", direct=False)
    data = RankingData(dataset, bench.experiment.rank.model_copy(update={"knowledge": early}), knowledge)
    train = data.rows["train"]
    data.rows["train"] = train.take((train.time >= variant.first_time).nonzero().squeeze(1))
    result: dict[str, Any] = {
        "name": variant.name,
        "alone": knowledge_probe(data)["all"],
        "valid": [],
        "test": [],
        "test_gauc": [],
    }
    for seed in seeds:
        trained = fit(data.config(ranker, True), data, seed).ranker
        for split in SPLITS[1:]:
            rows = data.rows[split]
            prediction = trained.predict(data, rows)
            result[split].append(auc(rows.label.numpy(), prediction))
        result["test_gauc"].append(gauc(rows.label.numpy(), prediction, rows.user.numpy()))
    return result


if __name__ == "__main__":
    main()
