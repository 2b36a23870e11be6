"""`lum bench tiers` end to end, on a tiny benchmark."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from openlum.artefact.json_file import read_json
from openlum.bench import no_user, pipeline
from openlum.bench.no_user import SPLITS
from openlum.bench.report import tiers_table
from openlum.bench.settings import bench_file, load_bench
from openlum.bench.tiers import ALL_TIERS, CONTROLS, ENDINGS, NONE, TIERS
from openlum.data.dataset import Dataset
from openlum.model import LargeUserModel
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import Trainer
from openlum.report.rendering import signed
from tests.bench.tiny import forbid, lum_bench

pytestmark = pytest.mark.usefixtures("tiny_benchmark")


def tiers_command(runs: Path, *options: str) -> list[str]:
    """Return the arguments of the command for one ranker. Each fusion is kept, although the models hardly know anything."""
    words = ["tiers", "-d", "tiny", "--runs", str(runs), "--seeds", "2", "--processes", "1", "--no-tune", *options]
    always = ["--set", "experiment.rank.knowledge.keep=always", "--set", "ablations=[]"]
    return [*words, "--rankers", "dnn", *always, "--json", str(runs / "tiers.json")]


@pytest.fixture(scope="module")
def finished() -> dict[str, Any]:
    """The result of the first test of the module."""
    return {}


def test_tiers_result_table_and_reuse(
    runs: Path, finished: dict[str, Any], trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the command runs again without any training."""
    done = lum_bench(*tiers_command(runs))
    assert done.exit_code == 0, (done.output, done.exception)
    result = json.loads((runs / "tiers.json").read_text())
    finished |= result
    assert trained == ["dnn", "dnn"]  # tiers and controls join the plain ranker
    assert list(result["tiers"]) == list(result["validation"]) == ["dnn"]
    assert set(result["tiers"]["dnn"]) == set(ENDINGS) == {NONE, *TIERS, *CONTROLS}
    for figures in result["tiers"]["dnn"].values():
        assert len(figures["auc"]["seeds"]) == 2
        assert figures["auc"]["mean"] == pytest.approx(np.mean(figures["auc"]["seeds"]))
    assert result["kept"] == {f"dnn{ending}": [True, True] for ending in ENDINGS.values() if ending}
    assert result["bench"]["best"] == "dnn"
    assert result["bench"]["models"] == len(list((runs / "bench-tiny" / "no-user").iterdir())) == 2
    assert result["cost"] == result["query"]["costs"]["nightly"]
    assert 0 < result["cost"]["bytes_per_user"] < result["query"]["costs"]["live"]["bytes_per_user"]
    for key in ENDINGS:
        assert key in done.output

    trained.clear()
    for module, name in ((pipeline, "pretrain"), (pipeline, "query"), (no_user, "_train_and_predict")):
        monkeypatch.setattr(module, name, forbid)
    repeated = lum_bench(*tiers_command(runs))
    assert repeated.exit_code == 0, (repeated.output, repeated.exception)
    assert not trained
    assert json.loads((runs / "tiers.json").read_text()) == result


def test_every_tier_is_compared_with_the_plain_ranker_and_with_every_control(finished: dict[str, Any]) -> None:
    auc = {f"dnn{ENDINGS[key]}": figures["auc"]["mean"] for key, figures in finished["tiers"]["dnn"].items()}
    pairs = {(comparison["a"], comparison["b"]) for comparison in finished["comparisons"]}
    for tier in TIERS:
        assert {(f"dnn{ENDINGS[tier]}", f"dnn{ENDINGS[other]}") for other in (NONE, *CONTROLS)} <= pairs
    assert len(pairs) == len(finished["comparisons"]) == 3 * 3 + 2
    for comparison in finished["comparisons"]:
        assert comparison["difference"] == pytest.approx(auc[comparison["a"]] - auc[comparison["b"]])


def test_no_text_of_the_table_is_cut_in_a_narrow_terminal(finished: dict[str, Any]) -> None:
    out = io.StringIO()
    long = finished | {"tiers": {"lightgbm": finished["tiers"]["dnn"]}, "comparisons": []}
    for result in (finished, long):
        Console(file=out, width=80).print(tiers_table(result))
    assert "…" not in out.getvalue()
    words = out.getvalue().split()
    assert {"lightgbm", "dnn", "nightly", "counters"} <= set(words)
    for comparison in finished["comparisons"]:
        assert signed(comparison["difference"]) in words


def test_the_seeds_use_the_large_user_models_in_turn(runs: Path, finished: dict[str, Any]) -> None:
    """With one model both seeds use it, so only the second seed's figures change with two. What reads no model stays the same.

    The matching head of a tiny model says so little that its weight in the fusion may be 0, so `live` stands for the tiers.
    """
    done = lum_bench(*tiers_command(runs, "--models", "1"))
    assert done.exit_code == 0, (done.output, done.exception)
    shared = json.loads((runs / "tiers.json").read_text())["tiers"]["dnn"]
    for key, figures in finished["tiers"]["dnn"].items():
        separate = figures["auc"]["seeds"]
        assert shared[key]["auc"]["seeds"][0] == separate[0]
    for key, reads_model in ((NONE, False), ("counters", False), ("live", True)):
        seeds, separate = (tiers[key]["auc"]["seeds"] for tiers in (shared, finished["tiers"]["dnn"]))
        assert (seeds[1] != separate[1]) == reads_model, key


def test_the_control_without_users_predicts_every_row(runs: Path) -> None:
    directory = runs / "bench-tiny"
    dataset = Dataset(directory / "dataset")
    for file in (directory / "no-user").iterdir():
        with np.load(file) as predicted:
            for split in SPLITS:
                assert len(predicted[split]) == len(dataset.impressions(split))
                assert np.ptp(predicted[split], 0).min() > 0.1  # items and conditions differ


def test_only_the_matching_head_forgets_the_users(runs: Path, tmp_path: Path) -> None:
    directory = runs / "bench-tiny"
    model_dir = next((directory / "models").glob("model-*[0-9a-f]"))
    model, settings = LargeUserModel.load(model_dir), PretrainSettings(**read_json(model_dir / "training.json", ""))
    trainer = Trainer(model, Dataset(directory / "dataset"), settings, tmp_path)
    before = {name: values.numpy().copy() for name, values in model.network.state_dict().items()}
    trainer.forget_users()
    after = {name: values.numpy() for name, values in model.network.state_dict().items()}
    changed = {name for name, values in after.items() if not np.array_equal(values, before[name], equal_nan=True)}
    assert {name.partition(".")[0] for name in changed} == {"matching_head"}


def test_the_benchmark_adds_all_tiers_to_a_file_that_has_one() -> None:
    experiment = load_bench(bench_file("tiny")).experiment
    assert experiment.query is not None
    assert experiment.query.matching_head == []
    changed = ALL_TIERS.apply_to(experiment)
    assert changed.query is not None
    assert changed.rank is not None
    assert changed.query.matching_head == ["nightly", "fresh"]
    assert changed.rank.knowledge.tier == "fresh"
    assert changed.query.questions == experiment.query.questions
