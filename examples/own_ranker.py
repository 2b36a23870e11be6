"""Knowledge in your own ranker: a DLRM in plain PyTorch, trained without and with the answers of a Large User Model.

    lum run configs/market.yaml
    python examples/own_ranker.py runs/market

Knowledge is an input here, which pays most where the ranker's rows are later than those that the Large User Model was trained on.
In this run they are the same, so the ranker trusts its answers too much: on such rows let knowledge join the ranker's prediction
instead (`openlum.rank.fusion`, three lines in the README).

The model (after Naumov et al. 2019) is the kind that many teams run: an embedding a field, the dot products of all pairs, an
MLP. Nothing in it is openlum's but the two lines marked `<--`. The data are Parquet files, read with pyarrow.

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
        """Ids (B, F - 1), numbers (B, R), and knowledge (B, Q, E), (B, E), (B, S) to logits, (B,)."""
        fields = [embedding(ids[:, index]) for index, embedding in enumerate(self.embeddings)]
        x = torch.stack([*fields, self.bottom(numbers)], 1)  # (B, F, D)
        one, other = torch.tril_indices(x.shape[1], x.shape[1], -1)
        pairs = (x @ x.transpose(1, 2))[:, one, other]  # (B, F (F - 1) / 2)
        hidden = self.first(torch.cat([x.flatten(1), pairs], 1))
        hidden = hidden + self.knowledge(answers, target, similarity)  # <-- 2 of 2
        return self.rest(hidden).squeeze(1)


class Rows(NamedTuple):
    """The rows of a split: label, and the inputs of the model in their order."""

    label: Tensor  # (I,)
    ids: Tensor  # (I, F - 1)
    numbers: Tensor  # (I, R)
    answers: Tensor  # (I, Q, E): what the user wants, one vector a question
    target: Tensor  # (I, E): the item, in the same space
    similarity: Tensor  # (I, S): how well each answer fits the item


def read_rows(run: Path, split: str) -> Rows:
    """Impressions, the features of their users and items, and the knowledge about them."""
    rows = pq.read_table(run / "dataset" / "impressions" / split)
    if not len(rows):
        raise SystemExit(f"{run / 'dataset'}: has no {split} impressions; check 'splits' in the schema")
    fields = {name: rows[name] for name in rows.column_names if name.startswith(("condition.", "context."))}
    for kind in ("user", "item"):  # their tables are in the order of ids, from 0
        fields[kind] = rows[kind]
        features = pq.read_table(run / "dataset" / f"{kind}s.parquet").take(rows[kind])
        fields |= {name: features[name] for name in features.column_names if name.startswith(f"{kind}.")}
    # Lists (multi-valued and vector fields) are left out, to keep this short.
    ids = [values.to_numpy() for values in fields.values() if pa.types.is_integer(values.type)]
    numbers = [np.nan_to_num(values.to_numpy()) for values in fields.values() if pa.types.is_floating(values.type)]
    numbers.append(np.log1p(rows["prefix"].to_numpy()))  # events of the user before the row

    parts = sorted((run / "knowledge").glob("part-*.parquet"))
    knowledge = pa.concat_tables([pq.read_table(part) for part in parts]).sort_by("row")
    place = np.searchsorted(knowledge["row"].to_numpy(), rows["row"].to_numpy())
    knowledge = knowledge.take(place.clip(max=len(knowledge) - 1))
    if not knowledge["row"].equals(rows["row"]):
        raise SystemExit(f"{run / 'knowledge'}: has no answers for some {split} rows; run 'lum query' again")
    named = {name: knowledge[name] for name in knowledge.column_names}
    answers = [vectors(column) for name, column in named.items() if name.startswith("answer.")]
    similarity = [column.to_numpy() for name, column in named.items() if name.startswith(("similarity.", "feedback."))]
    target = vectors(pq.read_table(run / "knowledge" / "items.parquet")["embedding"])[rows["item"].to_numpy()]
    return Rows(
        label=torch.tensor(rows["label"].to_numpy()),
        ids=torch.from_numpy(np.stack(ids, 1).astype(np.int64)),
        numbers=torch.from_numpy(np.stack(numbers, 1).astype(np.float32)),
        answers=torch.from_numpy(np.stack(answers, 1)),
        target=torch.from_numpy(target),
        similarity=torch.from_numpy(np.stack(similarity, 1)),
    )


def vectors(column: pa.ChunkedArray) -> np.ndarray:
    """A column of n vectors, float16 or int8, to (n, E) of unit length."""
    values = column.combine_chunks().flatten().to_numpy().reshape(len(column), -1).astype(np.float32)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)


def train(rows: dict[str, Rows], with_knowledge: bool, seed: int, epochs: int) -> float:
    """Train, keep the epoch with the best validation AUC, and return the test AUC."""
    torch.manual_seed(seed)
    train = rows["train"]
    sizes = [max(int(split.ids[:, field].max()) for split in rows.values()) + 1 for field in range(train.ids.shape[1])]
    questions, width = train.answers.shape[1:]
    model = Dlrm(sizes, train.numbers.shape[1], questions, train.similarity.shape[1], width)
    model.knowledge.requires_grad_(with_knowledge)  # it begins at zero: frozen, it adds nothing
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
        reached = auc(model, rows["valid"])
        if reached > best:
            best, best_epoch, state = reached, epoch, copy.deepcopy(model.state_dict())
        if epoch - best_epoch >= PATIENCE:
            break
    model.load_state_dict(state)
    return auc(model, rows["test"])


@torch.inference_mode()
def auc(model: Dlrm, rows: Rows) -> float:
    """The probability that a row with label 1 is ranked above one with label 0."""
    model.eval()
    _, *inputs = (values.split(8 * BATCH) for values in rows)
    logits = torch.cat([model(*batch) for batch in zip(*inputs, strict=True)])
    return float(roc_auc_score(rows.label.numpy(), logits.numpy()))


def main() -> None:
    """Train without and with knowledge, and print how much it adds."""
    parser = argparse.ArgumentParser(description="A DLRM in plain PyTorch, without and with knowledge.")
    parser.add_argument("run", type=Path, help="directory of 'lum run', such as runs/market")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=8, help="passes over the rows, at most (default: %(default)s)")
    chosen = parser.parse_args()
    if chosen.seeds < 1 or chosen.epochs < 1:
        parser.error("--seeds and --epochs: expected 1 or more")
    for part in ("dataset/impressions", "knowledge/items.parquet"):
        if not (chosen.run / part).exists():
            parser.exit(2, f"{chosen.run}: has no {part}; 'lum run configs/market.yaml' writes runs/market\n")
    rows = {split: read_rows(chosen.run, split) for split in ("train", "valid", "test")}
    plain, informed = (
        np.array([train(rows, with_knowledge, seed, chosen.epochs) for seed in range(chosen.seeds)])
        for with_knowledge in (False, True)
    )
    print(f"{'':18} test AUC, mean ± std of {chosen.seeds} seeds")
    for name, found in (("DLRM", plain), ("DLRM + knowledge", informed)):
        print(f"{name:18}  {found.mean():.4f} ± {found.std(ddof=min(1, chosen.seeds - 1)):.4f}")
    print(f"{'knowledge adds':18} {informed.mean() - plain.mean():+.4f}")


if __name__ == "__main__":
    main()
