"""A whole `lum query` beside the bare model loop, users in a second, and peak memory by the size of the log.

    python benchmarks/bulk_query.py --json OUT.json

The simulated market is prepared once for each size (`memory.py`), with a model of random weights. The whole run reads the dataset
shard by shard and writes `knowledge/`; the loop gets shards and impressions in memory, and encodes and answers only. Both answer
the same impressions of a shard, in one process and one thread, in turns; the best processor time of each counts. Users in a
second are those of knowledge per user (all users, now). The peak memory is that of a process of its own that answers one part
after all shards were read, as in `memory.py`.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read by the imports below

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import memory
import torch

from openlum.artefact.json_file import write_json
from openlum.data.dataset import Dataset
from openlum.model import LargeUserModel, ModelSettings
from openlum.pipeline.summary import environment
from openlum.pretrain.initialization import build_model
from openlum.query.answers import answer_impressions, before_the_day
from openlum.query.bulk import query
from openlum.query.matching import matched_scores
from openlum.query.settings import QuerySettings
from openlum.query.shard import ShardQuery

SETTINGS = QuerySettings(questions=memory.QUESTIONS)


def bare_loop(model: LargeUserModel, dataset: Dataset) -> float:
    """Return the processor time of the model for all impressions of a dataset, which are in memory before."""
    form, seconds = ShardQuery(model, dataset, SETTINGS), 0.0
    for shard in dataset.shards():
        rows, sequences = form.rows(shard), shard.sequences
        nightly = before_the_day(sequences, rows)
        began = time.process_time()
        for _ in answer_impressions(model, sequences, rows, form.questions, SETTINGS, form.items):
            pass
        for impressions in (rows, nightly):
            matched_scores(model, sequences, impressions, form.items, SETTINGS.batch_events)
        seconds += time.process_time() - began
    return seconds


def measure(width: int, dataset_dir: Path, work: Path, repetitions: int) -> dict[str, Any]:
    """Return the rows and users in a second of a core, and the whole run over the loop."""
    dataset = Dataset(dataset_dir)
    shape = ModelSettings(width=width, embedding_width=width)
    model = build_model(dataset, shape, 0, "time").eval()
    model.save_pretrained(work / "model")
    loop, whole, users = [], [], []
    for _ in range(repetitions):
        loop.append(bare_loop(model, dataset))
        for seconds, who in ((whole, None), (users, "all")):
            began = time.process_time()
            query(dataset_dir, work / "model", work / "knowledge", SETTINGS, who)
            seconds.append(time.process_time() - began)
    counts = dataset.info.counts
    return {
        "rows": dataset.impression_count,
        "loop_seconds": round(min(loop), 2),
        "whole_seconds": round(min(whole), 2),
        "whole_over_loop": round(min(whole) / min(loop), 3),
        "rows_per_second": round(dataset.impression_count / min(whole)),
        "users_per_second": round(counts["users"] / min(users)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=float, default=1e5, help="size of the log of the speeds (default: 1e5)")
    parser.add_argument("--widths", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--memory", nargs="*", type=float, default=[5e5, 2e6], help="sizes of the peaks of memory")
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lum-memory")
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    speeds = {}
    for width in arguments.widths:
        with tempfile.TemporaryDirectory(dir=arguments.work) as work:
            dataset = memory.build(int(arguments.events), arguments.work)
            speeds[f"D={width}"] = row = measure(width, dataset, Path(work), arguments.repetitions)
            print(f"D={width}: {row}", flush=True)
    peaks = []
    options = argparse.Namespace(work=arguments.work, steps=0, parts=1)
    for events in arguments.memory:
        dataset = memory.build(int(events), arguments.work)
        figures = memory.measure("query", dataset, memory.ROOT, options)
        peaks.append({"events": Dataset(dataset).info.counts["events"], **figures})
    if arguments.json:
        settings = {"repetitions": arguments.repetitions, "questions": memory.QUESTIONS}
        content = {"benchmark": "bulk_query", "settings": settings, "speeds": speeds, "memory": peaks}
        write_json(arguments.json, content | {"environment": environment()})


if __name__ == "__main__":
    main()
