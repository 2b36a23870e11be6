"""The notebook of the docs runs, and prints what it shows."""

import re
from pathlib import Path

import nbformat

from tests.notebook import NOTEBOOK, executed, printed


def test_notebook_runs_and_knowledge_adds_to_lightgbm(tmp_path: Path) -> None:
    done = executed(tmp_path)
    outputs = "\n".join(str(cell.get("outputs")) for cell in done.cells)
    without, informed = (float(number) for number in re.findall(r"AUC with\w* knowledge: +(0\.\d+)", outputs))
    assert informed > without + 0.05
    assert printed(done) == printed(nbformat.read(NOTEBOOK, as_version=4))
