"""The tables of rankers, controls and tiers, in the terminal and on the page."""

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from openlum.report.run_report import knowledge_gains, summary_table, write_report
from openlum.report.tiers import tier_rows, tier_table
from tests.report.summaries import SUMMARY, fill, metric, ranker


def test_gains_distinguish_improvement_harm_and_no_difference() -> None:
    gains = knowledge_gains(SUMMARY)
    assert [(gain["b"], gain["verdict"]) for gain in gains] == [("dnn", "improves"), ("din", "improves")]
    plain = SUMMARY["ranking"]["dnn"]["auc"]["mean"]
    assert gains[0]["oracle_gap_share"] == pytest.approx(0.096 / (0.85 - plain))
    other = copy.deepcopy(SUMMARY)
    other["comparisons"][0] |= {"difference": -0.01}
    other["comparisons"][1] |= {"p_value": 0.4}
    verdicts = [gain["verdict"] for gain in knowledge_gains(other)]
    assert verdicts == ["harms", "makes no significant difference to"]


def test_summary_table_has_a_row_for_each_ranker_control_and_the_oracle() -> None:
    table = summary_table(SUMMARY)
    assert table.row_count == 6
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table)
    text = console.export_text()
    for part in ("din+knowledge", "0.7563 ± 0.0012", "+0.0550, p = 0.0003", "0.8500"):
        assert part in text


def test_the_page_and_the_table_show_controls_and_harm(tmp_path: Path) -> None:
    fill(tmp_path)
    page = write_report(tmp_path).read_text()
    assert "KNOWLEDGE HARMS din" in page
    assert "98 % of the validation rows&#39; items were not in the training period" in page
    assert "control:counters" in page
    console = Console(file=io.StringIO(), width=120)
    console.print(summary_table(SUMMARY))
    text = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "KNOWLEDGE HARMS din" in text
    assert "din+control:counters" in text
    assert "+0.0090, p = 0.02" in text


def test_knowledge_that_is_not_used_adds_nothing() -> None:
    summary = copy.deepcopy(SUMMARY)
    summary["fusion"]["rankers"]["dnn+knowledge"]["kept"] = [False, False]
    gain = knowledge_gains(summary)[0]
    assert (gain["b"], gain["verdict"], gain["used"]) == ("dnn", "adds nothing to", False)


def test_metrics_within_a_request_come_first_where_they_exist(tmp_path: Path) -> None:
    fill(tmp_path)
    within = {"request_gauc": metric(0.6123), "request_ndcg": metric(0.4567)}
    ranking = {name: within | metrics for name, metrics in SUMMARY["ranking"].items()}
    names = [str(column.header) for column in summary_table(SUMMARY | {"ranking": ranking}).columns]
    assert names[:4] == ["Ranker", "AUC in request", "NDCG@10 in request", "AUC"]
    assert "in request" not in " ".join(str(column.header) for column in summary_table(SUMMARY).columns)
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY | {"ranking": ranking}))
    page = write_report(tmp_path).read_text()
    assert page.index("<th>AUC in request</th>") < page.index("<th>AUC</th>")
    assert "0.4567" in page


def with_tiers() -> dict[str, Any]:
    """Return a summary in which `din` and `dnn` have knowledge of all tiers."""
    names = [f"{name}+knowledge:{tier}" for name in ("dnn", "din") for tier in ("nightly", "live")]
    comparisons = [
        SUMMARY["comparisons"][0] | {"a": name, "b": name.partition("+")[0], "difference": 0.0123} for name in names
    ]
    tiers = {
        "ranking": {name: ranker(0.75) for name in names},
        "validation": {},
        "kept": {},
        "comparisons": comparisons,
    }
    costs = {
        tier: {"bytes_per_user": 1408 if tier != "live" else 300_000, "microseconds_per_candidate": 2.5}
        for tier in ("nightly", "fresh", "live")
    }
    return SUMMARY | {"tiers": tiers, "query": SUMMARY["query"] | {"costs": costs}}


def test_tiers_have_a_row_for_each_ranker_and_the_costs(tmp_path: Path) -> None:
    summary = with_tiers()
    rows = tier_rows(summary)
    assert [(row["ranker"], row["tier"]) for row in rows] == [
        (name, tier) for name in ("dnn", "din") for tier in ("nightly", "fresh", "live")
    ]
    assert rows[1]["auc"] == SUMMARY["ranking"]["dnn+knowledge"]["auc"]
    assert rows[0]["gain"]["difference"] == 0.0123
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(tier_table(summary))
    text = " ".join(console.export_text().split())
    fill(tmp_path)
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    page = write_report(tmp_path).read_text()
    for part in ("1,408 bytes a user, 2.5 µs a candidate", "the user encoder, for every candidate; 300,000 bytes"):
        assert part in text
        assert part in page
    assert "Tiers of knowledge" in page


def test_knowledge_of_one_tier_has_no_table_of_tiers(tmp_path: Path) -> None:
    assert tier_table(SUMMARY) is None
    fill(tmp_path)
    assert "Tiers of knowledge" not in write_report(tmp_path).read_text()
