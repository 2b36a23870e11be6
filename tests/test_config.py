"""Settings: every shipped file loads, and a wrong key is named with what it might have been."""

from pathlib import Path

import pytest

from openlum.config import load_settings
from openlum.errors import InputError
from openlum.run import Experiment

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_loads(path: Path) -> None:
    assert load_settings(path, Experiment).name == path.stem


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_key_of_a_shipped_config_has_a_comment(path: Path) -> None:
    lines = path.read_text().splitlines()
    bare = [
        line
        for line in lines
        if ":" in line.split("#")[0]
        and "#" not in line
        and not line.endswith(":")  # a section, which its keys explain
        and "{" not in line  # a question, which its section explains
    ]
    assert not bare


def experiment(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text("name: x\n" + ("" if text.startswith("data:") else "data: {public: ml-1m}\n") + text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pretrian: {}", "unknown key 'pretrian'; did you mean 'pretrain'?"),
        ("pretrain: {epoch: 3}", r"unknown key 'pretrain\.epoch'; did you mean 'epochs'?"),
        ("rank: {seed: [1]}", r"unknown key 'rank\.seed'; did you mean 'seeds'?"),
        ("model: {width: wide}", r"key 'model\.width': .*integer.*found 'wide'"),
        ("model: {width: 60, heads: 8}", "width .60. must be a multiple of twice heads"),
        ("rank: {sequence: {width: 60, heads: 8}}", "width .60. must be a multiple of twice heads"),
        ("rank: {seeds: [0, -1]}", "greater than or equal to 0"),
        ("rank: {seeds: [4294967296]}", "less than 4294967296"),
        ("query: {questions: {a b: {}}}", "question name 'a b'"),
        ("pretrain: {protocol: last}", "'last' trains on the test period"),
        ("pretrain: {protocol: time}", "'time' trains on what 'retrieve' holds out"),
        ("data: {}", "exactly one of"),
        ("pretrain: [1", "not valid YAML"),
    ],
)
def test_a_wrong_experiment_is_explained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_settings(experiment(tmp_path, text), Experiment)
    assert "experiment.yaml" in str(caught.value)


def test_an_experiment_that_is_no_mapping(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(InputError, match="expected a mapping"):
        load_settings(tmp_path / "list.yaml", Experiment)


def test_a_missing_experiment(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_settings(tmp_path / "none.yaml", Experiment)
