import json
import shutil
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from openlum.artefact.manifest import MANIFEST
from openlum.data.dataset import Dataset, Split
from openlum.errors import InputError
from openlum.evaluation.metrics import request_metrics
from openlum.rank.batches import RankingData, Rows
from openlum.rank.knowledge import load_knowledge
from openlum.rank.rankers import load_ranker
from openlum.rank.rankers.base import Ranker
from openlum.rank.run import evaluate, rank, rankers_to_highlight
from openlum.rank.settings import KnowledgeSettings, RankSettings
from openlum.rank.train import fit
from tests.rank.planted import true_probability


@pytest.fixture(scope="module")
def truth(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    test = dataset.impressions("test")
    file = tmp_path_factory.mktemp("truth") / "truth.parquet"
    order = np.random.default_rng(0).permutation(len(test.row))
    probability = true_probability(dataset, test.user, test.item)
    pq.write_table(pa.table({"row": test.row[order], "probability": probability[order]}), file)
    return file


def test_rank_writes_what_it_returns(
    dataset: Dataset, knowledge_dir: Path, truth: Path, settings: RankSettings, tmp_path: Path
) -> None:
    short = settings.model_copy(update={"max_epochs": 2})
    summary = rank(str(dataset.path), str(knowledge_dir), str(tmp_path / "ranker"), short, str(truth))
    names = ["dnn", "dnn+knowledge", "din", "din+knowledge"]
    assert json.loads((tmp_path / "ranker" / "metrics.json").read_text()) == summary
    assert list(summary["ranking"]) == list(summary["validation"]) == names
    for figures in summary["ranking"].values():
        assert list(figures) == ["auc", "gauc", "logloss", "ne"]
        assert figures["auc"]["mean"] == pytest.approx(np.mean(figures["auc"]["seeds"]))
        assert len(figures["auc"]["seeds"]) == 2
    for comparison in summary["comparisons"]:
        means = [summary["ranking"][comparison[side]]["auc"]["mean"] for side in ("a", "b")]
        assert comparison["difference"] == pytest.approx(means[0] - means[1])
        assert comparison["ci95"][0] < comparison["difference"] < comparison["ci95"][1]
        assert comparison["difference"] > 0
        # Both seeds of `dnn` agree. In two epochs one seed of `din` learns the taste by itself, and the other seed does not.
        assert comparison["p_value"] < (0.01 if comparison["b"] == "dnn" else 0.5)
    assert [comparison["b"] for comparison in summary["comparisons"]] == ["dnn", "din"]
    assert summary["oracle"]["auc"] > max(figures["auc"]["mean"] for figures in summary["ranking"].values()) - 0.01
    assert all(1 <= epoch <= 2 for epochs in summary["epochs"].values() for epoch in epochs)
    segments, best = summary["segments"], max(["dnn", "din"], key=lambda n: summary["validation"][n]["auc"]["mean"])
    assert (segments["without"], segments["with"]) == (best, f"{best}+knowledge")
    assert [group["by"] for group in segments["groups"]] == ["user", "item", "condition.scene"]
    test = dataset.impressions("test")
    for bins in summary["calibration"].values():
        assert sum(bin["predictions"] for bin in bins) == 2 * len(test.label)
        predicted, observed = (
            np.average([bin[key] for bin in bins], weights=[bin["predictions"] for bin in bins])
            for key in ("predicted", "observed")
        )
        assert observed == pytest.approx(test.label.mean())
        assert predicted == pytest.approx(observed, abs=0.05)  # calibrated on the validation rows
    for name in names:
        table = pq.read_table(tmp_path / "ranker" / "predictions" / f"{name}-seed1.parquet")
        assert table["row"].to_pylist() == test.row.tolist()
        assert table.schema.field("prediction").type == pa.float32()
        assert load_ranker(tmp_path / "ranker" / f"{name}-seed1.safetensors").config.architecture == name.split("+")[0]


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_knowledge_is_an_input_or_joins_the_logit(
    fusion: str, dataset: Dataset, knowledge_dir: Path, settings: RankSettings, tmp_path: Path
) -> None:
    """End-to-end rankers have no inputs for knowledge. Only the answers that are inputs are read."""
    knowledge = KnowledgeSettings.model_validate(
        {"fusion": fusion, "tier": "live"} | ({"direct_questions": ["dislike"]} if fusion == "early" else {})
    )
    changes = {"max_epochs": 1, "seeds": [3], "rankers": ["dnn", "sasrec"], "knowledge": knowledge}
    summary = rank(dataset.path, knowledge_dir, tmp_path / "ranker", settings.model_copy(update=changes))
    late = ["sasrec+knowledge"] if fusion == "late" else []
    assert list(summary["ranking"]) == ["dnn", "dnn+knowledge", "sasrec", *late]
    with_knowledge = load_ranker(tmp_path / "ranker" / "dnn+knowledge-seed3.safetensors")
    assert with_knowledge.config.late_fusion == (fusion == "late")
    assert with_knowledge.config.knowledge is not None
    assert with_knowledge.config.knowledge.answers == (["dislike"] if fusion == "early" else [])
    data = RankingData(dataset, with_knowledge.config.settings, load_knowledge(knowledge_dir, dataset))
    predicted = with_knowledge.predict(data, data.rows["test"])
    written = pq.read_table(tmp_path / "ranker" / "predictions" / "dnn+knowledge-seed3.parquet")
    np.testing.assert_allclose(predicted, written["prediction"].to_numpy(), atol=1e-6)
    assert summary["ranking"]["dnn"] != summary["ranking"]["dnn+knowledge"]


@pytest.mark.parametrize(("ranker", "key"), [("dnn", "rank.learning_rate"), ("sasrec", "rank.sequence.learning_rate")])
def test_divergence_in_the_first_epoch_is_an_error(
    ranker: str, key: str, dataset: Dataset, settings: RankSettings, tmp_path: Path
) -> None:
    sequence = settings.sequence.model_copy(update={"learning_rate": 1e30})
    changes = {"rankers": [ranker], "learning_rate": 1e30, "sequence": sequence}
    with pytest.raises(InputError, match=f"{ranker}: diverged in its first epoch, .* lower {key}$"):
        rank(dataset.path, None, tmp_path / "ranker", settings.model_copy(update=changes))


def test_after_a_later_divergence_the_best_epoch_is_kept(
    dataset: Dataset, settings: RankSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = RankingData(dataset, settings)
    config = data.config("dnn", False)
    predict, calls = Ranker.predict, iter(range(10))

    def diverge_in_third_epoch(self: Ranker, data: RankingData, rows: Rows) -> np.ndarray:
        prediction = predict(self, data, rows)
        return prediction * np.nan if next(calls) == 2 else prediction

    monkeypatch.setattr(Ranker, "predict", diverge_in_third_epoch)
    trained = fit(config, data, seed=0)
    assert len(trained.epochs) == 2
    monkeypatch.setattr(Ranker, "predict", predict)
    np.testing.assert_allclose(trained.ranker.predict(data, data.rows["valid"]), trained.valid, atol=1e-6)


def test_without_knowledge_only_plain_rankers_are_trained(
    dataset: Dataset, settings: RankSettings, tmp_path: Path
) -> None:
    short = settings.model_copy(update={"max_epochs": 1, "seeds": [3], "rankers": ["dnn"]})
    summary = rank(dataset.path, None, tmp_path / "ranker", short)
    assert list(summary["ranking"]) == ["dnn"]
    assert summary["ranking"]["dnn"]["auc"]["std"] == 0
    assert summary["comparisons"] == []
    assert list(summary["calibration"]) == ["dnn"]
    assert not {"oracle", "segments"} & set(summary)


def test_the_report_highlights_rankers_chosen_on_validation() -> None:
    def highlight(**valid_auc: float) -> tuple[list[str], tuple[str, str] | None]:
        names = {name.replace("_k", "+knowledge"): value for name, value in valid_auc.items()}
        return rankers_to_highlight({name: {"auc": {"mean": value}} for name, value in names.items()})

    pair = ("din", "din+knowledge")
    assert highlight(dnn=0.6, din=0.7) == (["din"], None)
    assert highlight(dnn=0.6, dnn_k=0.7, din=0.65, din_k=0.8) == (["din", "din+knowledge"], pair)
    assert highlight(dnn=0.6, dnn_k=0.9, din=0.65, din_k=0.8) == (["din", "din+knowledge", "dnn+knowledge"], pair)
    assert highlight(sasrec=0.9, din=0.65, din_k=0.8) == (["sasrec", "din+knowledge"], pair)


def test_a_truth_that_does_not_fit_is_refused_before_training(
    dataset: Dataset, truth: Path, settings: RankSettings, tmp_path: Path
) -> None:
    pq.write_table(pq.read_table(truth).slice(1), tmp_path / "truth.parquet")
    with pytest.raises(InputError, match="no probability for some test rows"):
        rank(dataset.path, None, tmp_path / "ranker", settings, tmp_path / "truth.parquet")
    with pytest.raises(InputError, match=r"none\.parquet"):
        rank(dataset.path, None, tmp_path / "ranker", settings, tmp_path / "none.parquet")
    for column, value, message in (("row", "seven", "column row is"), ("probability", 1.5, "expected 0 to 1")):
        table = pq.read_table(truth)
        wrong = pa.array([value] * len(table))
        file = tmp_path / f"{column}.parquet"
        pq.write_table(table.set_column(table.column_names.index(column), column, wrong), file)
        with pytest.raises(InputError, match=rf"{file.name}: .*{message}"):
            rank(dataset.path, None, tmp_path / "ranker", settings, file)
    assert not (tmp_path / "ranker").exists()


@pytest.mark.parametrize(
    ("split", "labels", "message"),
    [("valid", 1.0, "label 1, and rankers need both labels.*rank: null"), ("test", None, "no test impr")],
)
def test_splits_without_both_labels_are_refused(
    split: Split, labels: float | None, message: str, dataset: Dataset, settings: RankSettings, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(dataset.path, tmp_path / "dataset", ignore=shutil.ignore_patterns(MANIFEST)))
    for file in (copied / "impressions" / split).glob("*.parquet"):
        table = pq.read_table(file)
        rows = table.slice(0, 0 if labels is None else len(table))
        label = pa.array(np.full(len(rows), labels or 0), table.schema.field("label").type, safe=False)
        pq.write_table(rows.set_column(rows.column_names.index("label"), "label", label), file)
    with pytest.raises(InputError, match=message):
        rank(copied, None, tmp_path / "ranker", settings)


def test_metrics_within_requests_come_first_where_rows_have_requests(data: RankingData) -> None:
    rows = {split: data.rows[split] for split in ("valid", "test")}
    rng = np.random.default_rng(0)
    predictions = {split: {"din": [rng.random(len(part))]} for split, part in rows.items()}
    assert next(iter(evaluate(data, predictions["valid"], predictions["test"])[0]["din"])) == "auc"
    in_requests = {split: replace(part, request=torch.arange(len(part)) // 10) for split, part in rows.items()}
    with mock.patch.object(data, "rows", in_requests):
        figures = evaluate(data, predictions["valid"], predictions["test"])[0]["din"]
    assert list(figures) == ["request_gauc", "request_ndcg", "auc", "gauc", "logloss", "ne"]
    label, request = in_requests["test"].label.numpy(), in_requests["test"].request
    assert request is not None
    expected = request_metrics(label, predictions["test"]["din"][0], request.numpy())
    assert figures["request_gauc"]["mean"] == expected["request_gauc"]
    assert len(in_requests["test"].take(torch.arange(3)).request) == 3
