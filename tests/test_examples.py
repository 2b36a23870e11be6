"""The examples run and print what the docs show."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
OWN_RANKER = ROOT / "examples" / "own_ranker.py"


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("own_ranker", OWN_RANKER)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_own_ranker_prints_both_aucs_and_the_gain(tiny_run: Path) -> None:
    command = [sys.executable, str(OWN_RANKER), "runs/tiny", "--seeds", "2", "--epochs", "2"]
    done = subprocess.run(command, cwd=tiny_run, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    plain, with_knowledge = (
        re.search(rf"^{re.escape(name)} +(0\.\d{{4}}) ± 0\.\d{{4}}$", done.stdout, re.MULTILINE)
        for name in ("DLRM", "DLRM + knowledge")
    )
    gain = re.search(r"^knowledge adds +([+-]0\.\d{4})$", done.stdout, re.MULTILINE)
    assert plain
    assert with_knowledge
    assert gain
    assert 0.4 < float(plain[1]) < 1
    assert float(gain[1]) == pytest.approx(float(with_knowledge[1]) - float(plain[1]), abs=2e-4)


def test_the_plain_ranker_does_not_depend_on_knowledge(module: ModuleType) -> None:
    torch.set_num_threads(1)

    def random_splits(knowledge_seed: int) -> dict[str, object]:
        """Return random rows of every split; the knowledge has a seed of its own."""
        plain, knowledge = (torch.Generator().manual_seed(seed) for seed in (0, knowledge_seed))
        return {
            split: module.SplitTensors(
                label=torch.randint(2, (400,), generator=plain).float(),
                ids=torch.randint(9, (400, 3), generator=plain),
                numbers=torch.randn(400, 1, generator=plain),
                answers=torch.randn(400, 2, 8, generator=knowledge),
                target=torch.randn(400, 8, generator=knowledge),
                similarity=torch.randn(400, 2, generator=knowledge),
            )
            for split in ("train", "valid", "test")
        }

    plain, with_knowledge = (
        [module.train(random_splits(knowledge_seed), use_knowledge, seed=0, epochs=2) for knowledge_seed in (1, 2)]
        for use_knowledge in (False, True)
    )
    assert plain[0] == plain[1]
    assert with_knowledge[0] != with_knowledge[1]


@pytest.mark.parametrize(
    ("argument", "status", "message"),
    [
        ("none", 2, "none: has no dataset/impressions; 'lum run configs/market.yaml' writes runs/market\n"),
        ("--help", 0, "directory of 'lum run', such as runs/market"),
    ],
)
def test_messages_without_a_run(
    module: ModuleType,
    argument: str,
    status: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["own_ranker.py", argument])
    with pytest.raises(SystemExit) as ended:
        module.main()
    output = capsys.readouterr()
    assert ended.value.code == status
    assert message in (output.err if status else output.out)
    assert output.err.count("\n") == (1 if status else 0)


def test_the_docs_show_the_only_two_lines_that_use_openlum() -> None:
    source = OWN_RANKER.read_text()
    marked = [line.split("  # <--")[0].strip() for line in source.splitlines() if "# <--" in line]
    page = (ROOT / "docs" / "how-to" / "own-ranker.md").read_text()
    assert re.findall(r"^\+ +(.*)$", page, re.MULTILINE) == marked
    assert len(marked) == 2
    assert re.findall(r"^(?:from|import) openlum.*$", source, re.MULTILINE) == [
        "from openlum.rank.features import KnowledgeFeatures"
    ]


def test_lum_rank_trains_the_ranker_of_another_package(tiny_run: Path, tmp_path: Path) -> None:
    """The package is on the path with the metadata that pip would write."""
    package = ROOT / "examples" / "ranker_package"
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    metadata = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    (metadata / "entry_points.txt").write_text(
        "\n".join(
            line
            for group, entries in project["entry-points"].items()
            for line in [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
        )
    )
    (tmp_path / "rank.yaml").write_text(
        "rank: {rankers: [dnn, fm], seeds: [0], max_epochs: 1, knowledge: {fusion: early}, options: {fm: {width: 4}}}\n"
    )
    path = os.pathsep.join([str(package), str(tmp_path), *filter(None, sys.path)])
    run = str(tiny_run / "runs/tiny")
    arguments = ["rank", "-d", f"{run}/dataset", "-k", f"{run}/knowledge", "-o", "ranker", "-c", "rank.yaml"]
    done = subprocess.run(
        [sys.executable, "-c", "from openlum.cli import main; main()", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ranking = json.loads((tmp_path / "ranker" / "metrics.json").read_text())["ranking"]
    assert set(ranking) == {"dnn", "dnn+knowledge", "fm", "fm+knowledge"}
    weights = load_file(tmp_path / "ranker" / "fm-seed0.safetensors")
    assert len(weights["factors.weight"]) == 4
