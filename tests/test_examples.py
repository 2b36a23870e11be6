"""The examples run, and show what the docs say of them."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

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
    plain, informed = (
        re.search(rf"^{re.escape(name)} +(0\.\d{{4}}) ± 0\.\d{{4}}$", done.stdout, re.MULTILINE)
        for name in ("DLRM", "DLRM + knowledge")
    )
    gain = re.search(r"^knowledge adds +([+-]0\.\d{4})$", done.stdout, re.MULTILINE)
    assert plain
    assert informed
    assert gain
    assert 0.4 < float(plain[1]) < 1
    assert float(gain[1]) == pytest.approx(float(informed[1]) - float(plain[1]), abs=2e-4)


def test_without_knowledge_it_has_no_influence(module: ModuleType) -> None:
    torch.set_num_threads(1)

    def rows(knowledge: int) -> dict[str, object]:
        """Rows of every split, random, the knowledge by a seed of its own."""
        plain, known = (torch.Generator().manual_seed(seed) for seed in (0, knowledge))
        return {
            split: module.Rows(
                label=torch.randint(2, (400,), generator=plain).float(),
                ids=torch.randint(9, (400, 3), generator=plain),
                numbers=torch.randn(400, 1, generator=plain),
                answers=torch.randn(400, 2, 8, generator=known),
                target=torch.randn(400, 8, generator=known),
                similarity=torch.randn(400, 2, generator=known),
            )
            for split in ("train", "valid", "test")
        }

    without, informed = (
        [module.train(rows(knowledge), with_knowledge, seed=0, epochs=2) for knowledge in (1, 2)]
        for with_knowledge in (False, True)
    )
    assert without[0] == without[1]
    assert informed[0] != informed[1]


@pytest.mark.parametrize(
    ("argument", "status", "message"),
    [
        ("none", 2, "none: has no dataset/impressions; 'lum run configs/market.yaml' writes runs/market\n"),
        ("--help", 0, "directory of 'lum run', such as runs/market"),
    ],
)
def test_what_it_says_without_a_run(
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
    said = capsys.readouterr()
    assert ended.value.code == status
    assert message in (said.err if status else said.out)
    assert said.err.count("\n") == (1 if status else 0)


def test_the_docs_show_the_two_lines_and_there_are_no_others() -> None:
    source = OWN_RANKER.read_text()
    marked = [line.split("  # <--")[0].strip() for line in source.splitlines() if "# <--" in line]
    page = (ROOT / "docs" / "how-to" / "own-ranker.md").read_text()
    shown = re.findall(r"^\+ +(.*)$", page, re.MULTILINE)
    assert shown == marked
    assert len(marked) == 2
    assert re.findall(r"^(?:from|import) openlum.*$", source, re.MULTILINE) == [
        "from openlum.rank.features import KnowledgeFeatures"
    ]
