"""The log of a training."""

import json
from pathlib import Path

from openlum.training.metrics_log import FILE, MetricsLog


def test_a_resumed_log_has_no_later_and_no_damaged_lines(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0) as log:
        for step in range(1, 6):
            log.training(step, {"loss": 1 / step})
        log.validation(5, 1, {"loss": 0.5})
    with open(tmp_path / FILE, "a") as file:
        file.write('{"step": 3, "lo')
    with MetricsLog(tmp_path, 4) as log:
        log.validation(5, 1, {"loss": 0.25})
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert lines[:-1] == [{"step": step, "loss": 1 / step} for step in range(1, 5)]
    assert lines[-1] == {"step": 5, "epoch": 1, "validation": {"loss": 0.25}}
    assert list((tmp_path / "tensorboard").iterdir())
