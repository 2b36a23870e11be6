"""The wheel that users install is complete: `lum` runs from it without the checkout."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.tiny import CONFIG

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    """Return the output of a command that runs without this checkout on its path."""
    path = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, env=path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tracked files alone."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: the wheel is built from its tracked files")
    directory = tmp_path_factory.mktemp("wheel")
    (directory / "source").mkdir()
    archive = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in archive.decode().split("\0"):
        if name and (ROOT / name).is_file():
            target = directory / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(directory)]
    done = subprocess.run([*pip, str(directory / "source")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(directory.glob("openlum-*.whl"))


@pytest.fixture(scope="module")
def lum(wheel: Path) -> Path:
    """`lum` in an environment with the wheel and with the libraries of this environment."""
    directory = wheel.parent / "environment"
    venv.create(directory, with_pip=False)
    python = directory / "bin/python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel],
        check=True,
        capture_output=True,
    )
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=directory).strip())
    # Python does not read .pth files of a directory that a .pth file adds. So the editable install of this checkout is not found.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    assert str(site) in run(python, "-c", "import openlum; print(openlum.__file__)", cwd=directory)
    return directory / "bin/lum"


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    content = set(zipfile.ZipFile(wheel).namelist())
    assert [name for name in tracked.split() if name.removeprefix("src/") not in content] == []


def test_the_wheel_prints_its_help(lum: Path, tmp_path: Path) -> None:
    assert "lum run configs/market.yaml" in run(lum, "--help", cwd=tmp_path)


def test_the_wheel_runs_a_tiny_experiment(lum: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(CONFIG.replace("seeds: [0, 1]", "seeds: [0], rankers: [dnn]"))
    printed = run(lum, "run", "tiny.yaml", cwd=tmp_path)
    assert "dnn+knowledge" in printed
    assert (tmp_path / "runs/tiny/report.html").stat().st_size > 10_000
