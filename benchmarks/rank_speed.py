"""Speed of training the rankers that read a history: forward, backward and optimiser step of 1,024 rows.

    python benchmarks/rank_speed.py runs/bench-market/dataset --json OUT.json

The datasets are from `lum prepare` (or from `lum bench`; its settings are not read). The reference is the same ranker on the same
rows, with every history padded to the longest of the batch. It is measured in the same run, alternating step by step.
"""

import argparse
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.nn import functional as F

from openlum.artefact.json_file import write_json
from openlum.data.dataset import Dataset
from openlum.pipeline.summary import environment
from openlum.rank.batches import Behaviours, RankingData
from openlum.rank.settings import RankSettings
from openlum.rank.train import build_ranker

RANKERS: tuple[str, ...] = ("din", "dien", "sim")


def one_group(history: Behaviours) -> list[tuple[torch.Tensor, Behaviours]]:
    """Return all rows in one group, for any lengths."""
    return [(torch.arange(len(history.mask)), history)]


def measure(name: str, data: RankingData, steps: int) -> dict[str, Any]:
    """Return the median milliseconds per step of openlum and of the padded reference, measured in alternation."""
    config, rows = data.config(name, False), data.rows["train"]
    ranker = build_ranker(config, data, 0)
    ranker.train()
    optimizer = torch.optim.AdamW(ranker.parameters())
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))

    def step(index: torch.Tensor) -> float:
        """Return the milliseconds of one step."""
        began = time.perf_counter()
        logits = ranker(data.batch(rows, index, config))
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, rows.label[index]).backward()
        optimizer.step()
        return 1000 * (time.perf_counter() - began)

    pairs = []
    for index in order.split(config.settings.batch_size)[: steps + 1]:
        ours = step(index)
        with mock.patch.object(Behaviours, "group_by_length", one_group):
            pairs.append((ours, step(index)))
    ours, padded = np.median(pairs[1:], axis=0).tolist()  # without the first pair, a warm-up
    return {"ms": round(ours, 1), "padded_ms": round(padded, 1), "ratio": round(padded / ours, 2)}


def main() -> None:
    """Measure every ranker on every dataset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", type=Path, nargs="+", help="directories from 'lum prepare'")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--steps", type=int, default=20, help="timed steps (default: 20)")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    print(f"{'dataset':16} {'behaviours a row':>16} {'ranker':8} {'ms a step':>10} {'padded':>10} {'ratio':>6}")
    for directory in arguments.datasets:
        data = RankingData(Dataset(directory), RankSettings())
        name, rows = data.dataset.info.data_schema.name, data.rows["train"]
        activity = data.batch(rows, torch.arange(len(rows)), data.config("dnn", False)).activity
        length = activity.expm1().clamp(max=data.settings.long_history)  # (I,)
        figures = results[name] = {"behaviours": round(float(length.mean()), 1)}
        for ranker in RANKERS:
            row = figures[ranker] = measure(ranker, data, arguments.steps)
            cells = f"{row['ms']:>10} {row['padded_ms']:>10} {row['ratio']:>6}"
            print(f"{name:16} {figures['behaviours']:>16} {ranker:8} {cells}")
    if arguments.json:
        write_json(arguments.json, {"benchmark": "rank_speed", "results": results, "environment": environment()})


if __name__ == "__main__":
    main()
