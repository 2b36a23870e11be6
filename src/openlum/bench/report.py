"""The results of a benchmark for people: tables for the terminal, and a plot."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from openlum.bench.stacking import STACKED
from openlum.evaluation.methods import WITH_KNOWLEDGE
from openlum.evaluation.metrics import over_seeds
from openlum.rank.settings import GENERATIVE
from openlum.report.rendering import figure, new_plot, terminal_table
from openlum.report.run_report import METRICS, p_value, signed, spread

INK, QUIET, GRID, ACCENT = "#1d2430", "#8b95a7", "#e4e2db", "#e07a3f"
"""Of text and plain rankers, generative ones (and their stacks), lines, and rankers with knowledge."""
HELD_OUT = "last event held out, all items ranked"
"""How retrieval is judged."""


def ranking_table(result: dict[str, Any]) -> Table:
    """Every method's metrics on the test rows."""
    dataset = result["bench"]["dataset"]
    table = terminal_table(f"{dataset}: test rows, mean ± std over seeds", "Ranker", *METRICS.values())
    for name, metrics in result["ranking"].items():
        style = "bold" if name.endswith(WITH_KNOWLEDGE) else "italic" if _opposes(name) else ""
        table.add_row(_breakable(name), *(spread(metrics[metric]) for metric in METRICS), style=style)
    return table


def comparison_table(result: dict[str, Any]) -> Table:
    """The paired comparisons of methods on the test rows."""
    table = terminal_table("differences on the same test rows", "Rankers", "AUC", "95 % (bootstrap)", "p (DeLong)")
    for found in result["comparisons"]:
        table.add_row(_differ(found), *_difference(found, found["bootstrap95"]))
    table.caption = _unknown(result["bench"])
    return table


def retrieval_comparison_table(result: dict[str, Any]) -> Table:
    """The paired comparisons of methods on the same users."""
    table = terminal_table("differences on the same users", "Methods", "Metric", "Difference", "95 %", "p")
    for found in result["comparisons"]:
        table.add_row(_differ(found), found["metric"], *_difference(found, found["ci95"]))
    table.caption = _unknown(result["bench"])
    return table


def _unknown(told: dict[str, Any]) -> str | None:
    """What intervals and p-values leave out, if anything."""
    if len(told["seeds"]) == 1:
        return "one training of every method: p does not know how much others would differ"
    if told.get("models", len(told["seeds"])) < len(told["seeds"]):
        return "seeds share trainings of the Large User Model: p does not know how much others would differ"
    return None


def _differ(found: dict[str, Any]) -> str:
    return f"{_breakable(found['a'])} less {_breakable(found['b'])}"


def _difference(found: dict[str, Any], interval: list[float]) -> tuple[str, str, str]:
    told = " to ".join(signed(bound) for bound in interval)
    return signed(found["difference"]), told, p_value(found["p_value"])


def _opposes(name: str) -> bool:
    """Whether it is an end-to-end model, or one joined with another model."""
    return name in GENERATIVE or STACKED in name


def _breakable(name: str) -> str:
    """A method's name, with a place to break it where the terminal is narrow."""
    return name.replace(WITH_KNOWLEDGE, f" {WITH_KNOWLEDGE}")


def ablation_table(result: dict[str, Any]) -> Table:
    """Every change's AUC on the test rows, alone and with the ranker, and its paired difference from the whole method."""
    told = result["bench"]
    title = f"{told['dataset']}: {told['ranker']} on the test rows, mean ± std over seeds"
    table = terminal_table(title, "Table", "Change", "Alone", "AUC", "GAUC", "AUC from the whole", "p")
    for row in result["ablations"]:
        alone, found = row["alone"], row["from_whole"]
        cells = [signed(found["difference"]), p_value(found["p_value"])] if found else ["", ""]
        metrics = [spread(row["ranking"][metric]) for metric in ("auc", "gauc")]
        table.add_row(row["table"], row["label"], figure(alone["test"]) if alone else "", *metrics, *cells)
    table.caption = _unknown(told)
    return table


def retrieval_table(result: dict[str, Any]) -> Table:
    """Every method's metrics with the last event held out; those that are told more stand last."""
    told = result["bench"]
    metrics = list(next(iter(result["retrieval"].values())))
    table = terminal_table(f"{told['dataset']}: {HELD_OUT}, mean ± std over seeds", "Method", *metrics)
    for name in sorted(result["retrieval"], key=lambda name: name in told["told_more"]):
        style = "italic" if name in told["told_more"] else ""
        found = (over_seeds([one[name][metric] for one in told["by_seed"]]) for metric in metrics)
        table.add_row(name, *(spread(metric) for metric in found), style=style)
    return table


def plot_ranking(result: dict[str, Any], file: Path) -> Path:
    """Draw the test AUC of every method; plain, generative and informed rankers differ in colour."""
    seeds = {name: metrics["auc"]["seeds"] for name, metrics in result["ranking"].items()}
    colours = [ACCENT if name.endswith(WITH_KNOWLEDGE) else QUIET if _opposes(name) else INK for name in seeds]
    return _plot(seeds, colours, f"{result['bench']['dataset']}: AUC on the test rows", file)


def plot_retrieval(result: dict[str, Any], file: Path) -> Path:
    """Draw the NDCG of every method, at the first of the ranks; questions that are told more, others and opponents differ in
    colour."""
    told, names = result["bench"], list(result["retrieval"])
    metric = next(name for name in result["retrieval"][names[0]] if name.startswith("ndcg"))
    seeds = {name: [one[name][metric] for one in told["by_seed"]] for name in names}
    colours = [QUIET if _opposes(name) else INK if name in told["told_more"] else ACCENT for name in names]
    return _plot(seeds, colours, f"{told['dataset']}: {metric.upper()}, {HELD_OUT}", file)


def _plot(seeds: dict[str, list[float]], colours: list[str], label: str, file: Path) -> Path:
    """One line a method, from the top: its seeds' figures and their mean."""
    drawn = new_plot(7.0, 0.3 * len(seeds) + 0.8)
    axes = drawn.subplots()
    for context, (found, colour) in enumerate(zip(reversed(seeds.values()), reversed(colours), strict=True)):
        mean = float(np.mean(found))
        axes.plot(found, [context] * len(found), "o", color=colour, alpha=0.4, markersize=5)
        axes.plot([mean], [context], "|", color=colour, markersize=13, markeredgewidth=2.5)
        axes.annotate(
            figure(mean), (max(found), context), (8, -3), textcoords="offset points", fontsize=8, color=colour
        )
    axes.set_yticks(range(len(seeds)), list(reversed(seeds)))
    axes.set_xlabel(label, color=INK)
    axes.margins(x=0.12)
    axes.set_ylim(-0.6, len(seeds) - 0.4)
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    drawn.savefig(file, facecolor="white", metadata={"Date": None} if file.suffix == ".svg" else None)
    return file
