"""The cores that a process may use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openlum import capacity
from openlum.capacity import available_cores

COUNT = (
    "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from openlum.capacity import available_cores"
)


@pytest.fixture
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for the files of a container's limits, on a machine with 16 cores."""
    names = [tuple(Path(file).name for file in files) for files in capacity.CORE_LIMITS]
    monkeypatch.setattr(capacity, "CORE_LIMITS", [tuple(str(tmp_path / name) for name in files) for files in names])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    return tmp_path


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no CPU affinity")
def test_a_process_that_is_bound_to_one_core_uses_one() -> None:
    command = [sys.executable, "-c", f"{COUNT}; print(available_cores())"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "1\n", done.stderr


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("1000 100000", 1),
        ("6400000 100000", 16),
        ("max 100000", 16),
        ("", 16),
    ],
)
def test_a_container_limits_the_cores(limits: Path, text: str, cores: int) -> None:
    (limits / "cpu.max").write_text(text)
    assert available_cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("300000", 3), ("-1", 16)])
def test_a_container_of_the_older_kind_limits_the_cores(limits: Path, quota: str, cores: int) -> None:
    (limits / "cpu.cfs_quota_us").write_text(quota)
    (limits / "cpu.cfs_period_us").write_text("100000")
    assert available_cores() == cores


def test_a_system_without_affinity_and_container_has_all_its_cores(
    limits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert available_cores() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1
