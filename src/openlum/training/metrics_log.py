"""The log of a training: `metrics.jsonl` and TensorBoard curves."""

import json
import math
from pathlib import Path
from types import TracebackType
from typing import Any

FILE = "metrics.jsonl"


class MetricsLog:
    """The metrics of a training by step, as a context manager.

    Lines and points of later steps, from before an interruption, are deleted first.

    Args:
        directory: directory of the log.
        step: the step that the training continues at.
    """

    def __init__(self, directory: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # imported here: it takes a quarter of a second

        self.file = directory / FILE
        lines = self.file.read_text(encoding="utf-8", errors="replace").splitlines() if self.file.exists() else []
        valid_lines = [line for line in lines if _line_step(line) <= step]
        self.file.write_text("".join(line + "\n" for line in valid_lines), encoding="utf-8")
        self.curves = SummaryWriter(str(directory / "tensorboard"), purge_step=step)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.curves.close()

    def training(self, step: int, metrics: dict[str, float]) -> None:
        """Add the metrics of a step; their curves are named `train/NAME`."""
        self._add(step, metrics, {f"train/{name}": value for name, value in metrics.items()})

    def validation(self, step: int, epoch: int, metrics: dict[str, float]) -> None:
        """Add the metrics of a validation; their curves are named `validation/NAME`."""
        curves = {f"validation/{name}": value for name, value in metrics.items()}
        self._add(step, {"epoch": epoch, "validation": metrics}, curves)

    def _add(self, step: int, line: dict[str, Any], curves: dict[str, float]) -> None:
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **line}) + "\n")
        for name, value in curves.items():
            self.curves.add_scalar(name, value, step)


def _line_step(line: str) -> float:
    """Return the step of a line of the log, or infinity for a damaged line, such as a partly written one."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf
