"""Tasks here and in processes of their own."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from openlum.bench.workers import default_processes, run_all
from openlum.errors import InputError


def where(number: int) -> tuple[int, int, int]:
    """The number, in which process, and with how many threads."""
    print("from a task")
    return number, os.getpid(), torch.get_num_threads()


def leave(number: int, directory: Path) -> None:
    """A file; the first fails once there is another."""
    while number == 0:
        if any(directory.iterdir()):
            raise InputError("the first one fails")
        time.sleep(0.01)
    (directory / str(number)).touch()
    time.sleep(1)


@pytest.mark.parametrize(("tasks", "processes"), [([3, 1, 2], 1), ([5], 4), ([], 4)])
def test_one_process_or_one_task_is_here_and_in_order(
    tasks: list[int], processes: int, capfd: pytest.CaptureFixture[str]
) -> None:
    done = list(run_all(where, tasks, processes))
    assert done == [(task, (task, os.getpid(), torch.get_num_threads())) for task in tasks]
    assert capfd.readouterr().out == "from a task\n" * len(tasks)


def test_processes_of_their_own_share_the_cores_and_print_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    done = dict(run_all(where, [1, 2, 3], processes=2))
    assert {task: number for task, (number, *_) in done.items()} == {1: 1, 2: 2, 3: 3}
    assert os.getpid() not in {process for _, process, _ in done.values()}
    assert {threads for *_, threads in done.values()} == {1}
    assert capfd.readouterr().out == ""


def test_after_a_failure_nothing_more_is_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second, which was under way, is finished."""
    with pytest.raises(InputError, match="the first one fails"):
        list(run_all(partial(leave, directory=tmp_path), range(20), processes=2))
    assert [file.name for file in tmp_path.iterdir()] == ["1"]
    assert "the first one fails" in capsys.readouterr().err


def test_a_process_that_ends_says_what_to_do() -> None:
    """As the system ends one where memory runs out."""
    with pytest.raises(InputError, match="use fewer --processes"):
        list(run_all(os._exit, [1, 2, 3], processes=2))


def test_trainings_have_a_gpu_to_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert default_processes() == os.cpu_count()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert default_processes() == 1


BENCHMARK = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from openlum.bench.workers import begin_worker

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), begin_worker, (1,))
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    time.sleep(600)
"""


def test_a_killed_benchmark_leaves_no_training_behind(tmp_path: Path) -> None:
    """The worker has the benchmark's standard output, which ends when the last of them does."""
    script = tmp_path / "benchmark.py"
    script.write_text(BENCHMARK)
    benchmark = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert benchmark.stdout is not None
    assert int(benchmark.stdout.readline()) != benchmark.pid
    benchmark.kill()
    benchmark.communicate(timeout=60)
