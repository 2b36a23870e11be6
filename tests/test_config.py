"""Settings: every shipped file loads, and the error for a wrong key names the most similar key."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from openlum.cli import app
from openlum.config import Settings, load_settings, parse_settings, with_overrides
from openlum.errors import InputError
from openlum.pipeline.experiment import Experiment, step_settings
from openlum.pretrain.settings import PretrainSettings
from openlum.rank.settings import RankSettings, TreeSettings
from openlum.retrieve.settings import SequentialSettings
from openlum.yaml_file import Document, dump_yaml

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
        and not line.endswith(":")  # a section: its keys have the comments
        and "{" not in line  # a question: its section has the comment
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
        ("pretrain: {protocol: time}", "'time' trains on the events that 'retrieve' holds out"),
        ("data: {}", "exactly one of"),
        ("pretrain: [1", "not valid YAML"),
        ("model: 5", r"key 'model': expected keys and values .found 5. .line 3."),
        ("model:", "key 'model': expected keys and values, found nothing"),
        ("rank: {rankers: dnn}", r"key 'rank\.rankers': expected a list, \[a, b\] .found 'dnn'."),
        ("retrieve: {at: [10, 0, -1, -2, -3, -4, -5, -6]}", "and 2 more$"),
        ("model: {width: 60.5}", "fractional part"),
        (
            "query:\n  predict_feedback: yes\n  predict_feedback: no",
            r"key 'query\.predict_feedback': occurs twice, first in line 4; .*line 5",
        ),
        ("data: {schema_file: 5}", r"key 'data\.schema_file': expected text; put it in quotes .found 5."),
    ],
)
def test_a_wrong_experiment_is_explained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_settings(experiment(tmp_path, text), Experiment)
    assert "experiment.yaml" in str(caught.value)


def test_every_notation_of_a_number_is_read(tmp_path: Path) -> None:
    text = "pretrain: {learning_rate: 1e-3, batch_events: 1e3, epochs: 1_000, warmup: .05, negatives: '64'}"
    settings = load_settings(experiment(tmp_path, text), Experiment).pretrain
    assert (settings.learning_rate, settings.batch_events, settings.epochs) == (1e-3, 1000, 1000)
    assert (settings.warmup, settings.negatives) == (0.05, 64)


@pytest.mark.parametrize(
    "value",
    [math.inf, -math.inf, math.nan, "nan", "inf", 10**400, 10**5000, True],
    ids=lambda value: type(value).__name__,  # the digits would be too long
)
@pytest.mark.parametrize("kind", [PretrainSettings, RankSettings, TreeSettings, SequentialSettings])
def test_a_numeric_setting_is_neither_infinite_nor_true(kind: type[Settings], value: object) -> None:
    with pytest.raises(InputError, match=r"python: key 'learning_rate': "):
        parse_settings({"learning_rate": value}, kind, where="python")


def test_an_experiment_that_is_not_a_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(InputError, match="expected a mapping"):
        load_settings(tmp_path / "list.yaml", Experiment)


def test_a_missing_experiment_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_settings(tmp_path / "none.yaml", Experiment)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pretrain.epoch=3", r"unknown key 'pretrain\.epoch'; did you mean 'epochs'\? \(--set pretrain\.epoch=3\)"),
        ("pretrian.epochs=3", r"unknown key 'pretrian'; did you mean 'pretrain'\?"),
        ("pretrain.epochs=many", r"key 'pretrain\.epochs': .*found 'many'\) \(--set pretrain\.epochs=many\)"),
        ("pretrain.epochs=", "--set pretrain.epochs=: is empty; expected a value, such as null"),
        ("pretrain.epochs", "--set pretrain.epochs: expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("pretrain..epochs=3", "expected KEY=VALUE"),
        ("rank.rankers=[din", "--set rank.rankers=.*: not valid YAML"),
        ("rank.rankers.first=din", "key 'rank.rankers' has no keys in it; set its whole value instead"),
        ("rank.rankers=[din, dcn]", r"unknown ranker 'dcn'; did you mean 'dcnv2'\?"),
    ],
)
def test_a_wrong_override_is_explained(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_settings(experiment(tmp_path, "rank: {rankers: [dnn]}"), Experiment, [override])


def test_overrides_replace_values_of_the_file(tmp_path: Path) -> None:
    file = experiment(tmp_path, "pretrain: {epochs: 2, learning_rate: 1e-3}\nretrieve: null\n")
    overrides = [
        "pretrain.epochs=7",
        "pretrain.epochs=3",
        "retrieve.at=[5]",
        "query.questions={click: {feedback: click}}",
        "rank=null",
        "model.width = 128",
        "example={}",
    ]
    settings = load_settings(file, Experiment, overrides)
    assert (settings.pretrain.epochs, settings.pretrain.learning_rate) == (3, 1e-3)
    assert settings.retrieve is not None
    assert settings.retrieve.at == [5]
    assert settings.query is not None
    assert settings.query.questions == {"click": {"feedback": "click"}}
    assert settings.rank is None
    assert settings.model.width == 128


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-9, 9)
        | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
        lambda x: st.lists(x, max_size=3),
    )
)
def test_an_override_has_the_value_of_the_same_yaml_in_a_file(value: Any) -> None:
    text = dump_yaml(value, default_flow_style=True, width=10**6)
    overridden = with_overrides(Document({"a": {"b": 1, "c": 2}}, {}), [f"a.b={text}"])
    assert overridden.content == {"a": {"b": value, "c": 2}}


def test_a_file_with_one_section_has_the_settings_of_one_step(tmp_path: Path) -> None:
    file = tmp_path / "pretrain.yaml"
    file.write_text("pretrain: {epochs: 3, protocol: last}\n")
    assert step_settings(file, "pretrain", PretrainSettings).epochs == 3
    assert step_settings(file, "pretrain", PretrainSettings, ["pretrain.epochs=4"]).epochs == 4
    assert step_settings(None, "pretrain", PretrainSettings, ["pretrain.epochs=4"]).epochs == 4
    assert step_settings(file, "rank", RankSettings) == RankSettings()
    file.write_text("pretrain: {epochs: 3}\nranks: {}\n")
    with pytest.raises(InputError, match=r"unknown key 'ranks'; did you mean 'rank'\? \(line 2\)"):
        step_settings(file, "pretrain", PretrainSettings)


def test_a_whole_experiment_file_is_checked_as_a_whole_for_a_single_step(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'last' trains on the test period"):
        step_settings(experiment(tmp_path, "pretrain: {protocol: last}"), "pretrain", PretrainSettings)


@pytest.mark.parametrize("command", ["pretrain", "query", "rank", "retrieve"])
def test_every_step_takes_overrides(command: str, tmp_path: Path) -> None:
    arguments = (
        {"-d": "dataset", "-m": "model", "-o": "out"} if command in ("query", "retrieve") else {"-d": "d", "-o": "o"}
    )
    words = [word for pair in arguments.items() for word in pair]
    done = CliRunner().invoke(app, [command, *words, "--set", f"{command}.colour=red"])
    assert isinstance(done.exception, InputError)
    assert f"unknown key '{command}.colour'" in str(done.exception)
    assert f"(--set {command}.colour=red)" in str(done.exception)
    done = CliRunner().invoke(app, [command, *words])
    assert "no such" in str(done.exception), "without overrides, the missing dataset is the mistake"


def test_a_planned_key_is_auto_until_it_is_planned() -> None:
    settings = PretrainSettings(epochs=3)
    content = settings.model_dump()
    assert (content["epochs"], content["batch_events"], content["weight_decay"]) == (3, "auto", 0.01)
    assert "batch_events='auto'" in repr(settings)
    assert parse_settings(content, PretrainSettings, "python") == settings
    assert parse_settings(content, PretrainSettings, "python").is_auto("batch_events")
    planned = settings.with_plan({"epochs": 9, "batch_events": 64})
    assert (planned.epochs, planned.batch_events) == (3, 64)
    assert "auto" not in planned.model_dump().values()
    assert planned.with_plan({"batch_events": 128}) == planned


def test_auto_is_written_like_a_number(tmp_path: Path) -> None:
    file = experiment(tmp_path, "pretrain: {epochs: auto, batch_events: 64}")
    settings = load_settings(file, Experiment).pretrain
    assert settings.is_auto("epochs")
    assert not settings.is_auto("batch_events")
    assert load_settings(file, Experiment, ["pretrain.batch_events=auto"]).pretrain.is_auto("batch_events")


@pytest.mark.parametrize("key", ["weight_decay", "seed"])
def test_only_planned_keys_may_be_auto(key: str) -> None:
    with pytest.raises(InputError, match=f"key '{key}': "):
        parse_settings({key: "auto"}, PretrainSettings, "python")
