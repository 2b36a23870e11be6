"""A process is killed while it replaces an artefact: readers and the next writer still work."""

import subprocess
import sys
from pathlib import Path

import pytest

from openlum.artefact import directory as artefact
from openlum.artefact.directory import check_parts, whole_directory
from openlum.artefact.manifest import MANIFEST
from openlum.artefact.verify import verify

REPLACE = """
import os, sys
from pathlib import Path
from openlum.artefact import directory as artefact

out, swap, last = Path(sys.argv[1]), sys.argv[2] == "at once", int(sys.argv[3])
calls = 0

def dying(call):
    def die(*arguments, **options):
        global calls
        calls += 1
        if calls > last:
            os._exit(9)
        return call(*arguments, **options)
    return die

artefact.os.replace = dying(os.replace)
artefact.shutil.rmtree = dying(artefact.shutil.rmtree)
artefact._exchange = dying(artefact._exchange) if swap else lambda *_: False
with artefact.whole_directory(out, "model") as draft:
    (draft / "a").write_text("new")
"""


def write(out: Path, text: str) -> None:
    with whole_directory(out, "model") as draft:
        (draft / "a").write_text(text)


def replace_and_die(out: Path, how: str, last: int) -> int:
    """Replace an artefact in a process that ends instead of its call number `last` + 1 of a function that moves or removes."""
    command = [sys.executable, "-c", REPLACE, str(out), how, str(last)]
    return subprocess.run(command, timeout=60, check=False).returncode


@pytest.mark.parametrize("how", ["at once", "in two steps"])
def test_death_at_any_point_leaves_the_old_or_the_new_artefact_complete(tmp_path: Path, how: str) -> None:
    """A reader can read it, and the next writer removes the remains."""
    contents = set()
    for last in range(20):
        out = tmp_path / str(last) / "out"
        write(out, "old")
        status = replace_and_die(out, how, last)
        assert check_parts(out, "model") is not None
        assert verify(out) == 1
        contents.add((out / "a").read_text())
        write(out, "newer")
        assert (out / "a").read_text() == "newer"
        assert [path.name for path in out.parent.iterdir()] == ["out"]
        if status == 0:
            break
        assert status == 9
    else:
        pytest.fail("the process never finished")
    assert last > 3
    assert contents == {"old", "new"}


def test_only_the_draft_of_the_same_artefact_is_removed(tmp_path: Path) -> None:
    for name in (".out.draft", ".out", ".output.draft", "out.draft", ".out.more.draft"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("x")
    write(tmp_path / "out", "new")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"out", ".out", ".output.draft", "out.draft", ".out.more.draft"}


def test_two_renames_replace_an_artefact_if_the_system_cannot_swap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artefact, "_exchange", lambda *_: False)
    for text in ("old", "new"):
        write(tmp_path / "out", text)
    assert (tmp_path / "out/a").read_text() == "new"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a", MANIFEST}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
