"""Cost of the matching head beside the user encoder: microseconds and operations a candidate, bytes a user.

    python benchmarks/matching_head.py --json OUT.json

One request has 500 candidates of one user. The head runs in torch, NumPy and onnxruntime, with the encoding of the request's
context. The reference is the tier *live*: the user encoder predicts the feedback to the same candidates from the kept state of
128 events. All have the embeddings of the candidates. They are measured in the same run, in turns, with one thread each, in
time of the core, so that other processes of the machine matter little. Weights and data are random, the shape is the default
one (width 64, 2 layers) with the largest number of user vectors.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read by the imports below

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from random_model import CATALOGUE, random_model

from openlum.artefact.json_file import write_json
from openlum.export.head import export_head
from openlum.export.numpy_head import Head
from openlum.export.onnx_head import ITEMS, LOGITS, SIMILARITIES, USER_VECTORS, ServedHead
from openlum.model import LargeUserModel, Questions
from openlum.model.batch import Moments
from openlum.pipeline.summary import environment

CANDIDATES, EVENTS = 500, 128


def predictions(model: LargeUserModel, directory: Path) -> tuple[dict[str, Callable[[], Any]], int]:
    """Return the functions that predict the feedback of one request, by name, and the bytes of the kept state of its user."""
    rng = np.random.default_rng(0)
    history = [
        {"item": str(item), "scenario": str(rng.integers(1, 5)), "rating": str(rng.integers(1, 8)), "time": 60 * index}
        for index, item in enumerate(rng.integers(1, CATALOGUE, EVENTS))
    ]
    state = model.user_state(history)
    moment = Moments(torch.tensor([0]), torch.tensor([EVENTS]))
    vectors = model.network.user_vectors(state.history, moment)[0]
    candidates = torch.from_numpy(rng.integers(1, CATALOGUE, CANDIDATES))
    items = model.items(candidates)
    context = {"scenario": torch.tensor(2), "hour": torch.tensor(13)}
    none = torch.zeros(CANDIDATES, dtype=torch.int64)
    condition = {name: value.expand(CANDIDATES) for name, value in (context | {"rating": torch.tensor(0)}).items()}
    questions = Questions(condition, none, none + EVENTS, candidates)

    served = ServedHead(model.network, model.config.context)
    head = Head(directory)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(directory / "head.onnx", options)
    arrays = vectors.numpy(), items.numpy(), {name: value.numpy() for name, value in context.items()}
    feeds = {USER_VECTORS: arrays[0], ITEMS: arrays[1], **arrays[2]}
    methods: dict[str, Callable[[], Any]] = {
        "torch": lambda: served(vectors, items, [context[spec.name] for spec in model.config.context]),
        "numpy": lambda: head(*arrays),
        "onnxruntime": lambda: session.run([LOGITS, SIMILARITIES], feeds),
        "live": lambda: model.predict_feedback_logits(state.history, questions, items),
    }
    return methods, len(state.to_bytes())


@torch.inference_mode()
def measure(repetitions: int) -> dict[str, Any]:
    """Return the microseconds a candidate of every method, measured in turns, and the bytes a user."""
    with tempfile.TemporaryDirectory() as work, torch.inference_mode(False):
        model = random_model()
        description = export_head(model, Path(work, "head"))
        with torch.inference_mode():
            methods, state_bytes = predictions(model, Path(work, "head"))
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repetitions):
        for name, predict in methods.items():
            began = time.process_time()
            predict()
            seconds[name].append(time.process_time() - began)
    microseconds = {
        name: 1e6 * np.array(values[1:]) / CANDIDATES for name, values in seconds.items()
    }  # after a warm-up
    figures: dict[str, Any] = {
        name: {"microseconds_per_candidate": {"best": round(x.min(), 2), "median": round(float(np.median(x)), 2)}}
        for name, x in microseconds.items()
    }
    live = microseconds["live"]
    for name, x in microseconds.items():
        figures[name]["live_over_this"] = {
            "best": round(live.min() / x.min(), 1),
            "median": round(float(np.median(live) / np.median(x)), 1),
        }
    head = {
        "user_vectors": len(description["user_vectors"]),
        "bytes_per_user": description["bytes_per_user"],
        "flops_per_candidate": description["flops_per_candidate"],
    }
    return {"methods": figures, "head": head, "live": {"bytes_per_user": state_bytes}}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--repetitions", type=int, default=300, help="timed requests of each method (default: 300)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = measure(arguments.repetitions + 1)
    print(f"{'':12} {'best':>8} {'median':>8} microseconds a candidate   {'live / this':>12}")
    for name, figures in results["methods"].items():
        cost, ratio = figures["microseconds_per_candidate"], figures["live_over_this"]
        print(f"{name:12} {cost['best']:>8} {cost['median']:>8} {'':27} {ratio['best']:>11}")
    head, live = results["head"], results["live"]
    print(f"{head['bytes_per_user']:,} bytes a user ({head['user_vectors']} vectors), live {live['bytes_per_user']:,}")
    print(f"{head['flops_per_candidate']:,} FLOPs a candidate")
    if arguments.json:
        write_json(arguments.json, {"benchmark": "matching_head", "results": results, "environment": environment()})


if __name__ == "__main__":
    main()
