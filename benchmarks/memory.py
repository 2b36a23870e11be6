"""Peak memory of pre-training, querying and ranking by the size of the log.

    python benchmarks/memory.py --before OLD_CHECKOUT --json OUT.json
    python benchmarks/memory.py --events 2e6 --steps 0 --parts 0    # a whole epoch, and all parts

The simulated market is prepared once for each size. Each measurement has its own process: it trains for `--steps` steps, or
queries `--parts` parts after reading all shards, and reports the largest resident memory that it had. Both cuts come
after all events were read, and the first part of a query has the peak. `din` reads the batches of one epoch and trains on every
hundredth; `lightgbm` grows two trees. Neither reads knowledge. The peak of a training rises a little in its first steps,
because batches differ and the allocator keeps memory. With `--before`, the same dataset is trained and
queried with the code of another checkout. That code reads everything at the start, so its first part has the peak as well.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
KINDS = ["pretrain", "query", "din", "lightgbm"]
QUESTIONS: dict[str, Any] = {"click": {"feedback": "click", "*": "$row"}, "home": {"scenario": "home"}, "any": {}}


def build(events: int, work: Path) -> Path:
    """Simulate and prepare a market of a size, unless it is there, and return the dataset."""
    from openlum.prepare.run import prepare
    from openlum.sources.market.settings import market_of_size
    from openlum.sources.market.write import write_market

    directory = work / f"market-{events}"
    if not (directory / "dataset").exists():
        users = max(events // 100, 100)
        schema = write_market(market_of_size(users, events, 5000, 60, 0), directory / "log")
        prepare(schema, directory / "dataset")
    return directory / "dataset"


def train(dataset: Path, work: Path, steps: int) -> None:
    """Train for some steps, with the first pass over all events before them; 0 for a whole epoch."""
    from openlum.data.dataset import Dataset
    from openlum.model import ModelSettings
    from openlum.pretrain.initialization import build_model
    from openlum.pretrain.settings import PretrainSettings
    from openlum.pretrain.train import Trainer

    (work / "checkpoints").mkdir(parents=True)
    prepared = Dataset(dataset)
    trainer = Trainer(build_model(prepared, ModelSettings(), 0), prepared, PretrainSettings(epochs=1), work)
    if steps:
        trainer.run(until=steps // 2)
        _last_buffer(trainer)
        trainer.run(until=trainer.progress.step + steps - steps // 2)
    else:
        trainer.run()
        trainer.model.save_pretrained(work / "model")


def _last_buffer(trainer: Any) -> None:
    """Go to the last buffer of the epoch, if the trainer reads buffers: memory must not depend on how many were read."""
    if hasattr(trainer, "loader"):
        loader = trainer.loader
        loader.load_state({"epoch": 0, "buffer": len(loader.buffers(0)) - 1, "batch": 0})


def query(dataset: Path, work: Path, parts: int) -> None:
    """Answer the questions of some parts of the last shard (all parts for 0), or of the first parts with code without shards."""
    from openlum.data.dataset import Dataset
    from openlum.model import ModelSettings
    from openlum.pretrain.initialization import build_model
    from openlum.query import bulk
    from openlum.query.settings import QuerySettings

    build_model(Dataset(dataset), ModelSettings(), 0, "time").save_pretrained(work / "model")
    if parts:
        _cut(bulk, parts)
    with suppress(_EnoughPartsError):
        bulk.query(dataset, work / "model", work / "knowledge", QuerySettings(questions=QUESTIONS))


def rank_din(dataset: Path) -> None:
    """Read all batches of an epoch of `din`, train on every hundredth, and predict the validation rows."""
    import torch

    from openlum.data.dataset import Dataset
    from openlum.rank.batches import RankingData
    from openlum.rank.rankers import new_ranker
    from openlum.rank.settings import RankSettings

    data = RankingData(Dataset(dataset), RankSettings())
    ranker: Any = new_ranker(data.config("din", False))
    optimizer = torch.optim.AdamW(ranker.parameters())
    rows = data.rows["train"]
    for number, (batch, label) in enumerate(data.batches(rows, torch.randperm(len(rows)), ranker.config)):
        if number % 100 == 0:
            torch.nn.functional.binary_cross_entropy_with_logits(ranker(batch), label).backward()
            optimizer.step()
            optimizer.zero_grad()
    ranker.predict(data, data.rows["valid"])


def rank_lightgbm(dataset: Path) -> None:
    """Grow two trees and predict the test rows."""
    from openlum.data.dataset import Dataset
    from openlum.rank.batches import RankingData
    from openlum.rank.settings import RankSettings, TreeSettings
    from openlum.rank.train import fit

    data = RankingData(Dataset(dataset), RankSettings(trees=TreeSettings(rounds=2)))
    fit(data.config("lightgbm", False), data, 0).ranker.predict(data, data.rows["test"])


class _EnoughPartsError(Exception):
    """The parts to measure are written."""


def _cut(bulk: Any, parts: int) -> None:
    """Let a query run end early."""
    if hasattr(bulk, "ShardQuery"):
        # Every shard is read, and the model answers the first parts of the last one.
        tables: Callable[..., Iterator[Any]] = bulk.ShardQuery.tables
        answered: list[str] = []

        def some_tables(query: Any, shard: Any, impressions: Any) -> Iterator[Any]:
            if shard.name == query.dataset.shards()[-1].name:
                if len(answered) == parts:
                    raise _EnoughPartsError
                answered.append(shard.name)
                yield from tables(query, shard, impressions)

        bulk.ShardQuery.tables = some_tables
    else:
        write_part, written = bulk.KnowledgeWriter.write_part, []

        def some_parts(writer: Any) -> None:
            write_part(writer)
            written.append(1)
            if len(written) == parts:
                raise _EnoughPartsError

        bulk.KnowledgeWriter.write_part = some_parts


def measure(kind: str, dataset: Path, source: Path, args: argparse.Namespace) -> dict[str, float]:
    """Return the peak memory of one process that runs the code in `source`."""
    with tempfile.TemporaryDirectory(dir=args.work) as out:
        command = [sys.executable, __file__, "--one", kind, str(dataset), out]
        command += ["--steps", str(args.steps), "--parts", str(args.parts)]
        environment = os.environ | {"PYTHONPATH": str(source / "src")}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{dataset.parent.name:>16} {kind:13} {source.name:8} {figures}", file=sys.stderr, flush=True)
    return figures


def main() -> None:
    """Measure every size, print a table and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", nargs="+", type=float, default=[5e5, 2e6, 8e6])
    parser.add_argument("--steps", type=int, default=20, help="steps of each training; 0 for an epoch (default: 20)")
    parser.add_argument("--parts", type=int, default=1, help="parts to query; 0 for all (default: 1)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="what is measured (default: all)")
    parser.add_argument("--before", type=Path, help="also measure the code of this checkout")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lum-memory")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, metavar=("KIND", "DATASET", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        from openlum.training.memory import peak_memory_bytes

        kind, dataset, out = args.one[0], Path(args.one[1]), Path(args.one[2])
        began = time.perf_counter()
        runs: dict[str, Callable[[], None]] = {
            "pretrain": lambda: train(dataset, out, args.steps),
            "query": lambda: query(dataset, out, args.parts),
            "din": lambda: rank_din(dataset),
            "lightgbm": lambda: rank_lightgbm(dataset),
        }
        runs[kind]()
        seconds = round(time.perf_counter() - began, 1)
        print(json.dumps({"peak_memory_bytes": peak_memory_bytes(), "seconds": seconds}))
        return
    from openlum.artefact.json_file import read_json, write_json
    from openlum.pipeline.summary import environment

    args.work.mkdir(parents=True, exist_ok=True)
    sources = {"before": args.before} if args.before else {}
    sources["after"] = ROOT
    sizes = []
    for events in args.events:
        dataset = build(int(events), args.work)
        counts = read_json(dataset / "dataset.json", "lum prepare")["counts"]
        size: dict[str, Any] = {"events": counts["events"], "impressions": counts["impressions"]}
        for kind in args.kinds:
            size[kind] = {name: measure(kind, dataset, source, args) for name, source in sources.items()}
        sizes.append(size)
    print(f"{'events':>12} " + " ".join(f"{kind} {name:>8}" for kind in args.kinds for name in sources))
    for size in sizes:
        peaks = [size[kind][name]["peak_memory_bytes"] for kind in args.kinds for name in sources]
        print(f"{size['events']:>12,} " + " ".join(f"{peak / 1e9:>14.2f} GB" for peak in peaks))
    if args.json:
        settings = {"steps": args.steps, "parts": args.parts, "questions": QUESTIONS}
        write_json(args.json, {"sizes": sizes, "settings": settings, "environment": environment()})


if __name__ == "__main__":
    main()
