"""Locks: only one process at a time writes a path, and a dead process holds no lock."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from openlum.artefact import lock
from openlum.artefact.directory import whole_directory
from openlum.artefact.lock import locked
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.model import ModelSettings
from openlum.prepare.run import append
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import pretrain

HOLD = """
import sys
from openlum.artefact.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold the lock of a path until the block ends, or until the process is killed."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.communicate()


def fail() -> None:
    pytest.fail("must not get here")


def test_the_message_of_a_locked_path_names_the_process(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / "out") as other:
        with (
            pytest.raises(InputError, match=f"out: process {other.pid} has been writing it since 20"),
            locked(tmp_path / "out"),
        ):
            fail()
        with pytest.raises(InputError, match="has been writing it"), whole_directory(tmp_path / "out", "model"):
            fail()
        with locked(tmp_path / "other"):
            pass
    with locked(tmp_path / "out"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    """Also if another process, for example this one, has got its number since."""
    file = tmp_path / ".out.lock"
    with held_elsewhere(tmp_path / "out") as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert json.loads(file.read_text())["pid"] == other.pid
    for pid in (other.pid, os.getpid()):
        file.write_text(json.dumps({"host": socket.gethostname(), "pid": pid, "time": "then"}))
        with locked(tmp_path / "out"):
            assert json.loads(file.read_text())["pid"] == os.getpid()
    for damage in ("", "{", "[]", "\x00"):
        file.write_text(damage)
        with locked(tmp_path / "out"):
            pass


def test_a_lock_of_another_host_is_kept_and_the_message_says_how_to_remove_it(tmp_path: Path) -> None:
    file = tmp_path / ".out.lock"
    file.write_text(json.dumps({"host": "far", "pid": 1, "time": "then"}))
    with pytest.raises(InputError, match=f"process 1 on host far .* remove {file}"), locked(tmp_path / "out"):
        fail()
    file.unlink()
    with locked(tmp_path / "out"):
        pass


def test_without_file_system_locks_a_path_is_locked_while_its_process_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(next(iter(lock.UNSUPPORTED)), "no locks here")

    monkeypatch.setattr("fcntl.flock", unsupported)
    file = tmp_path / ".out.lock"
    file.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getppid(), "time": "then"}))
    with pytest.raises(InputError, match=f"process {os.getppid()} has been writing"), locked(tmp_path / "out"):
        fail()
    file.write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1, "time": "then"}))  # beyond any
    with locked(tmp_path / "out"):
        pass


def test_the_holder_may_lock_again_and_another_thread_may_not(tmp_path: Path) -> None:
    outcomes = []

    def from_another_thread() -> None:
        try:
            with locked(tmp_path / "out"):
                outcomes.append("locked")
        except InputError as error:
            outcomes.append(str(error))

    with locked(tmp_path / "out"), locked(tmp_path / "x" / ".." / "out"), whole_directory(tmp_path / "out", "model"):
        thread = threading.Thread(target=from_another_thread)
        thread.start()
        thread.join()
    assert f"process {os.getpid()} has been writing it" in outcomes[0]


def test_several_processes_never_write_at_once(tmp_path: Path) -> None:
    """Each process that gets the lock adds one to a number, slowly. The lock file appears and disappears meanwhile."""
    code = """
import sys, time
from pathlib import Path
from openlum.errors import InputError
from openlum.artefact.lock import locked
number, done = Path(sys.argv[1]), 0
while done < 20:
    try:
        with locked(number):
            n = int(number.read_text())
            time.sleep(0.001)
            number.write_text(str(n + 1))
            done += 1
    except InputError:
        time.sleep(0.0005)
"""
    number = tmp_path / "number"
    number.write_text("0")
    workers = [subprocess.Popen([sys.executable, "-c", code, str(number)]) for _ in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert number.read_text() == "60"


def test_steps_refuse_to_write_an_artefact_that_another_process_writes(small_dataset: Dataset, tmp_path: Path) -> None:
    """An append stops before it reads, and a training before it begins."""
    with (
        held_elsewhere(small_dataset.path),
        pytest.raises(InputError, match=r"dataset: process .* has been writing it"),
    ):
        append(small_dataset.path, tmp_path / "none.parquet")
    with held_elsewhere(tmp_path / "model"), pytest.raises(InputError, match=r"model: process .* has been writing it"):
        pretrain(small_dataset.path, tmp_path / "model", ModelSettings(), PretrainSettings())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "message"), [("/", "is the root of the file system"), ("/dev/null/ds", "/dev/null is a file")]
)
def test_a_path_that_cannot_be_written_is_named(path: str, message: str) -> None:
    with pytest.raises(InputError, match=message), locked(path):
        pass
