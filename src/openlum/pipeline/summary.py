"""`summary.json`: the results of a run in a stable form, for programs. `summary.schema.json` is its JSON Schema."""

import platform
import subprocess
from pathlib import Path
from typing import Any

from openlum import __version__
from openlum.artefact.directory import check_parts, read_json, write_json

RANKER_PARTS = ("ranking", "comparisons", "calibration", "segments", "knowledge", "oracle")
"""What `summary.json` has of the ranker's `metrics.json`."""


def write_summary(directory: Path, steps: list[str], seed: int) -> dict[str, Any]:
    """Collect what the steps of a run measured, write `summary.json` and return it.

    Args:
        directory: runs/NAME.
        steps: that the run consists of; what an earlier run left of others does not count.
        seed: of the experiment.
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
        found = read_json(retrieval / "metrics.json", "lum retrieve", ["retrieval", "protocol"])
        summary |= {"retrieval": found["retrieval"], "retrieval_protocol": found["protocol"]}
    summary["pretrain"] = read_json(directory / "model" / "pretrain.json", "lum pretrain")
    if "query" in steps:
        summary["query"] = query_part(knowledge)
    summary["environment"] = environment() | {"seed": seed}
    write_json(directory / "summary.json", summary)
    return summary


def query_part(knowledge: Path) -> dict[str, Any]:
    """The `query` part of `summary.json`, of the directory that `lum query` wrote."""
    check_parts(knowledge, "knowledge")
    made = read_json(knowledge / "knowledge.json", "lum query", ["rows", "seconds", "questions"])
    return {name: made[name] for name in ("rows", "seconds")} | {"questions": len(made["questions"])}


def environment() -> dict[str, Any]:
    """Versions, machine and commit that figures were measured with."""
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
    """The commit of the checkout that the package runs from; None for an installed wheel."""
    here = Path(__file__).parent
    try:
        # A checkout around the virtual environment is not ours.
        subprocess.run(
            ["git", "ls-files", "--error-unmatch", __file__], cwd=here, capture_output=True, timeout=10, check=True
        )
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
