"""The notebook of the docs runs, and prints what it shows."""

import re
from pathlib import Path

import nbformat

from tests.notebook import NOTEBOOK, executed, printed


def test_notebook_runs_and_knowledge_adds_to_lightgbm(tmp_path: Path) -> None:
    shown = nbformat.read(NOTEBOOK, as_version=4)
    done = executed(tmp_path)
    plain, informed = (float(number) for number in re.findall(r"AUC with\w* knowledge: +(0\.\d+)", str(done)))
    assert informed > plain + 0.05
    old, new = printed(shown), printed(done)
    assert len(new) == len(old)
    for text, other in zip(new, old, strict=True):
        assert text.replace(str(tmp_path), "") == other.replace("/home/me/shop", "")
