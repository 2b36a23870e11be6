"""`lum bench retrieval` end to end, on a tiny benchmark."""

import json
from pathlib import Path

import numpy as np
import pytest

from openlum.bench import retrieval
from openlum.retrieve.settings import BASELINES
from tests.bench.tiny import check_form, forbid, lum_bench

pytestmark = pytest.mark.usefixtures("tiny_benchmark")


def test_retrieval_result_tables_and_reuse(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first seed runs in this process, the second in worker processes. Then the command runs again without any training."""
    command = ["retrieval", "-d", "tiny", "--runs", str(runs)]
    assert lum_bench(*command, "--processes", "1").exit_code == 0
    command += ["--seeds", "2", "--processes", "2"]
    done = lum_bench(*command)
    assert done.exit_code == 0, (done.output, done.exception)
    file = runs / "bench-tiny" / "retrieval.json"
    result = json.loads(file.read_text())
    assert set(result["retrieval"]) == {"sasrec", "hstu", "lum: any", "lum: known", *BASELINES}
    for text in (done.output, file.with_suffix(".svg").read_text()):
        assert all(name in text for name in result["retrieval"])
    assert result["bench"]["told_more"] == ["lum: known"]
    for name, metrics in result["retrieval"].items():
        assert set(metrics) == {"hr@10", "ndcg@10", "mrr"}
        seeds = [seed_metrics[name]["mrr"] for seed_metrics in result["bench"]["by_seed"]]
        assert len(set(seeds)) == (1 if name in BASELINES else 2)  # baselines have no seed
        assert metrics["mrr"] == pytest.approx(np.mean(seeds))
    assert result["retrieval_protocol"]["users"] > 50
    check_form(result)
    comparisons = {(entry["a"], entry["b"], entry["metric"]): entry for entry in result["comparisons"]}
    metrics = ("hr@10", "ndcg@10", "mrr")
    assert set(comparisons) == {("lum: any", b, metric) for b in ("sasrec", "hstu", *BASELINES) for metric in metrics}
    for (a, b, metric), comparison in comparisons.items():
        difference = result["retrieval"][a][metric] - result["retrieval"][b][metric]
        assert comparison["difference"] == pytest.approx(difference)

    monkeypatch.setattr(retrieval, "_train", forbid)
    stored = runs / "bench-tiny" / "retrieval" / "hstu-seed0.json"
    content = stored.read_text()
    for damage in (content[: len(content) // 2], "[]", content.replace("seconds", "second", 1)):
        stored.write_text(damage)
        assert isinstance(
            lum_bench(*command, "--processes", "1").exception, AssertionError
        )  # a damaged result is trained again
    stored.write_text(content)
    repeated = lum_bench(*command)
    assert repeated.exit_code == 0, (repeated.output, repeated.exception)
    assert json.loads(file.read_text()) == result
    assert lum_bench(*command, "--opponents", "hstu", "--json", str(runs / "hstu.json")).exit_code == 0
    assert set(json.loads((runs / "hstu.json").read_text())["retrieval"]) == {
        "hstu",
        "lum: any",
        "lum: known",
        *BASELINES,
    }


def test_a_new_question_trains_nothing(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the answers of the Large User Model are evaluated again."""
    command = ["retrieval", "-d", "tiny", "--runs", str(runs), "--processes", "1"]
    assert lum_bench(*command).exit_code == 0
    monkeypatch.setattr(retrieval, "pretrain", forbid)
    monkeypatch.setattr(retrieval, "fit_sequential", forbid)
    done = lum_bench(*command, "--set", "retrieval.retrieve.questions.home={scenario: home}")
    assert done.exit_code == 0, (done.output, done.exception)
    result = json.loads((runs / "bench-tiny" / "retrieval.json").read_text())
    assert set(result["retrieval"]) == {"sasrec", "hstu", "lum: any", "lum: home", "lum: known", *BASELINES}
