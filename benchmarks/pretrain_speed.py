"""Speed and memory of pre-training: tokens per second of forward, backward and optimiser step.

    python benchmarks/pretrain_speed.py --json OUT.json

The histories are random, with the lengths of a real log (log-normal, mean 165, as in MovieLens-1M); 3,700 items, full softmax.
The reference is the same model on the same users, padded to the longest history of each batch. It is measured in the same run,
alternating step by step. Every event counts as two tokens; padding does not count.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from openlum.artefact.directory import write_json
from openlum.data.vocabulary import Vocabulary
from openlum.model import History, LargeUserModel, ModelConfig, ModelSettings, Processor
from openlum.pipeline.summary import environment
from openlum.pretrain.objective import Objective
from openlum.pretrain.settings import PretrainSettings
from openlum.schema import FieldSpec
from openlum.training.memory import peak_memory_bytes

SIZES = {"D=64, 2 layers": (64, 2, 4), "D=256, 4 layers": (256, 4, 8)}
ITEMS = 3_700
EVENTS = 4_096
MAX_EVENTS = 256


def batch(rng: np.random.Generator, pad: bool) -> tuple[History, int]:
    """Return about `EVENTS` events of users with random lengths, and their number; with `pad`, all users have the longest
    length."""
    lengths: list[int] = []
    while sum(lengths) < EVENTS:
        lengths.append(int(np.clip(rng.lognormal(4.6, 1.0), 1, MAX_EVENTS)))
    shape = [max(lengths)] * len(lengths) if pad else lengths
    n = sum(shape)
    condition = {"rating": torch.from_numpy(rng.integers(1, 6, n))}
    item = torch.from_numpy(rng.integers(1, ITEMS, n))
    before = torch.cat([torch.arange(length) for length in shape])  # no two events in one second
    return History(item, condition, torch.tensor([0, *np.cumsum(shape)]), before), sum(lengths)


def measure(width: int, layers: int, heads: int, steps: int) -> dict[str, float]:
    """Return the median tokens per second of openlum and of the padded reference, measured in alternation."""
    config = ModelConfig(
        settings=ModelSettings(width=width, layers=layers, heads=heads, embedding_width=width, max_events=MAX_EVENTS),
        condition=[FieldSpec(name="rating", type="categorical", size=6, feedback=True)],
        item=[],
        items=ITEMS,
    )
    settings = PretrainSettings(feedback_contrast_weight=0.0, feedback_prediction_weight=0.0)
    torch.manual_seed(0)
    names = Vocabulary([str(i) for i in range(1, ITEMS)])
    ratings = Vocabulary(["1", "2", "3", "4", "5"])
    model = LargeUserModel(config, Processor(names, ["", *names.values], {"rating": ratings}))
    objective = Objective(config, settings, np.full(ITEMS, 1 / ITEMS), torch.arange(ITEMS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(seed: int, pad: bool) -> float:
        """Return the tokens per second of one step."""
        history, events = batch(np.random.default_rng(seed), pad)
        began = time.perf_counter()
        optimizer.zero_grad()
        objective.total(objective(getattr(model, "network", model), history)).backward()
        optimizer.step()
        return 2 * events / (time.perf_counter() - began)

    for seed in range(3):  # a warm-up
        step(seed, pad=False)
    peak = peak_memory_bytes()  # measured before the reference, which needs more
    speeds: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(steps):
        for pad in (False, True):
            speeds[pad].append(step(seed, pad))
    ours, padded = (float(np.median(speeds[pad])) for pad in (False, True))
    return {
        "tokens_per_second": round(ours),
        "padded_tokens_per_second": round(padded),
        "ratio": round(ours / padded, 2),
        "parameters": sum(p.numel() for p in model.parameters()),
        "peak_memory_bytes": peak,
    }


def main() -> None:
    """Measure every size in its own process, so that each has its own peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--steps", type=int, default=20, help="timed steps (default: 20)")
    parser.add_argument("--size", choices=list(SIZES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.size:
        print(json.dumps(measure(*SIZES[arguments.size], arguments.steps)))
        return
    results = {}
    print(f"{'size':18} {'tokens/s':>10} {'padded':>10} {'ratio':>6} {'parameters':>12} {'peak memory':>12}")
    for size in SIZES:
        command = [sys.executable, __file__, "--size", size, "--steps", str(arguments.steps)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row = results[size] = json.loads(done.stdout)
        print(
            f"{size:18} {row['tokens_per_second']:>10,} {row['padded_tokens_per_second']:>10,} {row['ratio']:>6} "
            f"{row['parameters']:>12,} {row['peak_memory_bytes'] / 2**20:>8,.0f} MiB"
        )
    if arguments.json:
        write_json(arguments.json, {"benchmark": "pretrain_speed", "results": results, "environment": environment()})


if __name__ == "__main__":
    main()
