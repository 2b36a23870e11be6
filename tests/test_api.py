"""The Python API: every step by path or object, with the numbers of the command line."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import openlum as ol
from openlum.artefact.json_file import read_json
from openlum.config import load_settings
from openlum.errors import InputError
from openlum.schema import Schema
from tests.tiny import CONFIG

TINY = yaml.safe_load(CONFIG)
TABLES = ("events", "items", "users", "impressions")


def run_alone(program: str) -> None:
    """Run a program in a new interpreter."""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_the_import_is_light_and_every_name_exists() -> None:
    run_alone(
        "import sys, openlum\n"
        "heavy = {'torch', 'pyarrow', 'numpy', 'pydantic', 'sklearn', 'narwhals'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert all(getattr(openlum, name) for name in openlum.__all__)\n"
        "assert set(openlum.__all__) <= set(dir(openlum))"
    )


def test_settings_and_training_modules_import_no_library_that_they_may_not_need() -> None:
    run_alone("import sys, openlum.pipeline.experiment; assert 'torch' not in sys.modules")
    modules = "openlum.pretrain.train, openlum.query.bulk, openlum.rank.run, openlum.retrieve.evaluate"
    heavy = "{'sklearn', 'scipy.stats', 'tensorboard', 'matplotlib', 'ibis', 'duckdb', 'pandas', 'polars'}"
    run_alone(f"import sys, {modules}; heavy = {heavy} & set(sys.modules); assert not heavy, heavy")


def test_the_stub_has_the_public_names() -> None:
    stub = ast.parse(Path(str(ol.__file__)).with_suffix(".pyi").read_text())
    names = {alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names | {"__version__"} == set(ol.__all__)


@pytest.mark.parametrize("step", ["prepare", "pretrain", "query", "rank", "retrieve"])
def test_a_step_is_a_function_before_and_after_the_import_of_its_package(step: str) -> None:
    run_alone(
        f"import openlum as ol; assert callable(ol.{step}); import openlum.{step}; assert callable(ol.{step})\n"
        f"import openlum.{step}.settings as s, openlum.api\n" * (step != "prepare")
    )
    from openlum import api

    function = getattr(api, step)
    assert inspect.signature(getattr(ol, step)) == inspect.signature(function)
    assert getattr(ol, step).__doc__ == function.__doc__


@pytest.fixture(scope="module")
def log(tiny_run: Path) -> Path:
    return tiny_run / "runs/tiny/log"


@pytest.fixture(scope="module")
def chain(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All steps through the Python API, with the settings of the experiment `tiny`."""
    out = tmp_path_factory.mktemp("api")
    dataset = ol.prepare(schema=tiny_run / "runs/tiny/log/schema.yaml", out=out / "dataset", progress=False)
    model = ol.pretrain(dataset, out / "model", model=TINY["model"], progress=False, **TINY["pretrain"])
    knowledge = ol.query(dataset, model, out / "knowledge", progress=False, **TINY["query"])
    truth = tiny_run / "runs/tiny/log/truth.parquet"
    ranking = ol.rank(dataset, knowledge, out / "ranker", settings=TINY["rank"], truth=truth, progress=False)
    retrieval = ol.retrieve(dataset, model, out / "retrieval", progress=False, **TINY["retrieve"])
    return {"dataset": dataset, "model": model, "knowledge": knowledge, "ranking": ranking, "retrieval": retrieval}


def test_the_functions_give_the_numbers_of_the_command_line(chain: dict[str, Any], tiny_run: Path) -> None:
    run = tiny_run / "runs/tiny"
    assert chain["dataset"].info.fingerprint == read_json(run / "dataset/dataset.json", "")["fingerprint"]
    assert (chain["model"].path / "model.safetensors").read_bytes() == (run / "model/model.safetensors").read_bytes()
    assert chain["knowledge"].to_arrow().equals(ol.Knowledge(run / "knowledge").to_arrow())
    summary = read_json(run / "summary.json", "")
    assert chain["ranking"].metrics["ranking"] == summary["ranking"]
    assert chain["ranking"].metrics["oracle"] == summary["oracle"]
    assert chain["retrieval"].metrics == summary["retrieval"]


def test_results_have_a_path_and_are_shown_in_notebooks(chain: dict[str, Any]) -> None:
    for name, result in chain.items():
        assert result.path.name == ("ranker" if name == "ranking" else name)
        html = result._repr_html_()
        assert html.startswith("<div>")
        assert str(result.path) in html
        assert "<script" not in html


def test_rankers_and_predictions_are_read_back(chain: dict[str, Any]) -> None:
    ranking = chain["ranking"]
    name = ranking.names[-1]
    assert ranking.ranker(name, seed=1).config.architecture == name.partition("+")[0]
    assert set(ranking.predictions(name).column_names) == {"row", "user", "label", "prediction"}
    assert 0.3 < ranking.auc[name] < 1
    with pytest.raises(InputError, match="no ranker 'dan' with seed 0; the rankers are dnn"):
        ranking.predictions("dan")


def test_histories_of_the_dataset_go_to_the_model(chain: dict[str, Any]) -> None:
    users = chain["dataset"].vocabulary("users").values[:3]
    recommendations = chain["model"].recommend(chain["dataset"].histories(users), k=2)
    assert list(recommendations) == users
    assert all(len(items) == 2 for items in recommendations.values())


def test_run_takes_a_file_or_a_dictionary_and_overrides(
    tiny_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    schema = str(tiny_run / "runs/tiny/log/schema.yaml")
    experiment = TINY | {"data": {"schema_file": schema}, "rank": None, "retrieve": None}
    run = ol.run(experiment, progress=False, overrides={"model.width": 8, "name": "other", "query": None})
    assert run.path == Path("runs/other")
    assert run.model.config.settings.width == 8
    assert (run.knowledge, run.ranking, run.retrieval) == (None, None, None)
    assert run.report.exists()
    assert "events" in run._repr_html_()
    assert capfd.readouterr().out == ""
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(experiment))
    ol.run("other.yaml", overrides={"model.width": 8, "name": "other", "query": None})
    assert capfd.readouterr().out.count("unchanged, skipped") == 2
    with pytest.raises(InputError, match=r"unknown key 'pretrain\.epoch'; did you mean 'epochs'"):
        ol.run(ol.Experiment(**experiment), overrides={"pretrain.epoch": 3})


def frames(kind: str, log: Path) -> dict[str, Any]:
    """Return the tables of the log as frames of a library."""
    tables = {name: pq.read_table(log / f"{name}.parquet") for name in TABLES}
    if kind == "path":
        return {name: str(log / f"{name}.parquet") for name in TABLES}
    if kind == "pandas":
        return {name: table.to_pandas() for name, table in tables.items()}
    if kind == "polars":
        polars = pytest.importorskip("polars")
        frames: dict[str, Any] = {name: polars.from_arrow(table) for name, table in tables.items()}
        return frames | {"events": frames["events"].lazy()}
    if kind == "mixed":
        return tables | {"items": log / "items.parquet"}
    return tables


@pytest.mark.parametrize(
    ("kind", "form"),
    [(kind, "dictionary") for kind in ("path", "arrow", "pandas", "polars")] + [("mixed", "file"), ("arrow", "object")],
)
def test_tables_may_be_paths_or_frames(chain: dict[str, Any], log: Path, tmp_path: Path, kind: str, form: str) -> None:
    schema: Any = log / "schema.yaml"
    if form == "object":
        schema = load_settings(schema, Schema)
    elif form == "dictionary":
        schema = yaml.safe_load(schema.read_text())
        for name in TABLES:
            del schema[name]["path"]
    dataset = ol.prepare(**frames(kind, log), schema=schema, out=tmp_path / "dataset", progress=False)
    expected = chain["dataset"]
    assert dataset.info.counts == expected.info.counts
    np.testing.assert_array_equal(dataset.sequences.item, expected.sequences.item)
    np.testing.assert_array_equal(dataset.impressions("test").label, expected.impressions("test").label)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".lum-frames")] == []


def test_the_same_frames_give_the_same_dataset(log: Path, tmp_path: Path) -> None:
    tables = frames("arrow", log)
    schema = yaml.safe_load((log / "schema.yaml").read_text())
    first, second = (ol.prepare(**tables, schema=schema, out=tmp_path / n, progress=False) for n in "ab")
    assert first.info.fingerprint == second.info.fingerprint


def test_a_schema_is_inferred_and_shown(log: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dataset = ol.prepare(**frames("arrow", log), out=tmp_path / "new directory" / "my shop")
    shown = capfd.readouterr().err
    assert "name: my shop" in shown
    assert "path: events.parquet" in shown
    assert dataset.info.name == "my shop"
    assert dataset.info.counts["events"] == pq.read_metadata(log / "events.parquet").num_rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "events: pass the behaviour log, or a schema with its path"),
        ({"events": pd.DataFrame({"a": [1.5, 2.5]})}, r"no column was recognised for events\.user"),
        ({"events": 5}, "events: expected a path"),
        ({"events": pa.table({"user": ["u"]}), "schema": {"name": "x"}}, "the schema has no section 'events'"),
        (
            {
                "events": pa.table({"user": ["u"], "thing": ["i"], "time": [1]}),
                "schema": {"name": "x", "events": {"user": "user", "item": "things", "time": "time"}},
            },
            "frame 'events': no column 'things'; did you mean 'thing'",
        ),
        (
            {"events": pa.table({"u": [1]}), "schema": {"name": "x", "events": {"users": "u"}}},
            r"schema: .*unknown key 'events\.users'; did you mean 'user'",
        ),
        ({"events": pd.DataFrame({"user": ["a", 1]})}, "events: cannot be converted to Arrow"),
        ({"events": pa.table({"user": ["u"]}), "schema": "none.yaml"}, "none.yaml: no such file"),
    ],
)
def test_mistakes_of_prepare_are_explained(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        ol.prepare(**arguments, out=tmp_path / "dataset", progress=False)


def test_an_unknown_setting_is_named_with_the_nearest_one(chain: dict[str, Any], tmp_path: Path) -> None:
    dataset, model = chain["dataset"], chain["model"]
    with pytest.raises(InputError, match="pretrain: unknown key 'epoch'; did you mean 'epochs'"):
        ol.pretrain(dataset, tmp_path / "x", epoch=1)
    with pytest.raises(InputError, match="model: unknown key 'widht'; did you mean 'width'"):
        ol.pretrain(dataset, tmp_path / "x", model={"widht": 1})
    with pytest.raises(InputError, match="rank: unknown key 'ranker'; did you mean 'rankers'"):
        ol.rank(dataset, None, tmp_path / "x", ranker=["din"])
    with pytest.raises(InputError, match="query: unknown key 'question'; did you mean 'questions'"):
        ol.query(dataset, model, tmp_path / "x", question={})
    with pytest.raises(InputError, match="retrieve: expected RetrieveSettings or a mapping"):
        ol.retrieve(dataset, model, tmp_path / "x", settings=[10])  # type: ignore[arg-type]


def test_settings_may_be_objects_with_changed_keys(chain: dict[str, Any], tmp_path: Path) -> None:
    settings = ol.RetrieveSettings(at=[3], exclude_seen=False)
    retrieval = ol.retrieve(
        chain["dataset"].path, chain["model"].path, tmp_path / "r", settings, progress=False, at=[7]
    )
    assert all(set(metrics) >= {"hr@7"} and "hr@3" not in metrics for metrics in retrieval.metrics.values())


def test_a_model_without_a_directory_is_refused(chain: dict[str, Any], tmp_path: Path) -> None:
    model = ol.LargeUserModel(chain["model"].config, chain["model"].processor)
    with pytest.raises(InputError, match="model: was not loaded from a directory; save it with save_pretrained"):
        ol.query(chain["dataset"], model, tmp_path / "x")


def test_progress_can_be_turned_off(chain: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = TINY["rank"] | {"seeds": [0], "rankers": ["dnn"]}
    ol.rank(chain["dataset"], None, tmp_path / "quiet", settings=settings, progress=False)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    ol.rank(chain["dataset"], None, tmp_path / "shown", settings=settings)
    assert "validation AUC" in capfd.readouterr().out
