"""The control `counters`: what they count, and how they stand beside knowledge in the results."""

from pathlib import Path

import numpy as np

from openlum.data.dataset import SPLITS, Dataset
from openlum.evaluation.metrics import auc
from openlum.rank.batches import RankingData
from openlum.rank.controls import control_scores, joined_predictions
from openlum.rank.counters import SMOOTHING, counter_scores
from openlum.rank.run import rank
from openlum.rank.settings import RankSettings


def test_counters_equal_a_count_row_by_row(data: RankingData) -> None:
    counters = counter_scores(data, ["test"])["test"]
    splits = [data.rows[split] for split in SPLITS]
    user, item, time, label, scene = (
        np.concatenate(columns)
        for columns in zip(
            *((r.user, r.item, r.time, r.label, data.column(r, "condition.scene")) for r in splits), strict=True
        )
    )
    test_scene = data.column(data.rows["test"], "condition.scene")
    prior = data.rows["train"].label.numpy().mean()
    events = data.dataset.sequences
    for index in range(0, len(counters), 97):
        row = data.rows["test"].take(np.array([index]))  # type: ignore[arg-type]
        earlier = time < row.time.numpy()
        same_user, same_item = earlier & (user == int(row.user)), earlier & (item == int(row.item))
        same_scene = scene == int(test_scene[index])
        item_events = ((events.item == int(row.item)) & (events.time < int(row.time))).sum()

        def log_odds(rows: np.ndarray) -> float:
            share = (label[rows].sum() + SMOOTHING * prior) / (rows.sum() + SMOOTHING)
            return float(np.log(share / (1 - share)))

        expected = [np.log1p(int(row.prefix)), np.log1p(item_events), log_odds(same_user), log_odds(same_item)]
        for rows in (same_user & same_scene, same_item & same_scene):
            expected += [np.log1p(rows.sum()), log_odds(rows)]
        np.testing.assert_allclose(counters[index], expected, rtol=1e-4, atol=1e-5)


def test_labels_at_or_after_a_row_do_not_change_its_counters(data: RankingData) -> None:
    before = counter_scores(data, ["test"])["test"]
    rows, half = data.rows["test"], int(data.rows["test"].time.median())
    late = rows.time >= half
    original = rows.label.clone()
    try:
        rows.label[late] = 1 - rows.label[late]
        after = counter_scores(data, ["test"])["test"]
    finally:
        rows.label[:] = original
    early = (rows.time <= half).numpy()
    np.testing.assert_array_equal(after[early], before[early])
    assert (after[~early] != before[~early]).any()


def test_counters_help_a_ranker_that_knows_nothing(data: RankingData) -> None:
    constant = {"dnn": [np.full(len(data.rows["valid"]), 0.5, np.float32)]}
    test = {"dnn": [np.full(len(data.rows["test"]), 0.5, np.float32)]}
    valid, predicted, kept = joined_predictions(data, constant, test, control_scores(data))
    assert kept == {"dnn+control:counters": [True]}
    assert auc(data.rows["test"].label.numpy(), predicted["dnn+control:counters"][0]) > 0.55
    assert len(valid["dnn+control:counters"][0]) == len(data.rows["valid"])


def test_controls_stand_beside_knowledge(
    dataset: Dataset, knowledge_dir: Path, settings: RankSettings, tmp_path: Path
) -> None:
    short = settings.model_copy(update={"max_epochs": 1, "seeds": [3], "rankers": ["dnn"]})
    summary = rank(dataset.path, knowledge_dir, tmp_path / "ranker", short)
    controls = summary["controls"]
    assert list(controls["ranking"]) == list(controls["kept"]) == ["dnn+control:counters"]
    pairs = [(comparison["a"], comparison["b"]) for comparison in controls["comparisons"]]
    assert pairs == [("dnn+control:counters", "dnn"), ("dnn+knowledge", "dnn+control:counters")]
    assert list(summary["ranking"]) == ["dnn", "dnn+knowledge"]
    fusion = summary["fusion"]
    assert fusion["rankers"]["dnn+knowledge"]["kept"] == [True]
    assert 0 <= fusion["rows"]["new_items"] <= 1
    without = rank(dataset.path, knowledge_dir, tmp_path / "ranker", short.model_copy(update={"controls": []}))
    assert "controls" not in without
