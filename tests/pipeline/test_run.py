"""The whole pipeline on a tiny market, through the command line."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import jsonschema
import pytest
import yaml

import openlum
from openlum.artefact.lock import locked
from tests.tiny import CONFIG, lum


def run_changed(directory: Path, old: str, new: str) -> subprocess.CompletedProcess[str]:
    """Run the experiment with one part of its file replaced, then restore the file."""
    config = directory / "tiny.yaml"
    config.write_text(CONFIG.replace(old, new))
    done = lum("run", config.name, cwd=directory)
    config.write_text(CONFIG)
    return done


@pytest.fixture(scope="module")
def finished(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the results of `lum run` that the tests may change."""
    directory = tmp_path_factory.mktemp("run")
    shutil.copytree(tiny_run, directory, dirs_exist_ok=True)
    return directory


@pytest.mark.parametrize(
    "words", ["report.html", "din+knowledge", "epoch 1 of 1", "din, seed 1: validation AUC", "question 'any'", "hr@10"]
)
def test_a_run_prints_its_progress_and_results(finished: Path, words: str) -> None:
    assert words in (finished / "printed.txt").read_text()


def test_summary_matches_its_schema(finished: Path) -> None:
    summary = json.loads((finished / "runs/tiny/summary.json").read_text())
    schema = json.loads((Path(openlum.__file__).parent / "pipeline/summary.schema.json").read_text())
    jsonschema.validate(summary, schema)
    parts = {
        "ranking",
        "comparisons",
        "calibration",
        "segments",
        "knowledge",
        "fusion",
        "controls",
        "tiers",
        "oracle",
        "retrieval",
        "retrieval_protocol",
        "pretrain",
        "query",
    }
    assert set(summary) == parts | {"environment"}
    live = {"click", "skip", "feedback=click", "feedback=skip"}
    fixed = ("any", "feedback:click", "feedback:skip")
    similar = [f"{kind}.{name}" for kind in ("similarity", "similarity_in_context") for name in fixed]
    names = ["feedback=click", "feedback=skip", *similar]
    matched = {f"{tier}.{name}" for tier in ("nightly", "fresh") for name in names}
    assert set(summary["knowledge"]["questions"]) == live | matched
    assert set(summary["tiers"]["ranking"]) == {
        f"{r}+knowledge:{t}" for r in ("dnn", "din") for t in ("nightly", "live")
    }
    assert set(summary["ranking"]) == {"dnn", "dnn+knowledge", "din", "din+knowledge"}
    assert summary["oracle"]["auc"] > max(ranker["auc"]["mean"] for ranker in summary["ranking"].values())


def test_report_shows_an_example_user(finished: Path) -> None:
    report = (finished / "runs/tiny/report.html").read_text()
    example = json.loads((finished / "runs/tiny/example.json").read_text())
    assert example["answers"][0]["items"][0]["title"] in report
    assert "scenario = home" in report
    assert example["next"], "the test period has events of the user"
    assert all(event["title"] in report for event in example["next"])


def test_a_second_run_skips_every_step_and_prints_it(finished: Path) -> None:
    """Also if the time of every file has changed."""
    before = (finished / "runs/tiny/summary.json").read_text()
    for file in (finished / "runs/tiny").rglob("*"):
        os.utime(file)
    done = lum("run", "tiny.yaml", cwd=finished)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("unchanged, skipped") == 6
    assert (finished / "runs/tiny/summary.json").read_text() == before


def test_an_edited_or_incomplete_output_is_written_again_and_the_reason_is_printed(finished: Path) -> None:
    run = finished / "runs/tiny"
    for damage in ((run / "retrieval/metrics.json").unlink, partial((run / "retrieval/metrics.json").write_text, "[]")):
        before = (run / "summary.json").read_text()
        damage()
        done = lum("run", "tiny.yaml", cwd=finished)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("unchanged, skipped") == 5
        assert "retrieval (output was edited: metrics.json)" in done.stdout
        assert (run / "summary.json").read_text() == before


def test_two_runs_of_one_directory_exclude_each_other(finished: Path) -> None:
    with locked(finished / "runs/tiny"):
        done = lum("run", "tiny.yaml", cwd=finished)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"lum: {finished}/runs/tiny: process {os.getpid()} has been writing it since "
        + done.stderr.split("since ")[1]
    )
    assert done.stderr.count("\n") == 1


def test_a_dataset_with_appended_files_is_not_prepared_again_without_them(finished: Path) -> None:
    content = finished / "runs/tiny/dataset/dataset.json"
    before = content.read_text()
    content.write_text(before.replace('"preparations": 1', '"preparations": 2'))
    done = lum("run", "tiny.yaml", cwd=finished)
    content.write_text(before)
    assert done.returncode == 2
    assert "runs/tiny/dataset: 'lum prepare' has added new files to this dataset" in done.stderr


def test_a_changed_setting_runs_the_steps_that_depend_on_it(finished: Path) -> None:
    done = run_changed(finished, "at: [10]", "at: [5]")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("unchanged, skipped") == 5
    assert "hr@5" in (finished / "runs/tiny/summary.json").read_text()


def test_a_misspelt_question_is_found_before_training(finished: Path) -> None:
    (finished / "typo.yaml").write_text(
        CONFIG.replace("name: tiny", "name: typo").replace("{feedback: skip,", "{feedback: skp,")
    )
    done = lum("run", "typo.yaml", cwd=finished)
    assert done.returncode == 2
    assert "question 'skip'" in done.stderr
    assert "'skp' was not in the training data" in done.stderr
    assert not (finished / "runs/typo/model").exists()


def test_a_misspelt_question_of_the_rankers_is_found_before_training(finished: Path) -> None:
    changed = yaml.safe_load(CONFIG) | {"name": "unasked"}
    changed["rank"] = (changed.get("rank") or {}) | {"knowledge": {"matching_questions": ["skp"]}}
    (finished / "unasked.yaml").write_text(yaml.safe_dump(changed))
    done = lum("run", "unasked.yaml", cwd=finished)
    assert done.returncode == 2
    assert "unasked.yaml: rank.knowledge: the knowledge has no question 'skp'; choose from " in done.stderr
    assert not (finished / "runs/unasked/model").exists()


def test_missing_impressions_are_found_before_training(finished: Path) -> None:
    """A schema of the events alone, without the impressions."""
    schema = yaml.safe_load((finished / "runs/tiny/log/schema.yaml").read_text())
    del schema["impressions"]
    (finished / "runs/tiny/log/events.yaml").write_text(yaml.safe_dump(schema))
    text = CONFIG.replace("name: tiny", "name: bare").replace(
        "market: {users: 120, items: 150, sessions: 6, seed: 3}", "schema_file: runs/tiny/log/events.yaml"
    )
    (finished / "bare.yaml").write_text(text)
    done = lum("run", "bare.yaml", cwd=finished)
    assert done.returncode == 2
    assert "the log has no impressions, so there is nothing to rank" in done.stderr
    assert "impressions_from_events: {negatives: 4}" in done.stderr
    assert "rank: null" in done.stderr
    assert not (finished / "runs/bare/model").exists()
    assert not (finished / "runs/bare/config.resolved.yaml").exists()


def test_steps_that_are_left_out_are_not_in_the_summary(finished: Path) -> None:
    done = run_changed(finished, "retrieve: {", "retrieve: null #")
    assert done.returncode == 0, done.stderr
    assert "retrieval" not in json.loads((finished / "runs/tiny/summary.json").read_text())


def test_single_steps_give_the_results_of_a_run(finished: Path) -> None:
    run = "runs/tiny"
    steps = [
        ["prepare", f"{run}/log/schema.yaml", "-o", "steps/dataset"],
        ["pretrain", "-d", "steps/dataset", "-o", "steps/model", "-c", "tiny.yaml"],
        ["query", "-d", "steps/dataset", "-m", "steps/model", "-o", "steps/knowledge", "-c", "tiny.yaml"],
        ["retrieve", "-d", "steps/dataset", "-m", "steps/model", "-o", "steps/retrieval", "-c", "tiny.yaml"],
    ]
    for step in steps:
        done = lum(*step, cwd=finished)
        assert done.returncode == 0, done.stderr
    by_steps, by_run = ((finished / d / "retrieval/metrics.json").read_text() for d in ("steps", run))
    assert json.loads(by_steps)["retrieval"]["any"]["mrr"] == json.loads(by_run)["retrieval"]["any"]["mrr"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.yaml"], "none.yaml: no such file"),
        (["data", "ml-2m"], "unknown public data set 'ml-2m'"),
        (["data", "ml-1m", "--from", "."], "ratings.dat"),
        (["prepare", "none.yaml", "-o", "x"], "none.yaml: no such file"),
        (["pretrain", "-d", "nowhere", "-o", "x"], "lum prepare"),
        (["query", "-d", "runs/tiny/dataset", "-m", "nowhere", "-o", "x"], "lum pretrain"),
        (["rank", "-d", "runs/tiny/dataset", "-k", "nowhere", "-o", "x"], "lum query"),
        (["prepare", "runs/tiny/log/schema.yaml", "-o", "tiny.yaml"], "is a file"),
        (["prepare", "runs/tiny/log/schema.yaml", "-o", "."], "lum did not write"),
        (["prepare"], "give SCHEMA and --out DATASET"),
    ],
)
def test_wrong_input_gives_one_message_and_status_2(finished: Path, arguments: list[str], message: str) -> None:
    done = lum(*arguments, cwd=finished)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not (finished / "x").exists()


def test_an_internal_error_gives_status_1(finished: Path, tmp_path: Path) -> None:
    code = "import openlum.sources.public as p; p.write = lambda *a: 1 / 0\nfrom openlum.cli import main; main()"
    command = [sys.executable, "-c", code, "data", "ml-1m"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "internal error" in done.stderr
    assert "Traceback" not in done.stderr


def test_importing_the_package_and_the_command_line_imports_no_heavy_library() -> None:
    code = "import sys, openlum, openlum.cli; print([m for m in ('torch', 'ibis', 'pandas', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_new_question_retrains_only_what_reads_it(tiny_run: Path, tmp_path: Path) -> None:
    """The model, the retrieval evaluation and the rankers stay: the tier *fresh* reads no questions. *live* reads the new one."""
    directory = tmp_path / "run"
    shutil.copytree(tiny_run, directory)
    ranker = directory / "runs/tiny/ranker"
    before = {file.name: file.read_bytes() for file in ranker.glob("*.safetensors")}
    metrics = json.loads((ranker / "metrics.json").read_text())
    epochs = json.loads((ranker / "curves.json").read_text())
    done = run_changed(directory, "skip: {feedback: skip,", "home: {scenario: home}, skip: {feedback: skip,")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(("pretrain", "query", "rank ", "retrieve"))]
    assert [line.split()[:2] for line in lines if "unchanged" in line] == [
        ["pretrain", "unchanged,"],
        ["retrieve", "unchanged,"],
    ]
    assert "(settings changed)" in lines[1]
    assert "(inputs changed: knowledge)" in lines[2]
    trained_before = [line for line in done.stdout.splitlines() if line.endswith("(trained before)")]
    assert [line.partition(":")[0] for line in trained_before] == [
        f"{name}, seed {seed}" for name in ("dnn", "din") for seed in (0, 1)
    ]
    after = {file.name: file.read_bytes() for file in ranker.glob("*.safetensors")}
    assert after == before
    assert json.loads((ranker / "curves.json").read_text()) == epochs
    after_metrics = json.loads((ranker / "metrics.json").read_text())
    assert after_metrics["ranking"] == metrics["ranking"]
    assert set(after_metrics["knowledge"]["questions"]) - set(metrics["knowledge"]["questions"]) == {"home"}
