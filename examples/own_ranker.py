"""Knowledge in your own ranker: a DLRM in plain PyTorch, trained without and with the answers of a Large User Model.

    lum run configs/market.yaml
    python examples/own_ranker.py runs/market

Knowledge is an input here. This pays most if the ranker's rows are later than the events that the Large User Model was trained
on. In this run they are from the same period, so the ranker trusts the answers too much. On such rows, let knowledge join the
ranker's prediction instead (`openlum.rank.fusion`, three lines in the README).

The model (after Naumov et al. 2019) is of the kind that many teams run: an embedding per field, the dot products of all pairs, an
MLP. Only the two lines marked `<--` use openlum. The data are Parquet files, read with pyarrow.

Shapes: I rows of a split, B rows of a batch, F fields, R numbers, D width of an embedding, Q questions, S similarities, E width
of an answer.
"""

import argparse
import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from openlum.rank.features import KnowledgeFeatures

WIDTH, HIDDEN, BATCH, LEARNING_RATE, PATIENCE = 16, 128, 1024, 3e-3, 2


class Dlrm(nn.Module):
    """Embeddings of user, item and context, their dot products, and an MLP."""

    def __init__(self, sizes: list[int], numbers: int, questions: int, similarities: int, width: int) -> None:
        super().__init__()
        fields = len(sizes) + 1
        self.embeddings = nn.ModuleList(nn.Embedding(size, WIDTH) for size in sizes)
        self.bottom = nn.Sequential(nn.Linear(numbers, WIDTH), nn.ReLU())
        self.first = nn.Linear(fields * WIDTH + fields * (fields - 1) // 2, HIDDEN)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(HIDDEN, 64), nn.ReLU(), nn.Linear(64, 1))
        for embedding in self.embeddings:
            nn.init.normal_(embedding.weight, std=0.1)
        self.knowledge = KnowledgeFeatures(questions, width, HIDDEN, similarities=similarities)  # <-- 1 of 2

    def forward(self, ids: Tensor, numbers: Tensor, answers: Tensor, target: Tensor, similarity: Tensor) -> Tensor:
        """Return logits, (B,), from ids (B, F - 1), numbers (B, R), and knowledge (B, Q, E), (B, E), (B, S)."""
        fields = [embedding(ids[:, index]) for index, embedding in enumerate(self.embeddings)]
        x = torch.stack([*fields, self.bottom(numbers)], 1)  # (B, F, D)
        row, column = torch.tril_indices(x.shape[1], x.shape[1], -1)
        pairs = (x @ x.transpose(1, 2))[:, row, column]  # (B, F (F - 1) / 2)
        hidden = self.first(torch.cat([x.flatten(1), pairs], 1))
        hidden = hidden + self.knowledge(answers, target, similarity)  # <-- 2 of 2
        return self.rest(hidden).squeeze(1)


class SplitTensors(NamedTuple):
    """The label of all rows of a split, and the inputs of the model in the order of its arguments."""

    label: Tensor  # (I,)
    ids: Tensor  # (I, F - 1)
    numbers: Tensor  # (I, R)
    answers: Tensor  # (I, Q, E): one vector per question
    target: Tensor  # (I, E): the item's embedding in the same space
    similarity: Tensor  # (I, S): similarities of answers and item, and feedback logits


def read_split(run: Path, split: str) -> SplitTensors:
    """Read impressions, the features of their users and items, and the knowledge about them."""
    rows = pq.read_table(run / "dataset" / "impressions" / split)
    if not len(rows):
        raise SystemExit(f"{run / 'dataset'}: has no {split} impressions; check 'splits' in the schema")
    fields = {name: rows[name] for name in rows.column_names if name.startswith(("condition.", "context."))}
    for kind in ("user", "item"):  # the rows of these tables are in the order of ids, from 0
        fields[kind] = rows[kind]
        features = pq.read_table(run / "dataset" / f"{kind}s.parquet").take(rows[kind])
        fields |= {name: features[name] for name in features.column_names if name.startswith(f"{kind}.")}
    # Lists (multi-valued and vector fields) are left out, to keep this short.
    ids = [values.to_numpy() for values in fields.values() if pa.types.is_integer(values.type)]
    numbers = [np.nan_to_num(values.to_numpy()) for values in fields.values() if pa.types.is_floating(values.type)]
    numbers.append(np.log1p(rows["prefix"].to_numpy()))  # events of the user before the row

    knowledge = pq.read_table(run / "knowledge" / "impressions").sort_by("row")
    index = np.searchsorted(knowledge["row"].to_numpy(), rows["row"].to_numpy())
    knowledge = knowledge.take(index.clip(max=len(knowledge) - 1))
    if not knowledge["row"].equals(rows["row"]):
        raise SystemExit(f"{run / 'knowledge'}: has no answers for some {split} rows; run 'lum query' again")
    columns = {name: knowledge[name] for name in knowledge.column_names}
    answers = [vectors(column) for name, column in columns.items() if name.startswith("answer.")]
    similarity = [
        values.to_numpy() for name, values in columns.items() if name.startswith(("similarity.", "feedback."))
    ]
    target = vectors(pq.read_table(run / "knowledge" / "items")["embedding"])[rows["item"].to_numpy()]
    return SplitTensors(
        label=torch.tensor(rows["label"].to_numpy()),
        ids=torch.from_numpy(np.stack(ids, 1).astype(np.int64)),
        numbers=torch.from_numpy(np.stack(numbers, 1).astype(np.float32)),
        answers=torch.from_numpy(np.stack(answers, 1)),
        target=torch.from_numpy(target),
        similarity=torch.from_numpy(np.stack(similarity, 1)),
    )


def vectors(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of n vectors, float16 or int8, as an array (n, E) of unit length."""
    values = column.combine_chunks().flatten().to_numpy().reshape(len(column), -1).astype(np.float32)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)


def train(splits: dict[str, SplitTensors], with_knowledge: bool, seed: int, epochs: int) -> float:
    """Train, keep the epoch with the best validation AUC, and return the test AUC."""
    torch.manual_seed(seed)
    train = splits["train"]
    sizes = [
        max(int(split.ids[:, field].max()) for split in splits.values()) + 1 for field in range(train.ids.shape[1])
    ]
    questions, width = train.answers.shape[1:]
    model = Dlrm(sizes, train.numbers.shape[1], questions, train.similarity.shape[1], width)
    model.knowledge.requires_grad_(with_knowledge)  # its output starts at zero: frozen, it adds nothing
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    best, best_epoch, state = 0.0, 0, model.state_dict()
    for epoch in range(1, epochs + 1):
        model.train()
        for index in torch.randperm(len(train.label)).split(BATCH):
            label, *inputs = (values[index] for values in train)
            loss = F.binary_cross_entropy_with_logits(model(*inputs), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        valid_auc = auc(model, splits["valid"])
        if valid_auc > best:
            best, best_epoch, state = valid_auc, epoch, copy.deepcopy(model.state_dict())
        if epoch - best_epoch >= PATIENCE:
            break
    model.load_state_dict(state)
    return auc(model, splits["test"])


@torch.inference_mode()
def auc(model: Dlrm, split: SplitTensors) -> float:
    """Return the probability that a row with label 1 is ranked above a row with label 0."""
    model.eval()
    _, *inputs = (values.split(8 * BATCH) for values in split)
    logits = torch.cat([model(*batch) for batch in zip(*inputs, strict=True)])
    return float(roc_auc_score(split.label.numpy(), logits.numpy()))


def main() -> None:
    """Train without and with knowledge, and print both test AUCs and the gain."""
    parser = argparse.ArgumentParser(description="A DLRM in plain PyTorch, without and with knowledge.")
    parser.add_argument("run", type=Path, help="directory of 'lum run', such as runs/market")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each model (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=8, help="passes over the rows, at most (default: %(default)s)")
    options = parser.parse_args()
    if options.seeds < 1 or options.epochs < 1:
        parser.error("--seeds and --epochs: expected 1 or more")
    for part in ("dataset/impressions", "knowledge/items"):
        if not (options.run / part).exists():
            parser.exit(2, f"{options.run}: has no {part}; 'lum run configs/market.yaml' writes runs/market\n")
    splits = {split: read_split(options.run, split) for split in ("train", "valid", "test")}
    plain, with_knowledge = (
        np.array([train(splits, use_knowledge, seed, options.epochs) for seed in range(options.seeds)])
        for use_knowledge in (False, True)
    )
    print(f"{'':18} test AUC, mean ± std of {options.seeds} seeds")
    for name, test_auc in (("DLRM", plain), ("DLRM + knowledge", with_knowledge)):
        print(f"{name:18}  {test_auc.mean():.4f} ± {test_auc.std(ddof=min(1, options.seeds - 1)):.4f}")
    print(f"{'knowledge adds':18} {with_knowledge.mean() - plain.mean():+.4f}")


if __name__ == "__main__":
    main()
