"""Tasks in this process and in worker processes."""

import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from openlum.bench.progress import TaskProgress
from openlum.capacity import available_cores
from openlum.console import output
from openlum.errors import InputError
from openlum.processes import default_processes, run_all


def locate(number: int) -> tuple[int, int, int]:
    """Return the number, the process id and the number of threads."""
    print("from a task")
    return number, os.getpid(), torch.get_num_threads()


def write_file(number: int, directory: Path) -> None:
    """Write a file. Task 0 instead waits for a file and fails."""
    while number == 0:
        if any(directory.iterdir()):
            raise InputError("task 0 fails")
        time.sleep(0.01)
    (directory / str(number)).touch()
    time.sleep(1)


@pytest.mark.parametrize(("tasks", "processes"), [([3, 1, 2], 1), ([5], 4), ([], 4)])
def test_one_process_or_one_task_runs_in_this_process_in_order(
    tasks: list[int], processes: int, capfd: pytest.CaptureFixture[str]
) -> None:
    results = list(run_all(locate, tasks, processes))
    assert results == [(task, (task, os.getpid(), torch.get_num_threads())) for task in tasks]
    assert capfd.readouterr().out == "from a task\n" * len(tasks)


def test_worker_processes_share_the_cores_and_print_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    results = dict(run_all(locate, [1, 2, 3], processes=2))
    assert {task: number for task, (number, *_) in results.items()} == {1: 1, 2: 2, 3: 3}
    assert os.getpid() not in {process for _, process, _ in results.values()}
    assert {threads for *_, threads in results.values()} == {1}
    assert capfd.readouterr().out == ""


def test_after_a_failure_no_further_task_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Task 1, which was running, is finished."""
    with pytest.raises(InputError, match="task 0 fails"):
        list(run_all(partial(write_file, directory=tmp_path), range(20), processes=2))
    assert [file.name for file in tmp_path.iterdir()] == ["1"]
    assert "task 0 fails" in capsys.readouterr().err


def test_the_error_of_a_process_that_ended_says_what_to_do() -> None:
    """The operating system ends a process if memory runs out."""
    with pytest.raises(InputError, match="use fewer --processes"):
        list(run_all(os._exit, [1, 2, 3], processes=2))


def test_the_default_is_one_training_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert default_processes() == available_cores()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert default_processes() == 1


def test_without_a_terminal_every_finished_task_has_a_line_with_the_times(capsys: pytest.CaptureFixture[str]) -> None:
    """A stored result does not count as a task that took time."""
    with TaskProgress("ranking", total=4, work=3) as progress:
        progress.done(["plain: AUC 0.61"], worked=False)
        progress.began -= 60
        progress.done(["[b]: AUC 0.62", "c: AUC 0.63"])
        progress.done(["d: AUC 0.64"])
        progress.done(["e: AUC 0.65"])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "plain: AUC 0.61 (1 of 4, 0:00:00 elapsed)",
        "[b]: AUC 0.62",
        "c: AUC 0.63 (2 of 4, 0:01:00 elapsed, about 0:02:00 remaining)",
        "d: AUC 0.64 (3 of 4, 0:01:00 elapsed, about 0:00:30 remaining)",
        "e: AUC 0.65 (4 of 4, 0:01:00 elapsed)",
    ]


def test_on_a_terminal_a_bar_counts_and_the_lines_have_no_times(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with TaskProgress("ranking", total=2, work=2) as progress:
        progress.done(["a: AUC 0.61"])
    printed = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert "a: AUC 0.61" in printed
    assert "1/2" in printed
    assert " of 2," not in printed


def test_progress_that_is_turned_off_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with output(False), TaskProgress("ranking", total=1, work=1) as progress:
        progress.done(["a: AUC 0.61"])
    assert capsys.readouterr() == ("", "")


BENCHMARK = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from openlum.processes import begin_worker

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), begin_worker, (1,))
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    time.sleep(600)
"""


def test_a_killed_benchmark_leaves_no_training_behind(tmp_path: Path) -> None:
    """The worker inherits the benchmark's standard output, which closes when the last process ends."""
    script = tmp_path / "benchmark.py"
    script.write_text(BENCHMARK)
    benchmark = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert benchmark.stdout is not None
    assert int(benchmark.stdout.readline()) != benchmark.pid
    benchmark.kill()
    benchmark.communicate(timeout=60)
