"""`summary.json`: the results of a run for programs. Its format is stable; `summary.schema.json` is its JSON Schema."""

import platform
import subprocess
from pathlib import Path
from typing import Any

from openlum import __version__
from openlum.artefact.directory import check_parts
from openlum.artefact.json_file import read_json, write_json

RANKER_PARTS = (
    "ranking",
    "comparisons",
    "calibration",
    "segments",
    "knowledge",
    "fusion",
    "controls",
    "tiers",
    "oracle",
)
"""Keys of the ranker's `metrics.json` that `summary.json` has too."""


def write_summary(directory: Path, steps: list[str], seed: int) -> dict[str, Any]:
    """Collect the measurements of a run's steps, write them to `summary.json` and return them.

    Args:
        directory: runs/NAME.
        steps: the steps of the run. Artefacts of other steps from an earlier run are ignored.
        seed: seed of the experiment.
    """
    summary: dict[str, Any] = {}
    ranker, retrieval, knowledge = (directory / name for name in ("ranker", "retrieval", "knowledge"))
    check_parts(directory / "model", "model")
    if "rank" in steps:
        check_parts(ranker, "ranker")
        metrics = read_json(ranker / "metrics.json", "lum rank", ["ranking", "comparisons"])
        summary |= {name: metrics[name] for name in RANKER_PARTS if name in metrics}
    if "retrieve" in steps:
        check_parts(retrieval, "retrieval")
        metrics = read_json(retrieval / "metrics.json", "lum retrieve", ["retrieval", "protocol"])
        summary |= {"retrieval": metrics["retrieval"], "retrieval_protocol": metrics["protocol"]}
        summary |= {"cold_items": metrics["cold_items"]} if "cold_items" in metrics else {}
    summary["pretrain"] = read_json(directory / "model" / "pretrain.json", "lum pretrain")
    if "query" in steps:
        summary["query"] = query_part(knowledge)
    summary["environment"] = environment() | {"seed": seed}
    write_json(directory / "summary.json", summary)
    return summary


def query_part(knowledge: Path) -> dict[str, Any]:
    """Return the `query` part of `summary.json` from the directory that `lum query` wrote."""
    check_parts(knowledge, "knowledge")
    content = read_json(knowledge / "knowledge.json", "lum query", ["rows", "seconds", "questions"])
    figures = {name: content[name] for name in ("rows", "seconds", "costs") if name in content}
    return figures | {"questions": len(content["questions"])}


def environment() -> dict[str, Any]:
    """Return the versions, the machine and the commit that a result was measured with."""
    import torch

    return {
        "openlum": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu": f"{_processor()}, {torch.get_num_threads()} threads",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": _commit(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of the checkout that the package runs from; None for an installed wheel."""
    directory = Path(__file__).parent
    try:
        # A checkout around the virtual environment does not count: it does not track this file.
        subprocess.run(
            ["git", "ls-files", "--error-unmatch", __file__], cwd=directory, capture_output=True, timeout=10, check=True
        )
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=directory, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
