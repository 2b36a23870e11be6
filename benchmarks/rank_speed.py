"""Speed of training the rankers that read a history: forward, backward and optimiser step of 1,024 rows.

    python benchmarks/rank_speed.py runs/bench-market/dataset --json OUT.json

The datasets are from `lum prepare` (or `lum bench`, whose settings are not read). The reference, measured in the same run and
in turns with ours, is the same ranker on the same rows with every history padded to the longest of the batch.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.nn import functional as F

from openlum.artefact import write_json
from openlum.data.dataset import Dataset
from openlum.rank.batches import Behaviours, RankingData
from openlum.rank.settings import Architecture, RankSettings
from openlum.rank.train import build_ranker
from openlum.summary import environment

RANKERS: tuple[Architecture, ...] = ("din", "dien", "sim")


@contextmanager
def together() -> Iterator[None]:
    """All rows of a batch in one group, whatever their lengths."""
    with mock.patch.object(Behaviours, "by_length", lambda self: [(torch.arange(len(self.mask)), self)]):
        yield


def measure(name: Architecture, data: RankingData, steps: int) -> dict[str, Any]:
    """Median milliseconds a step of ours and of the padded reference, steps in turn."""
    config, rows = data.config(name, False), data.rows["train"]
    ranker = build_ranker(config, data, 0)
    ranker.train()
    optimizer = torch.optim.AdamW(ranker.parameters())
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))

    def step(index: torch.Tensor) -> float:
        """Milliseconds of one step."""
        began = time.perf_counter()
        logits = ranker(data.batch(rows, index, config))
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, rows.label[index]).backward()
        optimizer.step()
        return 1000 * (time.perf_counter() - began)

    seconds: dict[str, list[float]] = {"ours": [], "padded": []}
    batches = order.split(config.settings.batch_size)[: steps + 1]
    for number, index in enumerate(batches):
        ours = step(index)
        with together():
            padded = step(index)
        if number:  # the first is a warm-up
            seconds["ours"].append(ours)
            seconds["padded"].append(padded)
    ours, padded = (float(np.median(seconds[which])) for which in ("ours", "padded"))
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
        rows = data.rows["train"]
        length = (rows.stop - rows.first).clamp(max=data.settings.long_history).float()  # (I,)
        found = results[data.dataset.info.data_schema.name] = {"behaviours": round(float(length.mean()), 1)}
        for name in RANKERS:
            row = found[name] = measure(name, data, arguments.steps)
            told = f"{row['ms']:>10} {row['padded_ms']:>10} {row['ratio']:>6}"
            print(f"{data.dataset.info.data_schema.name:16} {found['behaviours']:>16} {name:8} {told}")
    if arguments.json:
        write_json(arguments.json, {"benchmark": "rank_speed", "results": results, "environment": environment()})


if __name__ == "__main__":
    main()
