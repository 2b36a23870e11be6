"""A tiny experiment, and functions that run it from the command line."""

import subprocess
import sys
from pathlib import Path

CONFIG = """
name: tiny
data:
  market: {users: 120, items: 150, sessions: 6, seed: 3}
model: {width: 16, layers: 1, heads: 2, embedding_width: 16, field_width: 8, max_events: 32}
pretrain: {epochs: 1, batch_events: 512}
query:
  questions: {click: {feedback: click, "*": $row}, skip: {feedback: skip, "*": $row}}
rank: {seeds: [0, 1], max_epochs: 1, history_where: {feedback: [click]}}
retrieve: {at: [10], exclude_seen: false}
example: {anything: {}, home: {scenario: home}}
"""


def lum(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in another process and return the finished process."""
    command = [sys.executable, "-c", "from openlum.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def run_tiny(directory: Path) -> None:
    """Run the experiment in a new directory. It gets `tiny.yaml`, `runs/tiny`, and the output of the command in `printed.txt`."""
    directory.mkdir()
    (directory / "tiny.yaml").write_text(CONFIG)
    done = lum("run", "tiny.yaml", cwd=directory)
    assert done.returncode == 0, done.stderr
    (directory / "printed.txt").write_text(done.stdout)
