"""A step runs again if and only if its code, settings, inputs or output have changed, and it prints the reason."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

import openlum
from openlum.artefact import checksums
from openlum.artefact.checksums import load_checksums, save_checksums
from openlum.artefact.directory import whole_directory
from openlum.artefact.json_file import write_json
from openlum.artefact.keys import ENTRY_MODULES, code_hash, content_hash, rerun_reason, step_key
from openlum.artefact.manifest import MANIFEST, record_key
from openlum.pipeline.run import Pipeline

PACKAGE = Path(openlum.__file__).parent


MODEL = {"pretrain", "query", "rank", "retrieve", "bench ranking", "bench retrieval"}


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("report/run_report.py", "$", "further = 1", set()),
        ("report/dataset_report.py", "$", "further = 1", set()),
        ("pretrain/card.py", "$", "further = 1", set()),
        ("artefact/lock.py", "$", "further = 1", set()),
        ("model/attention.py", "$", "# a comment", set()),
        ("model/attention.py", '"""', '"""More. ', set()),
        ("config.py", '"""A value of a field', '"""Another text of a field', set()),
        ("model/attention.py", "$", "further = 1", MODEL),
        ("rank/rankers/lightgbm.py", "PATIENCE = 50", "PATIENCE = 60", {"rank", "bench ranking"}),
        ("prepare/engines/spark.py", "$", "further = 1", {"prepare"}),  # imported in a function
        ("sources/public/mind.py", "$", "further = 1", set()),  # the log is the simulated one
        ("retrieve/sequential.py", "$", "further = 1", {"bench retrieval"}),
        ("pretrain/objective.py", "$", "further = 1", {"pretrain", "bench retrieval"}),
        ("config.py", "$", "further = 1", set(ENTRY_MODULES)),
    ],
)
def test_a_step_depends_on_the_code_that_it_imports(
    tmp_path: Path, file: str, old: str, new: str, changed: set[str]
) -> None:
    """The package with one file changed; `$` stands for its end."""
    copied = tmp_path / "openlum"
    shutil.copytree(PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    text = (PACKAGE / file).read_text()
    assert old == "$" or old in text
    (copied / file).write_text(f"{text}\n{new}\n" if old == "$" else text.replace(old, new, 1))
    steps = {
        step for step, entry in ENTRY_MODULES.items() if code_hash(tuple(entry), copied) != code_hash(tuple(entry))
    }
    assert steps == changed


def test_every_way_of_importing_a_module_counts(tmp_path: Path) -> None:
    inner = tmp_path / "tool" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "tool" / "__init__.py").write_text("from tool import never\n")
    (inner / "__init__.py").write_text("")
    modules = {
        "begin.py": "def f():\n    if False:\n        from . import one\n    from .two import x\nfrom ..three import y\n",
        "one.py": "import tool.inner.four\n",
        "two.py": "import importlib\nimportlib.import_module('tool.inner.five')\n",
        "four.py": "import json\n",
        "five.py": "",
        "never.py": "",
    }
    for name, text in modules.items():
        (inner / name).write_text(text)
    (tmp_path / "tool" / "three.py").write_text("")

    def code(changed: Path) -> str:
        other = tmp_path / changed.stem / "tool"
        shutil.copytree(tmp_path / "tool", other)
        (other / changed).write_text((other / changed).read_text() + "\nfurther = 1\n")
        return code_hash(("tool.inner.begin",), other)

    plain = code_hash(("tool.inner.begin",), tmp_path / "tool")
    counts = {name: code(Path("inner") / name) != plain for name in modules} | {
        "three.py": code(Path("three.py")) != plain
    }
    assert counts == dict.fromkeys([*modules, "three.py"], True) | {"never.py": False}


def make(out: Path, content: str = "1") -> None:
    with whole_directory(out, "model") as draft:
        (draft / "a").write_text(content)
        (draft / "b").write_text("2")
        (draft / "README.md").write_text("a card")


def test_the_content_of_an_artefact_counts_but_not_its_times_or_pages(tmp_path: Path) -> None:
    make(tmp_path / "one")
    before = content_hash(tmp_path / "one")
    os.utime(tmp_path / "one" / "a")
    (tmp_path / "one" / "README.md").write_text("an edited card")
    (tmp_path / "one" / ".DS_Store").write_text("x")
    record_key(tmp_path / "one", {"code": "1"})
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    assert content_hash(tmp_path / "one") == content_hash(tmp_path / "other") == before
    for name in ("a", "b"):
        (tmp_path / "other" / name).write_text("3")
        assert content_hash(tmp_path / "other") != before
        (tmp_path / "other" / name).unlink()
        assert content_hash(tmp_path / "other") != before


def test_relative_names_of_files_count_but_not_their_directory(tmp_path: Path) -> None:
    hashes = set()
    for top, names in (("x", ["a", "b"]), ("y", ["a", "b"]), ("z", ["b", "a"]), ("z/dt=1", ["a", "b"])):
        files = [tmp_path / top / name for name in names]
        for number, file in enumerate(files):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(str(number))
        hashes.add(content_hash(files))
    assert len(hashes) == 3


def test_a_file_that_has_not_changed_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if another run loads the checksums from a file. A change that keeps size and time is noticed."""
    file, saved = tmp_path / "a", tmp_path / "saved.json"
    file.write_text("1")
    monkeypatch.setattr(checksums, "SETTLED_NS", -1)
    monkeypatch.setattr(checksums, "_cache", {})
    first = content_hash(file)
    save_checksums(saved)
    checksums._cache.clear()
    load_checksums(saved)
    with monkeypatch.context() as unread:
        unread.setattr("builtins.open", lambda *_: pytest.fail("read again"))
        assert content_hash(file) == first
    stat = file.stat()
    file.write_text("2")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert content_hash(file) != first
    for damage in ("", "[]", '{"a": 1}', '{"a": [[1], 2]}', "\x00"):
        saved.write_text(damage)
        load_checksums(saved)


def touch(run: Path) -> None:
    for file in run.rglob("*"):
        os.utime(file)


def swap(run: Path) -> None:
    """Put the output of another run, with its own manifest, in place of the step's output."""
    make(run / "elsewhere", "other")
    record_key(run / "elsewhere", {"code": "1", "settings": "2", "before": "3"})
    shutil.rmtree(run / "after")
    (run / "elsewhere").rename(run / "after")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda run: None, None),
        (touch, None),
        (lambda run: (run / "after" / "README.md").write_text("edited"), None),
        (lambda run: (run / "before" / "a").write_text("other"), "inputs changed: before"),
        (lambda run: (run / "before" / "b").unlink(), "inputs changed: before"),
        (lambda run: (run / "after" / "a").write_text("x"), "output was edited: a"),
        (lambda run: (run / "after" / "a").unlink(), "output was edited: a"),
        (lambda run: (run / "after" / "c.parquet").write_text("x"), "output was edited: c.parquet"),
        (swap, "inputs changed: before, settings changed, code changed"),
        (lambda run: make(run / "after"), "output was written by a single step"),
        (lambda run: shutil.rmtree(run / "after"), ""),
    ],
)
def test_a_step_that_runs_again_prints_the_reason(
    tmp_path: Path, change: Callable[[Path], object], reason: str | None
) -> None:
    runs: list[str] = []
    console = Console(record=True, width=300, file=open(os.devnull, "w"))  # noqa: SIM115

    def work(out: Path) -> None:
        make(out)
        runs.append(out.name)

    def run() -> None:
        pipeline = Pipeline(None, Path("x.yaml"), tmp_path, console)  # type: ignore[arg-type]
        pipeline.step("query", "after", {"before": tmp_path / "before"}, {"width": 1}, work)

    make(tmp_path / "before")
    run()
    run()
    assert runs == ["after"]
    change(tmp_path)
    console.export_text()
    run()
    line = console.export_text()
    assert ("unchanged, skipped" in line) == (reason is None)
    assert len(runs) == 1 + (reason is not None)
    if reason is not None:
        assert line.endswith(f"after ({reason})\n" if reason else "after\n")
    run()
    assert len(runs) == 1 + (reason is not None)


def test_changed_settings_and_code_are_named(tmp_path: Path) -> None:
    make(tmp_path / "out")
    key = step_key("query", {"width": 1}, {})
    record_key(tmp_path / "out", key)
    assert rerun_reason(tmp_path / "out", key) is None
    assert rerun_reason(tmp_path / "out", step_key("query", {"width": 2}, {})) == "settings changed"
    assert rerun_reason(tmp_path / "out", key | {"code": "x"}) == "code changed"
    assert rerun_reason(tmp_path / "out", key | {"model": "x"}) == "inputs changed: model"


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "out" / "a.json", {})
    assert rerun_reason(tmp_path / "out", {}) == f"output has no {MANIFEST}"


def test_relative_and_absolute_paths_of_files_give_the_same_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    mixed = content_hash([Path("a.csv"), tmp_path / "b.csv"])
    assert mixed == content_hash([tmp_path / "a.csv", tmp_path / "b.csv"])
