"""`lum bench ranking` and `lum bench ablation` end to end, on a tiny benchmark."""

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from openlum.bench import pipeline
from openlum.bench import settings as bench_settings
from openlum.sources.market.settings import MarketSettings
from openlum.sources.market.write import write_market
from tests.bench.tiny import TINY, check_form, forbid, lum_bench

pytestmark = pytest.mark.usefixtures("tiny_benchmark")


def ranking_command(runs: Path) -> list[str]:
    file = runs / "ranking.json"
    return ["ranking", "-d", "tiny", "--runs", str(runs), "--seeds", "2", "--processes", "1", "--json", str(file)]


def test_ranking_result_tables_and_reuse(runs: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the command runs again without any training."""
    file, command = runs / "ranking.json", ranking_command(runs)
    done = lum_bench(*command)
    assert done.exit_code == 0, (done.output, done.exception)
    result = json.loads(file.read_text())
    methods = ["dnn", "hstu", "dnn+knowledge", "hstu+knowledge"]
    assert list(result["ranking"]) == list(result["validation"]) == [*methods, "hstu & hstu", "dnn & hstu"]
    for figures in result["ranking"].values():
        assert len(figures["auc"]["seeds"]) == 2
        assert figures["auc"]["mean"] == pytest.approx(np.mean(figures["auc"]["seeds"]))
    _check_comparisons(result)
    assert set(result["knowledge"]["questions"]) >= {"click", "skip"}
    assert set(result["knowledge"]["all"]) == {"train", "valid", "test"}
    summary = result["bench"]
    assert summary["protocol"] == TINY["protocol"]
    assert summary["seeds"] == [0, 1]
    assert summary["models"] == model_count(runs) == 2
    assert [set(probe) for probe in summary["alone"]] == [{"train", "valid", "test"}] * 2
    assert summary["alone"][0] == result["knowledge"]["all"] != summary["alone"][1]
    settings = TINY["ranking"]["tune"]["dnn"]
    assert [tried["settings"] for tried in summary["tuning"]["dnn+knowledge"]["tried"]] == settings
    assert summary["tuning"]["dnn"]["chosen"] in settings
    assert {name: len(tried["tried"]) for name, tried in summary["tuning"].items()} == dict.fromkeys(methods, 2)
    assert all(1 <= epoch <= 2 for name in methods for epoch in summary["epochs"][name])
    assert result["pretrain"]["epochs"] == 1
    assert result["query"]["questions"] == 2
    check_form(result)
    assert file.with_suffix(".svg").read_text().lstrip().startswith("<?xml")
    for name in methods:
        assert name in done.output
    for line in ("pretrain and query, seed 1: .*recall@.* \\(2 of 2, .* elapsed\\)", "test: dnn, seed 0: .* remaining"):
        assert re.search(line, done.stderr)

    # Late fusion starts from a plain ranker with the settings of the method with knowledge. These may differ from the settings
    # that tuning chose for the plain ranker.
    chosen = {name: tried["chosen"] for name, tried in summary["tuning"].items()}
    further = sum(chosen[name] != chosen[f"{name}+knowledge"] for name in ("dnn", "hstu"))
    assert len(trained) == 8 + 4 * 2 + further * 2
    trained.clear()
    monkeypatch.setattr(pipeline, "pretrain", forbid)
    monkeypatch.setattr(pipeline, "query", forbid)
    repeated = lum_bench(*command)
    assert repeated.exit_code == 0, (repeated.output, repeated.exception)
    assert not trained
    assert repeated.output.count("unchanged, skipped") == 2
    assert json.loads(file.read_text()) == result


def test_ensembles_reuse_the_trainings_of_the_ranking(
    runs: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One training of each method has the AUC of the ranking's result, and no ranker is trained again."""
    assert lum_bench(*ranking_command(runs)).exit_code == 0  # trains nothing after the test above
    trained.clear()
    script = Path(__file__).parents[2] / "benchmarks/ensembles.py"
    options = {
        "--dataset": "tiny",
        "--ranking": runs / "ranking.json",
        "--runs": runs,
        "--json": runs / "ensembles.json",
    }
    monkeypatch.setattr(sys, "argv", ["ensembles.py", *(str(word) for pair in options.items() for word in pair)])
    runpy.run_path(str(script), run_name="__main__")
    result = json.loads((runs / "ranking.json").read_text())
    rows = {(row["of"], row["how"]): row for row in json.loads((runs / "ensembles.json").read_text())["ensembles"]}
    for name in ("dnn", "hstu"):
        for split, part in (("valid", "validation"), ("test", "ranking")):
            assert rows[name, "one"][split] == pytest.approx(result[part][name]["auc"]["mean"])
    late = rows["dnn+knowledge", "answers of one"]
    assert late["test"] == pytest.approx(result["ranking"]["dnn+knowledge"]["auc"]["mean"], abs=0.02)
    assert not trained


def test_a_users_own_benchmark_runs(tmp_path: Path, trained: list[str]) -> None:
    """Its file may be anywhere; `schema_file` is relative to it."""
    write_market(MarketSettings(**TINY["experiment"]["data"]["market"]), tmp_path / "shop" / "log")
    experiment = TINY["experiment"] | {"name": "shop", "data": {"schema_file": "log/schema.yaml"}}
    own = tmp_path / "shop" / "any-name.yml"
    own.write_text(yaml.safe_dump(TINY | {"experiment": experiment}))
    command = ["ranking", "-d", str(own), "--runs", str(tmp_path), "--seeds", "1", "--processes", "1", "--no-tune"]
    done = lum_bench(*command, "--rankers", "dnn")
    assert done.exit_code == 0, (done.output, done.exception)
    result = json.loads((tmp_path / "bench-shop" / "ranking.json").read_text())
    assert result["bench"]["dataset"] == "shop"
    assert list(result["ranking"]) == ["dnn", "dnn+knowledge"]
    assert len(trained) == 2


def test_untuned_takes_the_first_settings(runs: Path) -> None:
    """The dataset and the model are those of the tests above."""
    file = runs / "untuned.json"
    command = ["ranking", "-d", "tiny", "--runs", str(runs), "--seeds", "1", "--processes", "1", "--json", str(file)]
    done = lum_bench(*command, "--no-tune", "--rankers", "dnn")
    assert done.exit_code == 0, (done.output, done.exception)
    tuning = json.loads(file.read_text())["bench"]["tuning"]
    assert tuning == {name: {"tried": [], "chosen": {"dropout": 0.1}} for name in ("dnn", "dnn+knowledge")}


def test_seeds_share_the_trainings_of_the_large_user_model(runs: Path) -> None:
    """With one training both seeds use it, so only the second seed's AUC changes with two."""
    command = ["ranking", "-d", "tiny", "--runs", str(runs), "--seeds", "2", "--processes", "1", "--no-tune"]
    results = []
    for models in ("1", "2"):
        file = runs / f"models-{models}.json"
        done = lum_bench(*command, "--rankers", "dnn", "--models", models, "--json", str(file))
        assert done.exit_code == 0, (done.output, done.exception)
        results.append(json.loads(file.read_text()))
        assert len(results[-1]["bench"]["alone"]) == int(models)
    shared, separate = (result["ranking"]["dnn+knowledge"]["auc"]["seeds"] for result in results)
    assert shared[0] == separate[0]
    assert shared[1] != separate[1]


def test_large_user_models_are_trained_in_parallel_and_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each training has its own seed. Undamaged knowledge is not made again."""
    bench = bench_settings.load_bench(bench_settings.bench_file("tiny"))
    context = pipeline.RunContext(Path("tiny.yaml"), tmp_path, Console(), None, [0, 1], models=2, processes=2)
    pipeline.build_dataset(bench.experiment, context)
    knowledge = pipeline.build_knowledge(bench.experiment, context)
    assert len({model_knowledge.path for model_knowledge in knowledge}) == 2
    assert knowledge[0].summary["pretrain"]["validation"] != knowledge[1].summary["pretrain"]["validation"]
    monkeypatch.setattr(pipeline, "_train", forbid)
    assert pipeline.build_knowledge(bench.experiment, context) == knowledge
    for model_knowledge in knowledge:  # damaged knowledge is made again
        part = model_knowledge.path / "impressions" / "part-00000-00000.parquet"
        content = part.read_bytes()
        part.write_bytes(content[:-1] + b"x")
        with pytest.raises(AssertionError, match="must not run again"):
            pipeline.build_knowledge(bench.experiment, context)
        part.write_bytes(content)


def test_ablation_result_and_table(runs: Path) -> None:
    """The whole method uses the model of the ranking, and each changed model is trained."""
    before = model_count(runs)
    file = runs / "ablation.json"
    command = ["ablation", "-d", "tiny", "--runs", str(runs), "--seeds", "2", "--processes", "1", "--json", str(file)]
    done = lum_bench(*command, "--models", "1")
    assert done.exit_code == 0, (done.output, done.exception)
    result = json.loads(file.read_text())
    rows = {row["label"]: row for row in result["ablations"]}
    assert list(rows) == ["no knowledge", "whole method", "early fusion", "as of the day", "no conditions"]
    assert rows["whole method"]["from_whole"] is None
    assert rows["no knowledge"]["alone"] is None
    for row in rows.values():
        assert len(row["ranking"]["auc"]["seeds"]) == len(row["valid_auc"]) == 2
        assert row["label"] in done.output
    changed, whole = (rows[label]["ranking"]["auc"]["mean"] for label in ("as of the day", "whole method"))
    assert rows["as of the day"]["from_whole"]["difference"] == pytest.approx(changed - whole)
    # Early fusion has the same answers, "as of the day" other answers of the same model, "no conditions" another model.
    assert rows["early fusion"]["alone"] == rows["whole method"]["alone"]
    assert rows["early fusion"]["ranking"] != rows["whole method"]["ranking"]
    assert rows["as of the day"]["alone"] != rows["whole method"]["alone"]
    assert rows["as of the day"]["from_whole"]["difference"] != 0
    assert rows["no conditions"]["alone"] != rows["whole method"]["alone"]
    assert result["bench"]["models"] == 1
    assert model_count(runs) == max(before, 1) + 1
    check_form(result)


def model_count(runs: Path) -> int:
    """Return the number of trained Large User Models."""
    return len(list((runs / "bench-tiny" / "models").glob("model-*[0-9a-f]")))


def _check_comparisons(result: dict[str, Any]) -> None:
    """Check the pairs: with and without knowledge; the best with knowledge against the best end-to-end model, single and
    stacked."""
    assert [(comparison["a"], comparison["b"]) for comparison in result["comparisons"]] == [
        ("dnn+knowledge", "dnn"),
        ("hstu+knowledge", "hstu"),
        ("dnn+knowledge", "hstu"),
        ("dnn+knowledge", "hstu & hstu"),
        ("dnn+knowledge", "dnn & hstu"),
    ]
    for comparison in result["comparisons"]:
        a, b = (result["ranking"][comparison[side]]["auc"] for side in ("a", "b"))
        assert comparison["difference"] == pytest.approx(a["mean"] - b["mean"])
        assert comparison["per_seed"] == pytest.approx(np.subtract(a["seeds"], b["seeds"]))
        assert comparison["bootstrap95"][0] < comparison["difference"] < comparison["bootstrap95"][1]
        assert comparison["ci95"][0] < comparison["difference"] < comparison["ci95"][1]
        assert 0 <= comparison["p_value"] <= 1
