"""Speed and memory of pre-training: tokens per second of forward, backward and optimiser step.

    python benchmarks/pretrain_speed.py --json OUT.json
    python benchmarks/pretrain_speed.py --against ../other-checkout/src --json OUT.json

The histories are random, with the lengths of a real log (log-normal, mean 165, as in MovieLens-1M); 3,700 items, full softmax.
The reference is the same model on the same users, padded to the longest history of each batch. It is measured in the same run,
alternating step by step. Every event counts as two tokens; padding does not count.

With `--against`, the reference is the openlum of another checkout: two processes do the same steps by turns, one at a time.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np
import torch

from openlum.artefact.json_file import write_json
from openlum.data.vocabulary import Vocabulary
from openlum.field_spec import FieldSpec
from openlum.model import History, LargeUserModel, ModelConfig, ModelSettings, Processor
from openlum.pipeline.summary import environment
from openlum.pretrain.objective import Objective
from openlum.pretrain.settings import PretrainSettings
from openlum.training.memory import peak_memory_bytes

SIZES = {"D=64, 2 layers": (64, 2, 4), "D=256, 4 layers": (256, 4, 8)}
ITEMS = 3_700
EVENTS = 4_096
MAX_EVENTS = 256
REFERENCES = ("padded_tokens_per_second", "against_tokens_per_second")


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


def new_training(width: int, layers: int, heads: int) -> Callable[[int, bool], float]:
    """Return a function that does one training step and returns its tokens per second.

    The function has two arguments: the seed of the batch, and whether to pad it.
    """
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
    network: Any = getattr(model, "network", model)  # another checkout may have no separate network
    objective = Objective(config, settings, np.full(ITEMS, 1 / ITEMS), torch.arange(ITEMS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    print(sum(p.numel() for p in model.parameters()), flush=True)

    def step(seed: int, pad: bool) -> float:
        history, events = batch(np.random.default_rng(seed + 1), pad)
        began = time.perf_counter()
        optimizer.zero_grad()
        objective.total(objective(network, history)).backward()
        optimizer.step()
        return 2 * events / (time.perf_counter() - began)

    return step


def work(size: str) -> None:
    """Do a step for every line of the input, `SEED` or `SEED pad`, and print its tokens per second and the peak memory."""
    step = new_training(*SIZES[size])
    for line in sys.stdin:
        seed, *pad = line.split()
        print(step(int(seed), bool(pad)), peak_memory_bytes(), flush=True)


class Worker:
    """A process that does training steps with the openlum of a source folder.

    Args:
        size: of the model.
        source: folder with the package, or None for the same package as this process.
    """

    def __init__(self, size: str, source: Path | None) -> None:
        environment = os.environ | ({"PYTHONPATH": str(source.resolve())} if source else {})
        command = [sys.executable, __file__, "--size", size]
        self._process = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True, env=environment)
        self.parameters = int(self._read()[0])

    def step(self, seed: int, pad: bool = False) -> tuple[float, int]:
        """Do a step and return its tokens per second, and the peak memory of the process in bytes."""
        assert self._process.stdin is not None
        print(seed, "pad" if pad else "", file=self._process.stdin, flush=True)
        speed, memory = self._read()
        return float(speed), int(memory)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _read(self) -> list[str]:
        assert self._process.stdout is not None
        return self._process.stdout.readline().split()


def measure(size: str, steps: int, source: Path | None) -> dict[str, float]:
    """Return the median tokens per second of openlum and of the reference, measured in alternation.

    Args:
        size: of the model.
        steps: timed steps.
        source: folder with the openlum of the reference; None for padded batches as the reference.
    """
    ours = Worker(size, None)
    reference = Worker(size, source) if source else ours
    for seed in range(3):  # warm-up steps, before the reference, which may need more memory
        _, peak = ours.step(seed)
    speeds = [
        (ours.step(seed)[0], reference.step(seed, pad=source is None)[0])
        if seed % 2
        else (reference.step(seed, pad=source is None)[0], ours.step(seed)[0])[::-1]
        for seed in range(-1, steps)
    ][1:]  # the first step of the reference is a warm-up
    for worker in {ours, reference}:
        worker.close()
    own_speed, reference_speed = np.median(speeds, 0)
    return {
        "tokens_per_second": round(own_speed),
        f"{'against' if source else 'padded'}_tokens_per_second": round(reference_speed),
        "ratio": round(float(np.median([own / other for own, other in speeds])), 3),
        "parameters": ours.parameters,
        "peak_memory_bytes": peak,
    }


def main() -> None:
    """Measure every size in processes of its own, so that each has its own peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--steps", type=int, default=20, help="timed steps (default: 20)")
    parser.add_argument("--against", type=Path, metavar="SRC", help="compare with the openlum in this folder")
    parser.add_argument("--size", choices=list(SIZES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.size:
        work(arguments.size)
        return
    results = {}
    print(f"{'size':18} {'tokens/s':>10} {'reference':>10} {'ratio':>6} {'parameters':>12} {'peak memory':>12}")
    for size in SIZES:
        row = results[size] = measure(size, arguments.steps, arguments.against)
        speeds = row["tokens_per_second"], next(row[name] for name in REFERENCES if name in row)
        print(
            f"{size:18} {speeds[0]:>10,} {speeds[1]:>10,} {row['ratio']:>6} "
            f"{row['parameters']:>12,} {row['peak_memory_bytes'] / 2**20:>8,.0f} MiB"
        )
    if arguments.json:
        reference = (
            f"the openlum in {arguments.against}" if arguments.against else "batches padded to the longest history"
        )
        content = {"benchmark": "pretrain_speed", "reference": reference, "results": results}
        write_json(arguments.json, content | {"environment": environment()})


if __name__ == "__main__":
    main()
