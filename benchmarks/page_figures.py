"""Read result files and format their figures, for the tables of the pages (`page_tables.py`)."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
KNOWLEDGE = "+knowledge"
END_TO_END = ("sasrec", "hstu")
RANKERS = ("dnn", "dcnv2", "din", "dien", "sim", "lightgbm")


@dataclass(frozen=True)
class RankingFiles:
    """Where the ranking figures of one data set are."""

    name: str
    label: str
    files: dict[str, tuple[str, ...]]
    """Result files, and the rankers whose figures come from each."""
    tuning: str
    """The result file that says which settings were tried."""


ML_1M = "ranking_ml-1m_epyc-2cores_2026-11-28-3.json"
ML_1M_TUNING = "ranking-without-hstu_ml-1m_epyc-2cores_2026-11-28.json"
KUAIRAND = "ranking_kuairand-pure_epyc-2cores_2026-11-28.json"
BEAUTY_FIRST = "ranking_amazon-beauty_epyc-2cores_2026-11-28-3.json"
BEAUTY = "ranking-din-dien-sim-sasrec_amazon-beauty_epyc-2cores_2026-11-29.json"
BEAUTY_TEN_SEEDS = "ranking-dien-sim-10-seeds_amazon-beauty_epyc-2cores_2026-11-30.json"
MARKET = "ranking_market_epyc-2cores_2026-11-28.json"
ALL_METHODS = (*RANKERS, *END_TO_END)
RANKINGS = {
    "ml-1m": RankingFiles("MovieLens-1M", "is a film rated 4 or 5?", {ML_1M: ALL_METHODS}, ML_1M_TUNING),
    "kuairand-pure": RankingFiles("KuaiRand-Pure", "is a video clicked?", {KUAIRAND: ALL_METHODS}, KUAIRAND),
    "amazon-beauty": RankingFiles(
        "Amazon Beauty",
        "which of five items was reviewed?",
        {BEAUTY_FIRST: ("dnn", "dcnv2", "lightgbm", "hstu"), BEAUTY: ("din", "dien", "sim", "sasrec")},
        BEAUTY_FIRST,
    ),
    "market": RankingFiles("market (simulated)", "is an item clicked?", {MARKET: ALL_METHODS}, MARKET),
}


@cache
def read_result(name: str) -> dict[str, Any]:
    """Return the content of a file under benchmarks/results/."""
    content: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return content


def methods(key: str, part: str = "ranking") -> dict[str, dict[str, Any]]:
    """Return the metrics of every method of a data set, on the test rows or (`part="validation"`) the validation rows."""
    return {
        method: metrics
        for file, rankers in RANKINGS[key].files.items()
        for method, metrics in read_result(file)[part].items()
        if _uses_only(method, rankers)
    }


def comparison(key: str, first: str, second: str) -> dict[str, Any]:
    """Return the paired comparison of two methods of a data set."""
    for file, rankers in RANKINGS[key].files.items():
        for entry in read_result(file)["comparisons"]:
            if (entry["a"], entry["b"]) == (first, second) and _uses_only(f"{first} & {second}", rankers):
                return dict(entry)
    raise KeyError(f"{key}: no result file compares {first!r} with {second!r}")


def _uses_only(method: str, rankers: tuple[str, ...]) -> bool:
    return all(part.removesuffix(KNOWLEDGE) in rankers for part in method.split(" & "))


def best(key: str, names: list[str]) -> str:
    """Return the method with the highest validation AUC."""
    validation = methods(key, "validation")
    return max((name for name in names if name in validation), key=lambda name: validation[name]["auc"]["mean"])


def best_methods(key: str) -> tuple[str, str, str]:
    """Return the best ranker without knowledge, the best ranker with it, and the best end-to-end model."""
    return best(key, [*RANKERS]), best(key, [name + KNOWLEDGE for name in RANKERS]), best(key, [*END_TO_END])


def number(value: float) -> str:
    """Format a metric with four decimals."""
    return f"{value:.4f}"


def signed(value: float) -> str:
    """Format a difference with its sign."""
    return f"{value:+.4f}".replace("-", "−")


def spread(metric: dict[str, Any]) -> str:
    """Format mean ± standard deviation over seeds, or the mean alone where there is one seed."""
    return number(metric["mean"]) + (f" ± {number(metric['std'])}" if len(metric["seeds"]) > 1 else "")


def with_interval(entry: dict[str, Any], kind: str = "bootstrap95") -> str:
    """Format a difference with its 95 % interval: the bootstrap's where the result has one."""
    low, high = entry.get(kind) or entry["ci95"]
    return f"{signed(entry['difference'])} ({signed(low)} to {signed(high)})"


def p_value(entry: dict[str, Any]) -> str:
    """Format the p-value of a comparison."""
    p = entry["p_value"]
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def code(method: str) -> str:
    """Format the name of a method without the suffix for knowledge."""
    return f"`{method.removesuffix(KNOWLEDGE)}`"


def table(header: list[str], rows: list[list[str]], *sources: str) -> str:
    """Return a Markdown table, and below it the result files that it was made from."""
    lines = [header, ["---"] * len(header), *rows]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    names = ", ".join(f"`{source}`" for source in sources)
    return text + (f"\n\nSource: {names}." if sources else "")
