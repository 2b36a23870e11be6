"""Tables of benchmark results."""

import io

import pytest
from rich.console import Console

from openlum.bench.report import comparison_table, ranking_table, retrieval_comparison_table, retrieval_table
from openlum.evaluation.methods import METRICS

NAMES = ["lightgbm", "sasrec", "lightgbm+knowledge"]


WITHOUT_REQUESTS = [metric for metric in METRICS if not metric.startswith("request_")]


@pytest.mark.parametrize(("metrics", "width"), [(WITHOUT_REQUESTS, 80), (list(METRICS), 100)])
def test_no_text_is_cut_in_a_narrow_terminal(metrics: list[str], width: int) -> None:
    metric = {"mean": 0.72, "std": 0.0007, "seeds": [0.7193, 0.7207]}
    comparison = {
        "a": NAMES[2],
        "b": NAMES[0],
        "difference": -0.0075,
        "bootstrap95": [-0.0142, -0.0005],
        "p_value": 0.04,
    }
    result = {
        "bench": {"dataset": "market", "seeds": [0, 1], "models": 1},
        "ranking": {name: dict.fromkeys(metrics, metric) for name in NAMES},
        "comparisons": [comparison],
    }
    out = io.StringIO()
    for table in (ranking_table(result), comparison_table(result)):
        Console(file=out, width=width).print(table)
    words = out.getvalue().split()
    assert "…" not in out.getvalue()
    assert words.count("lightgbm") == 4  # two rankers, and both sides of their comparison
    assert words.count("+knowledge") == 2
    assert words.count("0.7200") == words.count("0.0007") == len(NAMES) * len(metrics)
    assert {"−0.0075", "−0.0142", "−0.0005"} <= set(words)
    assert "seeds share trainings" in " ".join(words)
    assert comparison_table(result | {"bench": result["bench"] | {"models": 2}}).caption is None


def test_the_retrieval_table_shows_the_spread_over_seeds() -> None:
    by_seed = [{"sasrec": {"hr@10": 0.30}, "lum: any": {"hr@10": hr}} for hr in (0.33, 0.35)]
    result = {
        "bench": {"dataset": "market", "seeds": [0, 1], "by_seed": by_seed, "told_more": []},
        "retrieval": {"sasrec": {"hr@10": 0.30}, "lum: any": {"hr@10": 0.34}},
    }
    out = io.StringIO()
    Console(file=out, width=80).print(retrieval_table(result))
    assert "0.3000 ± 0.0000" in out.getvalue()
    assert "0.3400 ± 0.0141" in out.getvalue()


@pytest.mark.parametrize(("seeds", "caption"), [([0], "one training per method"), ([0, 1], "None")])
def test_the_caption_mentions_a_single_training(seeds: list[int], caption: str) -> None:
    comparison = {
        "a": "lum: any",
        "b": "sasrec",
        "metric": "hr@10",
        "difference": 0.1,
        "ci95": [0.0, 0.2],
        "p_value": 0.05,
    }
    result = {"bench": {"dataset": "market", "seeds": seeds}, "comparisons": [comparison]}
    assert str(retrieval_comparison_table(result).caption).startswith(caption)
