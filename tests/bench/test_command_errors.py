"""Errors of `lum bench`: mistakes that it refuses before any training, and trainings that fail."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from openlum.bench import pipeline, ranking, retrieval
from openlum.errors import InputError
from tests.bench.tiny import TINY, forbid, lum_bench

pytestmark = pytest.mark.usefixtures("tiny_benchmark")


@pytest.mark.parametrize(
    ("command", "part", "content", "message"),
    [
        ("ranking", "experiment", {"query": {"questions": {"click": {"feedbak": "click"}}}}, "query: question 'click'"),
        (
            "ablation",
            "ablations",
            [{"table": "use", "label": "odd", "query": {"questions": {"q": {"x": 1}}}}],
            "query: question 'q'",
        ),
        (
            "ranking",
            "ranking",
            {"tune": {"dnn": [{}, {"knowledge": {"matching_questions": ["clik"]}}]}},
            "rank.knowledge: the knowledge has no question 'clik'; choose from click, skip, feedback=",
        ),
        (
            "ablation",
            "ablations",
            [
                {
                    "table": "use",
                    "label": "odd",
                    "rank": {"knowledge": {"fusion": "early", "direct_questions": ["clik"]}},
                }
            ],
            "rank.knowledge: the knowledge has no question 'clik'; choose from click, skip",
        ),
        (
            "ablation",
            "ablations",
            [
                {
                    "table": "use",
                    "label": "odd",
                    "query": {"predict_feedback": False},
                    "rank": {"knowledge": {"matching_questions": ["feedback=click"]}},
                }
            ],
            "rank.knowledge: the knowledge has no question 'feedback=click'; choose from click, skip",
        ),
        ("retrieval", "retrieval", {"retrieve": {"questions": {"any": {"x": 1}}}}, "retrieve: question 'any'"),
        (
            "ranking",
            "ranking",
            {"tune": {"dnn": [{"dropout": 0.1}, {"history_where": {"feedback": ["clck"]}}]}},
            "rank.history_where.feedback: the dataset has no value 'clck'; it has ",
        ),
        (
            "retrieval",
            "retrieval",
            {"opponents": {"wide": {"model": {"width": 65536, "layers": 1000, "heads": 2}}}},
            "retrieval.opponents.wide: training 'wide' of ",
        ),
        (
            "retrieval",
            "retrieval",
            {"retrieve": {"known": {"known": ["feedback"]}}},
            "retrieve.known.known: 'feedback'",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_training(
    command: str, part: str, content: Any, message: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the file."""
    for module, name in ((pipeline, "pretrain"), (retrieval, "pretrain"), (retrieval, "fit_sequential")):
        monkeypatch.setattr(module, name, forbid)
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(TINY | {part: content if isinstance(content, list) else TINY[part] | content}))
    error = lum_bench(command, "-d", str(own), "--runs", str(runs)).exception
    assert isinstance(error, InputError), error
    assert str(error).startswith(f"{own}: {message}")


@pytest.mark.parametrize(
    ("command", "module", "name", "training"),
    [
        ("ranking", pipeline, "pretrain", "Large User Model, seed 0"),
        ("retrieval", retrieval, "pretrain", "lum, seed 0"),
        ("retrieval", retrieval, "fit_sequential", "hstu, seed 0"),
    ],
)
def test_a_failure_names_the_training(
    command: str, module: Any, name: str, training: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: object) -> None:
        raise InputError("the loss is nan")

    monkeypatch.setattr(module, name, diverge)
    error = lum_bench(command, "-d", "tiny", "--runs", str(tmp_path), "--seeds", "1", "--processes", "1").exception
    assert isinstance(error, InputError), error
    assert str(error) == f"{training}: the loss is nan"


def test_more_trainings_of_the_large_user_model_than_seeds_are_refused() -> None:
    error = lum_bench("ranking", "-d", "tiny", "--seeds", "2", "--models", "3").exception
    assert isinstance(error, InputError)
    assert "--models 3: 2 seeds use at most 2 trainings; raise --seeds" in str(error)


@pytest.mark.parametrize("command", ["ranking", "retrieval", "ablation"])
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("experiment.pretrain.epoch=3", "unknown key 'experiment.pretrain.epoch'; did you mean 'epochs'? (--set "),
        ("experiment.pretrain.epochs=0", "key 'experiment.pretrain.epochs': "),
        ("epochs", "expected KEY=VALUE"),
    ],
)
def test_a_mistake_in_an_override_is_named(command: str, override: str, message: str) -> None:
    error = lum_bench(command, "-d", "tiny", "--set", override).exception
    assert isinstance(error, InputError)
    assert message in str(error)


def test_an_unknown_table_is_refused() -> None:
    error = lum_bench("ablation", "-d", "tiny", "--tables", "use,sise").exception
    assert isinstance(error, InputError)
    assert "--tables: unknown name 'sise'; choose from use, freshness, conditions" in str(error)


@pytest.mark.parametrize("command", ["ranking", "retrieval", "ablation"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["-d", "none"], "unknown benchmark 'none'; choose from bare, tiny"), (["-d", "bare"], "bare")],
)
def test_an_unknown_or_empty_benchmark_is_refused(command: str, arguments: list[str], message: str) -> None:
    error = lum_bench(command, *arguments).exception
    assert isinstance(error, InputError)
    assert message in str(error)


def test_an_unknown_ranker_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "build_knowledge", forbid)
    error = lum_bench("ranking", "-d", "tiny", "--rankers", "dnn,dinn").exception
    assert isinstance(error, InputError)
    assert "--rankers: unknown name 'dinn'; choose from dnn, hstu" in str(error)
