"""Recall, build time and query time of the approximate item indexes beside the exact search.

    python benchmarks/retrieval_index.py --json OUT.json

Item vectors of width 64 are a mixture: as many clusters as the root of the number of items, some much larger than others (Zipf).
An item is the normalised sum of its cluster's centre and noise of 0.7 times its length. A query is the normalised sum of an item
and noise of the same length. `exact` is the reference of recall and of the ratio of query times. It is measured in the same run.
All times are of one thread, in time of the core, so that other processes of the machine matter little.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read by the imports below

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openlum.artefact.json_file import write_json
from openlum.model.item_index import ExactIndex, ItemIndex
from openlum.pipeline.summary import environment
from openlum.retrieve.faiss_index import FaissIndex

WIDTH, NOISE, QUERIES, AT = 64, 0.7, 512, (10, 100)
INDEXES: dict[str, Callable[[Tensor], ItemIndex]] = {
    "exact": ExactIndex,
    "hnsw": lambda vectors: FaissIndex(vectors, "hnsw"),
    "ivf-pq": lambda vectors: FaissIndex(vectors, "ivf-pq"),
}


def item_vectors(items: int, rng: np.random.Generator) -> np.ndarray:
    """Return the vectors of items, (V, 64), of unit length."""
    clusters = int(items**0.5)
    weight = 1 / np.arange(1, clusters + 1)
    centre = unit(rng.normal(size=(clusters, WIDTH)))
    return noisy(centre[rng.choice(clusters, items, p=weight / weight.sum())], rng)


def noisy(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return unit vectors with noise, (n, 64), of unit length."""
    return unit(x + NOISE * unit(rng.normal(size=x.shape)))


def unit(x: np.ndarray) -> np.ndarray:
    """Return vectors of unit length."""
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of work, and its seconds of the core."""
    began = time.process_time()
    return work(), time.process_time() - began


def measure(items: int) -> dict[str, dict[str, float]]:
    """Return the figures of every index with this number of items."""
    rng = np.random.default_rng(0)
    vectors = item_vectors(items, rng)
    queries = torch.from_numpy(noisy(vectors[rng.integers(1, items, QUERIES)], rng))
    figures: dict[str, dict[str, float]] = {}
    exact: dict[int, Tensor] = {}
    for name, build in INDEXES.items():
        index, seconds = timed(lambda build=build: build(torch.from_numpy(vectors)))
        row = figures[name] = {"build_seconds": round(seconds, 2)}
        index.search(queries[:8], AT[0])  # warm-up
        for k in AT:
            found, seconds = timed(lambda index=index, k=k: index.search(queries, k).item)
            exact.setdefault(k, found)
            hits = [len(set(own) & set(all_)) for own, all_ in zip(found.tolist(), exact[k].tolist(), strict=True)]
            row[f"recall@{k}"] = round(float(np.mean(hits)) / k, 4)
            row[f"ms_per_query@{k}"] = round(1000 * seconds / QUERIES, 3)
        _, seconds = timed(lambda index=index: [index.search(queries[i : i + 1], AT[0]) for i in range(64)])
        row["ms_of_a_single_query@10"] = round(1000 * seconds / 64, 3)
        reference = figures["exact"]["ms_per_query@10"]
        row["times_faster_than_exact@10"] = round(reference / max(row["ms_per_query@10"], 1e-3), 1)
        cells = "  ".join(f"{key} {value}" for key, value in row.items())
        print(f"{items:>9,} {name:7} {cells}", flush=True)
    return figures


def main() -> None:
    """Measure every index at every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--items", type=int, nargs="+", default=[10**4, 10**5, 10**6], help="sizes of the catalogue")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {str(items): measure(items) for items in arguments.items}
    if arguments.json:
        content = {"benchmark": "retrieval_index", "width": WIDTH, "noise": NOISE, "queries": QUERIES}
        write_json(arguments.json, content | {"results": results, "environment": environment()})


if __name__ == "__main__":
    main()
