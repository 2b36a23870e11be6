"""`lum bench` end to end, on a tiny benchmark of our own."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner, Result

import openlum
from openlum.bench import pipeline, ranking, retrieval
from openlum.bench import settings as bench_settings
from openlum.cli import app
from openlum.errors import InputError
from openlum.sources.market.settings import MarketSettings
from openlum.sources.market.write import write_market

SHAPE = {"width": 16, "layers": 1, "heads": 2, "embedding_width": 16, "field_width": 8, "max_events": 16}
TINY: dict[str, Any] = {
    "protocol": ["a market for tests"],
    "experiment": {
        "name": "tiny",
        "data": {"market": {"users": 100, "items": 120, "sessions": 5, "seed": 3}},
        "model": SHAPE,
        "pretrain": {"protocol": "time", "epochs": 1, "batch_events": 512},
        "query": {"questions": {"click": {"feedback": "click", "*": "$row"}, "skip": {"feedback": "skip"}}},
        "rank": {"max_epochs": 2, "hidden": [16], "sequence": {"width": 16, "layers": 1, "heads": 2, "max_events": 16}},
        "retrieve": None,
    },
    "ranking": {"tune": {"dnn": [{"dropout": 0.1}, {"dropout": 0.3}], "hstu": [{}, {"max_epochs": 1}]}},
    "ablation_ranker": "dnn",
    "ablations": [
        {"table": "use", "label": "early fusion", "rank": {"knowledge": {"fusion": "early", "direct": False}}},
        {"table": "freshness", "label": "as of the day", "query": {"as_of": "day"}},
        {"table": "conditions", "label": "no conditions", "query": {"questions": {"any": {}}, "judge": False},
         "model": {"conditions": False}, "pretrain": {"feedback_contrast_weight": 0.0, "feedback_prediction_weight": 0.0}},
    ],
    "retrieval": {
        "protocol": ["the last event"],
        "model": SHAPE,
        "pretrain": {"protocol": "last", "epochs": 1, "batch_events": 512, "feedback_contrast_weight": 0.0},
        "retrieve": {"questions": {"any": {}}, "known": {"known": ["scenario"]}, "at": [10]},
        "opponents": {name: {"model": SHAPE | {"encoder": kind}, "epochs": 1}
                      for name, kind in (("sasrec", "transformer"), ("hstu", "hstu"))},
    },
}  # fmt: skip


def lum_bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", *arguments], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both benchmarks of this module work."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(autouse=True)
def _tiny(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = tmp_path_factory.mktemp("datasets")
    (datasets / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    (datasets / "bare.yaml").write_text(yaml.safe_dump(TINY | {"ranking": None, "retrieval": None, "ablations": []}))
    monkeypatch.setattr(bench_settings, "DATASETS", datasets)


def forbid(*_: object, **__: object) -> None:
    raise AssertionError("this was done before")


def ranking_command(runs: Path) -> list[str]:
    file = runs / "ranking.json"
    return ["ranking", "-d", "tiny", "--runs", str(runs), "--seeds", "2", "--processes", "1", "--json", str(file)]


def test_ranking(runs: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And again, with nothing left to train."""
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
    told = result["bench"]
    assert told["protocol"] == TINY["protocol"]
    assert told["seeds"] == [0, 1]
    assert told["models"] == _models(runs) == 2
    assert [set(alone) for alone in told["alone"]] == [{"train", "valid", "test"}] * 2
    assert told["alone"][0] == result["knowledge"]["all"] != told["alone"][1]
    settings = TINY["ranking"]["tune"]["dnn"]
    assert [tried["settings"] for tried in told["tuning"]["dnn+knowledge"]["tried"]] == settings
    assert told["tuning"]["dnn"]["chosen"] in settings
    assert {name: len(tried["tried"]) for name, tried in told["tuning"].items()} == dict.fromkeys(methods, 2)
    assert all(1 <= epoch <= 2 for name in methods for epoch in told["epochs"][name])
    assert result["pretrain"]["epochs"] == 1
    assert result["query"]["questions"] == 2
    _check_form(result)
    assert file.with_suffix(".svg").read_text().lstrip().startswith("<?xml")
    for name in methods:
        assert name in done.output

    # A method with knowledge begins with the plain ranker of its own settings, which may not be those that the plain one chose.
    chosen = {name: tried["chosen"] for name, tried in told["tuning"].items()}
    others = sum(chosen[name] != chosen[f"{name}+knowledge"] for name in ("dnn", "hstu"))
    assert len(trained) == 8 + 4 * 2 + others * 2
    trained.clear()
    monkeypatch.setattr(pipeline, "pretrain", forbid)
    monkeypatch.setattr(pipeline, "query", forbid)
    again = lum_bench(*command)
    assert again.exit_code == 0, (again.output, again.exception)
    assert not trained
    assert again.output.count("unchanged, skipped") == 2
    assert json.loads(file.read_text()) == result


def test_ensembles_of_its_trainings(runs: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One training of each method has the AUC that the benchmark tells. Nothing is trained that the ranking trained."""
    assert lum_bench(*ranking_command(runs)).exit_code == 0  # has nothing to do after the test above
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
    found = {(row["of"], row["how"]): row for row in json.loads((runs / "ensembles.json").read_text())["ensembles"]}
    for name in ("dnn", "hstu"):
        for split, part in (("valid", "validation"), ("test", "ranking")):
            assert found[name, "one"][split] == pytest.approx(result[part][name]["auc"]["mean"])
    joined = found["dnn+knowledge", "answers of one"]
    assert joined["test"] == pytest.approx(result["ranking"]["dnn+knowledge"]["auc"]["mean"], abs=0.02)
    assert not trained


def test_a_benchmark_of_ones_own_log(tmp_path: Path, trained: list[str]) -> None:
    """In a file anywhere; the schema lies relative to it."""
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


@pytest.mark.parametrize(
    ("what", "part", "content", "message"),
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
            "rank.knowledge: the knowledge has no question 'clik'; it has click, skip, feedback=",
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
            "rank.knowledge: the knowledge has no question 'clik'; it has click, skip",
        ),
        (
            "ablation",
            "ablations",
            [
                {
                    "table": "use",
                    "label": "odd",
                    "query": {"judge": False},
                    "rank": {"knowledge": {"matching_questions": ["feedback=click"]}},
                }
            ],
            "rank.knowledge: the knowledge has no question 'feedback=click'; it has click, skip",
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
        ("retrieval", "retrieval", {"retrieve": {"known": {"told": ["feedback"]}}}, "retrieve.known.told: 'feedback'"),
    ],
)
def test_a_question_that_does_not_fit_is_found_before_training(
    what: str, part: str, content: Any, message: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is named."""
    for module, name in ((pipeline, "pretrain"), (retrieval, "pretrain"), (retrieval, "fit_sequential")):
        monkeypatch.setattr(module, name, forbid)
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(TINY | {part: content if isinstance(content, list) else TINY[part] | content}))
    error = lum_bench(what, "-d", str(own), "--runs", str(runs)).exception
    assert isinstance(error, InputError), error
    assert str(error).startswith(f"{own}: {message}")


def test_untuned_takes_the_first_settings(runs: Path) -> None:
    """After the test above, whose dataset and model it finds."""
    file = runs / "untuned.json"
    command = ["ranking", "-d", "tiny", "--runs", str(runs), "--seeds", "1", "--processes", "1", "--json", str(file)]
    done = lum_bench(*command, "--no-tune", "--rankers", "dnn")
    assert done.exit_code == 0, (done.output, done.exception)
    tuning = json.loads(file.read_text())["bench"]["tuning"]
    assert tuning == {name: {"tried": [], "chosen": {"dropout": 0.1}} for name in ("dnn", "dnn+knowledge")}


def test_fewer_trainings_of_the_large_user_model_than_seeds(runs: Path) -> None:
    """The seeds share the first one, so only the second seed's figures change."""
    command = ["ranking", "-d", "tiny", "--runs", str(runs), "--seeds", "2", "--processes", "1", "--no-tune"]
    found = []
    for models in ("1", "2"):
        file = runs / f"models-{models}.json"
        done = lum_bench(*command, "--rankers", "dnn", "--models", models, "--json", str(file))
        assert done.exit_code == 0, (done.output, done.exception)
        found.append(json.loads(file.read_text()))
        assert len(found[-1]["bench"]["alone"]) == int(models)
    one, two = (result["ranking"]["dnn+knowledge"]["auc"]["seeds"] for result in found)
    assert one[0] == two[0]
    assert one[1] != two[1]


def test_large_user_models_are_trained_several_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a seed of its own; and again, with nothing left to train."""
    bench = bench_settings.load_bench(bench_settings.bench_file("tiny"))
    context = pipeline.RunContext(Path("tiny.yaml"), tmp_path, Console(), None, [0, 1], models=2, processes=2)
    pipeline.build_dataset(bench.experiment, context)
    trained = pipeline.build_knowledge(bench.experiment, context)
    assert len({one.knowledge for one in trained}) == 2
    assert trained[0].told["pretrain"]["validation"] != trained[1].told["pretrain"]["validation"]
    monkeypatch.setattr(pipeline, "_train", forbid)
    assert pipeline.build_knowledge(bench.experiment, context) == trained
    for one in trained:  # what is damaged is made again
        part = one.knowledge / "part-00000.parquet"
        content = part.read_bytes()
        part.write_bytes(content[:-1] + b"x")
        with pytest.raises(AssertionError, match="done before"):
            pipeline.build_knowledge(bench.experiment, context)
        part.write_bytes(content)


@pytest.mark.parametrize(
    ("what", "module", "name", "whose"),
    [
        ("ranking", pipeline, "pretrain", "Large User Model, seed 0"),
        ("retrieval", retrieval, "pretrain", "lum, seed 0"),
        ("retrieval", retrieval, "fit_sequential", "hstu, seed 0"),
    ],
)
def test_a_failure_names_the_training(
    what: str, module: Any, name: str, whose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: object) -> None:
        raise InputError("the loss is nan")

    monkeypatch.setattr(module, name, diverge)
    error = lum_bench(what, "-d", "tiny", "--runs", str(tmp_path), "--seeds", "1", "--processes", "1").exception
    assert isinstance(error, InputError), error
    assert str(error) == f"{whose}: the loss is nan"


def test_more_trainings_of_the_large_user_model_than_seeds_are_refused() -> None:
    error = lum_bench("ranking", "-d", "tiny", "--seeds", "2", "--models", "3").exception
    assert isinstance(error, InputError)
    assert "--models 3: 2 seeds use at most 2 trainings; raise --seeds" in str(error)


def test_ablation(runs: Path) -> None:
    """The whole method, what is taken away from it, and the ranker alone. The whole method's model is the ranking's."""
    before = _models(runs)
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
    own, whole = (rows[label]["ranking"]["auc"]["mean"] for label in ("as of the day", "whole method"))
    assert rows["as of the day"]["from_whole"]["difference"] == pytest.approx(own - whole)
    # Same answers, used otherwise; other answers; a model of its own.
    assert rows["early fusion"]["alone"] == rows["whole method"]["alone"]
    assert rows["early fusion"]["ranking"] != rows["whole method"]["ranking"]
    assert rows["as of the day"]["alone"] != rows["whole method"]["alone"]
    assert rows["as of the day"]["from_whole"]["difference"] != 0
    assert rows["no conditions"]["alone"] != rows["whole method"]["alone"]
    assert result["bench"]["models"] == 1
    assert _models(runs) == max(before, 1) + 1
    _check_form(result)


def test_a_table_that_there_is_not_is_refused() -> None:
    error = lum_bench("ablation", "-d", "tiny", "--tables", "use,sise").exception
    assert isinstance(error, InputError)
    assert "--tables: unknown name 'sise'; choose from use, freshness, conditions" in str(error)


def _models(runs: Path) -> int:
    """How many Large User Models have been trained."""
    return len(list((runs / "bench-tiny" / "models").glob("model-*[0-9a-f]")))


def _check_comparisons(result: dict[str, Any]) -> None:
    """Knowledge against none, and the best with knowledge against the best end to end, alone and joined with another model."""
    assert [(found["a"], found["b"]) for found in result["comparisons"]] == [
        ("dnn+knowledge", "dnn"),
        ("hstu+knowledge", "hstu"),
        ("dnn+knowledge", "hstu"),
        ("dnn+knowledge", "hstu & hstu"),
        ("dnn+knowledge", "dnn & hstu"),
    ]
    for found in result["comparisons"]:
        one, other = (result["ranking"][found[side]]["auc"] for side in ("a", "b"))
        assert found["difference"] == pytest.approx(one["mean"] - other["mean"])
        assert found["per_seed"] == pytest.approx(np.subtract(one["seeds"], other["seeds"]))
        assert found["bootstrap95"][0] < found["difference"] < found["bootstrap95"][1]
        assert found["ci95"][0] < found["difference"] < found["ci95"][1]
        assert 0 <= found["p_value"] <= 1


def _check_form(result: dict[str, Any]) -> None:
    """That of `summary.json`."""
    jsonschema.validate(
        result, json.loads((Path(openlum.__file__).parent / "pipeline/summary.schema.json").read_text())
    )


def test_retrieval(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One seed here, the other in processes of their own; and again, with nothing left to train."""
    command = ["retrieval", "-d", "tiny", "--runs", str(runs)]
    assert lum_bench(*command, "--processes", "1").exit_code == 0
    command += ["--seeds", "2", "--processes", "2"]
    done = lum_bench(*command)
    assert done.exit_code == 0, (done.output, done.exception)
    file = runs / "bench-tiny" / "retrieval.json"
    result = json.loads(file.read_text())
    assert set(result["retrieval"]) == {"sasrec", "hstu", "lum: any", "lum: known"}
    for shown in (done.output, file.with_suffix(".svg").read_text()):
        assert all(name in shown for name in result["retrieval"])
    assert result["bench"]["told_more"] == ["lum: known"]
    for name, metrics in result["retrieval"].items():
        assert set(metrics) == {"hr@10", "ndcg@10", "mrr"}
        seeds = [one[name]["mrr"] for one in result["bench"]["by_seed"]]
        assert len(set(seeds)) == 2
        assert metrics["mrr"] == pytest.approx(np.mean(seeds))
    assert result["retrieval_protocol"]["users"] > 50
    _check_form(result)
    compared = {(found["a"], found["b"], found["metric"]): found for found in result["comparisons"]}
    metrics = ("hr@10", "ndcg@10", "mrr")
    assert set(compared) == {("lum: any", b, metric) for b in ("sasrec", "hstu") for metric in metrics}
    for (a, b, metric), found in compared.items():
        difference = result["retrieval"][a][metric] - result["retrieval"][b][metric]
        assert found["difference"] == pytest.approx(difference)

    monkeypatch.setattr(retrieval, "_train", forbid)
    kept = runs / "bench-tiny" / "retrieval" / "hstu-seed0.json"
    content = kept.read_text()
    for damage in (content[: len(content) // 2], "[]", content.replace("seconds", "second", 1)):
        kept.write_text(damage)
        assert isinstance(
            lum_bench(*command, "--processes", "1").exception, AssertionError
        )  # it would be trained again
    kept.write_text(content)
    again = lum_bench(*command)
    assert again.exit_code == 0, (again.output, again.exception)
    assert json.loads(file.read_text()) == result
    assert lum_bench(*command, "--opponents", "hstu", "--json", str(runs / "one.json")).exit_code == 0
    assert set(json.loads((runs / "one.json").read_text())["retrieval"]) == {"hstu", "lum: any", "lum: known"}


@pytest.mark.parametrize("what", ["ranking", "retrieval", "ablation"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["-d", "none"], "no benchmark for 'none'; there are bare, tiny"), (["-d", "bare"], "bare")],
)
def test_a_benchmark_that_there_is_not_is_refused(what: str, arguments: list[str], message: str) -> None:
    error = lum_bench(what, *arguments).exception
    assert isinstance(error, InputError)
    assert message in str(error)


def test_a_ranker_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "build_knowledge", forbid)
    error = lum_bench("ranking", "-d", "tiny", "--rankers", "dnn,dinn").exception
    assert isinstance(error, InputError)
    assert "--rankers: unknown name 'dinn'; choose from dnn, hstu" in str(error)
