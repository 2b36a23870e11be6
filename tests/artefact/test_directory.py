"""Artefacts are written completely or not at all, and only an artefact is ever replaced."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openlum.artefact.directory import whole_directory
from openlum.artefact.json_file import fingerprint, read_json, write_json
from openlum.artefact.manifest import FORMAT, MANIFEST, read_manifest
from openlum.cli import app
from openlum.errors import InputError


def test_an_artefact_appears_when_it_is_complete(tmp_path: Path) -> None:
    with whole_directory(tmp_path / "out", "model") as draft:
        (draft / "a").write_text("1")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out/a").read_text() == "1"


def test_a_failure_leaves_the_former_artefact(tmp_path: Path) -> None:
    with whole_directory(tmp_path / "out", "model") as draft:
        (draft / "a").write_text("old")

    def fail() -> None:
        with whole_directory(tmp_path / "out", "model") as draft:
            (draft / "a").write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (tmp_path / "out/a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_artefact_is_replaced(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with whole_directory(tmp_path / "out", "model") as draft:
            (draft / "a").write_text(text)
    assert (tmp_path / "out/a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_directory_of_the_user_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_text("cat")
    with pytest.raises(InputError, match="lum did not write"), whole_directory(tmp_path / "photos", "model"):
        pytest.fail("must not get here")
    assert (tmp_path / "photos/cat.jpg").read_text() == "cat"


def test_fingerprints_do_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_json_is_strict(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(InputError, match=r"b\.json.*lum prepare"):
        read_json(tmp_path / "b.json", "lum prepare")


def test_an_artefact_of_another_kind_is_not_replaced(tmp_path: Path) -> None:
    """For example the model whose knowledge a ranker uses."""
    for _ in range(2):
        with whole_directory(tmp_path / "out", "model"):
            pass
    refused = pytest.raises(InputError, match=r"out: is a model and cannot be replaced by a ranker")
    with refused, whole_directory(tmp_path / "out", "ranker"):
        pass


def test_a_directory_with_the_manifest_of_another_program_is_never_replaced(tmp_path: Path) -> None:
    write_json(tmp_path / "site" / MANIFEST, {"name": "a web page", "icons": []})
    with (
        pytest.raises(InputError, match=r"manifest\.json.*otherwise name another"),
        whole_directory(tmp_path / "site", "model"),
    ):
        pytest.fail("must not get here")
    assert [path.name for path in (tmp_path / "site").iterdir()] == [MANIFEST]


def test_a_manifest_has_kind_format_and_the_size_and_checksum_of_every_part(tmp_path: Path) -> None:
    with whole_directory(tmp_path / "out", "model") as draft:
        (draft / "deep").mkdir()
        (draft / "deep" / "a").write_text("abc")
        (draft / ".scratch").mkdir()
        (draft / ".scratch" / "b").write_text("not a part")
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert (manifest.kind, manifest.format, manifest.key) == ("model", FORMAT, None)
    ((name, part),) = manifest.parts.items()
    assert (name, part.bytes) == ("deep/a", 3)
    assert part.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_verify_reads_all_artefacts_of_a_directory_and_names_the_files_that_differ(tmp_path: Path) -> None:
    for name in ("one", "other"):
        with whole_directory(tmp_path / "run" / name, "model") as draft:
            (draft / "a").write_text("abc")
            (draft / "b").write_text("abc")
    for directory, files in (("run", 4), ("run/one", 2)):
        done = CliRunner().invoke(app, ["verify", str(tmp_path / directory)])
        assert done.exit_code == 0, done.output
        assert f"verified: {files} files have the content that was written" in done.output
    (tmp_path / "run/one/a").write_text("abd")
    (tmp_path / "run/one/c").write_text("")
    (tmp_path / "run/other/b").unlink()
    error = CliRunner().invoke(app, ["verify", str(tmp_path / "run")]).exception
    assert isinstance(error, InputError)
    lines = str(error).split("; ")
    assert [line.split(": ")[0] for line in lines] == [str(tmp_path / "run" / n) for n in ("one/c", "one/a", "other/b")]
    assert all("'lum pretrain' writes it again" in line for line in lines)
    (tmp_path / "empty").mkdir()
    for name, message in (("none", "no such directory"), ("empty", "has no manifest.json")):
        with pytest.raises(InputError, match=message):
            raise CliRunner().invoke(app, ["verify", str(tmp_path / name)]).exception or AssertionError


FULL = """
import resource, sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from safetensors.numpy import save_file
from openlum.artefact.directory import whole_directory
from openlum.artefact.json_file import write_json
from openlum.cli import main

many = np.random.default_rng(0).random(100_000)
writers = {
    "safetensors": lambda draft: save_file({"a": many}, draft / "a.safetensors"),
    "parquet": lambda draft: pq.write_table(pa.table({"a": many}), draft / "a.parquet"),
    "npz": lambda draft: np.savez(draft / "a.npz", a=many),
    "json": lambda draft: write_json(draft / "a.json", many.tolist()),
    "text": lambda draft: (draft / "a.txt").write_text("a" * 10**6),
}
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # like a full disk, except for the number of the error
for name, write in writers.items():
    try:
        with whole_directory("out", "ranker") as draft:
            write(draft)
    except OSError as error:
        print(name, error.filename, error.strerror)
sys.argv = ["lum", "market", "--users", "500", "--events", "20000", "--out", "made/log"]
main()
"""


def test_a_full_disk_is_an_error_with_the_path_from_every_library(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL], cwd=tmp_path, capture_output=True, text=True, check=False)
    errors = [line.split(" ", 2) for line in done.stdout.splitlines()]
    assert [name for name, *_ in errors] == ["safetensors", "parquet", "npz", "json", "text"]
    assert all(path.startswith(str(tmp_path)) and reason == "File too large" for _, path, reason in errors)
    assert (done.returncode, done.stderr.strip()) == (2, f"lum: {tmp_path / 'made/log'}: File too large")
    assert not list((tmp_path / "made").iterdir())
