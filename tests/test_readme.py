"""The README's Python runs, and its commands exist."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from openlum.bench.command import bench
from openlum.bench.settings import Bench
from openlum.cli import app
from openlum.config import load_settings
from openlum.data.dataset import Dataset
from openlum.data.market import MarketSettings, write_market
from openlum.data.prepare import prepare
from openlum.model import ModelSettings
from openlum.pretrain.train import build_model
from openlum.rank.metrics import auc
from openlum.run import Experiment
from openlum.schema import Schema

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


RECOMMEND, FUSE = blocks("python")


def test_recommending_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a model of the market, where `make demo` leaves it."""
    schema = write_market(MarketSettings(users=40, items=100, sessions=3), tmp_path / "log")
    prepare(schema, tmp_path / "dataset")
    model = build_model(Dataset(tmp_path / "dataset"), ModelSettings(width=16, heads=2, embedding_width=16), seed=0)
    model.save_pretrained(tmp_path / "runs/market/model")
    monkeypatch.chdir(tmp_path)
    lines = RECOMMEND.strip().splitlines()
    scope: dict[str, object] = {}
    exec("\n".join([*lines[:-1], f"result = {lines[-1]}"]), scope)
    result = scope["result"]
    assert isinstance(result, list)
    assert len(result) == 5
    assert set(result[0]) == {"item", "title", "similarity"}


def test_fusion_in_the_readme_runs() -> None:
    """Half of what decides the label is known to the ranker, the other half to the knowledge."""
    rng = np.random.default_rng(0)
    scope: dict[str, Any] = {}
    for day in ("valid", "test"):
        x = rng.normal(size=(4000, 2))
        scope[f"{day}_label"] = rng.random(4000) < 1 / (1 + np.exp(-x.sum(1)))
        scope[f"{day}_probability"], scope[f"{day}_knowledge"] = 1 / (1 + np.exp(-x[:, 0])), x[:, 1:]
    exec(FUSE, scope)
    label = scope["test_label"]
    assert auc(label, scope["probability"]) > auc(label, scope["test_probability"]) + 0.05


def test_schemas_in_the_readme_load(tmp_path: Path) -> None:
    assert blocks("yaml")
    for block in blocks("yaml"):
        (tmp_path / "schema.yaml").write_text(block)
        kind = Bench if "a benchmark" in block else Experiment if "experiment.yaml" in block else Schema
        load_settings(tmp_path / "schema.yaml", kind)


COMMANDS = re.findall(r"^lum (.*)$", "\n".join(blocks("bash")), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_in_the_readme_have_these_options(command: str) -> None:
    words = command.split()
    verb = words[:2] if words[0] == "bench" else words[:1]
    help_text = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "200"}).output
    for option in [word for word in words if word.startswith("--")]:
        assert option in help_text


def test_every_command_shows_an_example() -> None:
    for command in [*app.registered_commands, *bench.registered_commands]:
        assert command.callback is not None
        assert "Example" in (command.callback.__doc__ or "")


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", "\n".join(blocks("bash")), re.MULTILINE))
def test_make_targets_in_the_readme_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (Path(__file__).parents[1] / "Makefile").read_text(), re.MULTILINE)
