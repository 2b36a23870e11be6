"""The benchmark of the simulated worlds, on one small world."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from openlum.config import load_settings
from openlum.pipeline.experiment import Experiment

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import worlds

USERS = 100
RUN = f"worlds-news-{USERS}-seed11"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the result of one world and seed, `worlds.json`, and its artefacts in `runs`."""
    directory = tmp_path_factory.mktemp("benchmark")
    call(directory)
    return directory


@pytest.fixture
def row(directory: Path) -> dict[str, Any]:
    """Return the only row of the result."""
    (row,) = json.loads((directory / "worlds.json").read_text())["worlds"]
    return dict(row)


def call(directory: Path, *options: str) -> None:
    """Run the benchmark on one small world; `options` come last, so they replace others."""
    small = ["--worlds", "news", "--seeds", "11", "--users", str(USERS)]
    files = ["--runs", str(directory / "runs"), "--json", str(directory / "worlds.json")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["worlds.py", *small, *files, *options])
        worlds.main()


def test_an_experiment_has_the_defaults_of_every_method(directory: Path) -> None:
    experiment = load_settings(directory / "runs" / RUN / "config.resolved.yaml", Experiment)
    named = {
        "pretrain": {"seed": 11},
        "rank": {"rankers": ["dnn", "din", "lightgbm"], "seeds": [11]},
        "retrieve": {"at": [1, 10]},
    }
    assert experiment == Experiment.model_validate({"name": RUN, "data": experiment.data} | named)


def test_differences_are_those_of_the_metrics(row: dict[str, Any]) -> None:
    ranking, retrieval = row["ranking"], row["retrieval"]
    assert set(ranking) == {f"{name}{ending}" for name in worlds.RANKERS for ending in ("", "+knowledge")}
    for entry in [row["best"], *row["comparisons"]]:
        assert entry["difference"] == pytest.approx(ranking[entry["a"]]["auc"] - ranking[entry["b"]]["auc"])
    assert {"any", "sasrec"} <= set(retrieval)
    assert {entry["b"] for entry in row["retrieval_comparisons"]} == set(retrieval) - {"any"}
    for entry in row["retrieval_comparisons"]:
        of_any, of_other = (retrieval[entry[side]][entry["metric"]] for side in "ab")
        assert entry["difference"] == pytest.approx(of_any - of_other)


def test_the_best_rankers_are_chosen_on_validation_rows(row: dict[str, Any]) -> None:
    validation = row["validation_auc"]
    for side, ending in (("a", True), ("b", False)):
        candidates = [name for name in validation if name.endswith("+knowledge") == ending]
        assert validation[row["best"][side]] == max(validation[name] for name in candidates)


def test_a_finished_row_is_not_run_again(
    directory: Path, row: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def another_row(world: str, seed: int, *_: object) -> dict[str, Any]:
        ran.append((world, seed))
        return {name: value for name, value in row.items() if name not in ("world", "seed", "users")}

    monkeypatch.setattr(worlds, "run_world", another_row)
    monkeypatch.setenv("COLUMNS", "300")  # no table breaks a word
    call(directory)
    assert not ran
    copy = directory / "copy.json"
    copy.write_bytes((directory / "worlds.json").read_bytes())
    call(directory, "--seeds", "11", "12", "--json", str(copy))
    assert ran == [("news", 12)]
    assert [(row["world"], row["seed"]) for row in json.loads(copy.read_text())["worlds"]] == [
        ("news", 11),
        ("news", 12),
    ]
    printed = capsys.readouterr().out
    for text in ("lightgbm+knowledge", "sasrec", "ndcg@10", "Made worse"):
        assert text in printed


def test_a_summary_has_the_means_over_the_seeds_of_a_world(row: dict[str, Any]) -> None:
    other = json.loads(json.dumps(row)) | {"seed": 12}
    other["ranking"]["din"]["auc"] += 0.1
    other["ranking"]["din"]["gauc"] = None  # no user has rows of both labels
    other["retrieval_comparisons"][0] |= {"difference": -1.0, "ci95": [-1.0, -1.0], "p_value": 0.0}
    other["retrieval"]["repeat last"] = row["retrieval"]["any"]  # a method that the other row does not have
    shop = row | {"world": "shop"}
    summary = worlds.summarise([row, other, shop])
    assert list(summary) == ["news", "shop"]
    news, din = summary["news"], row["ranking"]["din"]
    assert news["seeds"] == [11, 12]
    assert news["ranking"]["din"] == {name: pytest.approx(din[name]) for name in din} | {
        "auc": pytest.approx(din["auc"] + 0.05),
        "gauc": None,
    }
    assert news["retrieval_comparisons"][0]["difference"] == pytest.approx(
        (row["retrieval_comparisons"][0]["difference"] - 1) / 2
    )
    assert set(news["retrieval"]) == set(row["retrieval"])
    assert summary["shop"]["comparisons"] == row["comparisons"]
    assert summary["shop"]["best"]["difference"] == row["best"]["difference"]


def test_a_ranker_that_knowledge_harms_is_named(row: dict[str, Any]) -> None:
    harm = {
        "a": "din+knowledge",
        "b": "din",
        "metric": "auc",
        "difference": -0.02,
        "ci95": [-0.03, -0.01],
        "p_value": 1e-4,
    }
    summary = worlds.summarise([row | {"seed": seed, "comparisons": [harm]} for seed in (11, 12, 13)])
    assert summary["news"]["made_worse"] == ["din+knowledge"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--users", "0"], "users"),
        (["--worlds", "moon"], "moon"),
        (["--json", "damaged.json"], "damaged.json"),
    ],
)
def test_a_mistake_stops_with_a_message(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("damaged.json").write_text("{")
    with pytest.raises(SystemExit) as ended:
        call(tmp_path, *options)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
