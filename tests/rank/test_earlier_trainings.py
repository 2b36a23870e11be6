"""Rankers without knowledge are trained once, as long as nothing that they depend on changes."""

from pathlib import Path
from typing import Any

import pytest

from openlum.data.dataset import Dataset
from openlum.rank import run
from openlum.rank.settings import RankSettings


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the rankers that are trained."""
    names: list[str] = []
    fit = run.fit

    def recorded_fit(config: Any, *arguments: Any) -> Any:
        names.append(config.architecture)
        return fit(config, *arguments)

    monkeypatch.setattr(run, "fit", recorded_fit)
    return names


def test_a_training_is_reused_until_its_settings_or_its_weights_change(
    dataset: Dataset, settings: RankSettings, tmp_path: Path, trained: list[str]
) -> None:
    pytest.importorskip("lightgbm")
    short = settings.model_copy(update={"rankers": ["dnn", "lightgbm"], "seeds": [0], "max_epochs": 1})
    out = tmp_path / "ranker"
    summary = run.rank(dataset.path, None, out, short)
    files = {file.name: file.read_bytes() for file in out.glob("*.safetensors")}
    assert trained == ["dnn", "lightgbm"]

    assert run.rank(dataset.path, None, out, short) == summary
    assert {file.name: file.read_bytes() for file in out.glob("*.safetensors")} == files
    assert trained == ["dnn", "lightgbm"]

    weights = out / "dnn-seed0.safetensors"
    weights.write_bytes(files[weights.name][:-1] + b"?")
    assert run.rank(dataset.path, None, out, short)["ranking"].keys() == summary["ranking"].keys()
    assert trained[2:] == ["dnn"]

    run.rank(dataset.path, None, out, short.model_copy(update={"learning_rate": 1e-3, "seeds": [0, 1]}))
    assert trained[3:] == ["dnn", "dnn", "lightgbm", "lightgbm"]
