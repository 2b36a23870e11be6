"""Tables and plots of the results of a benchmark."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from openlum.bench.stacking import STACKED
from openlum.bench.tiers import CONTROLS, ENDINGS, NONE, TIERS
from openlum.evaluation.methods import WITH_KNOWLEDGE, shown_metrics
from openlum.evaluation.metrics import seed_statistics
from openlum.rank.registry import is_end_to_end
from openlum.report.rendering import format_number, new_plot, p_value, signed, spread, terminal_table
from openlum.report.tiers import ONLINE, cost_in_words

INK, QUIET, GRID, ACCENT = "#1d2430", "#8b95a7", "#e4e2db", "#e07a3f"
"""Colours of text and plain rankers, of generative rankers (and stacked ones), of grid lines, and of rankers with knowledge."""
UNSURE = "n.s."
"""Mark of a difference that is not significant."""
HELD_OUT = "last event held out, all items ranked"
"""The protocol of retrieval, in short."""


def ranking_table(result: dict[str, Any]) -> Table:
    """Return a table of every method's metrics on the test rows."""
    dataset = result["bench"]["dataset"]
    shown = shown_metrics(result["ranking"].values())
    table = terminal_table(f"{dataset}: test rows, mean ± std over seeds", "Ranker", *shown.values())
    for name, metrics in result["ranking"].items():
        style = "bold" if name.endswith(WITH_KNOWLEDGE) else "italic" if _is_baseline(name) else ""
        table.add_row(_with_break(name), *(spread(metrics[metric]) for metric in shown), style=style)
    return table


def comparison_table(result: dict[str, Any]) -> Table:
    """Return a table of the paired comparisons of methods on the test rows."""
    table = terminal_table("differences on the same test rows", "Rankers", "AUC", "95 % (bootstrap)", "p (DeLong)")
    for comparison in result["comparisons"]:
        table.add_row(_pair(comparison), *_difference(comparison, comparison["bootstrap95"]))
    table.caption = _caveat(result["bench"])
    return table


def retrieval_comparison_table(result: dict[str, Any]) -> Table:
    """Return a table of the paired comparisons of methods on the same users."""
    table = terminal_table("differences on the same users", "Methods", "Metric", "Difference", "95 %", "p")
    for comparison in result["comparisons"]:
        table.add_row(_pair(comparison), comparison["metric"], *_difference(comparison, comparison["ci95"]))
    table.caption = _caveat(result["bench"])
    return table


def _caveat(summary: dict[str, Any]) -> str | None:
    """Return which variance the intervals and p-values do not include, if any."""
    if len(summary["seeds"]) == 1:
        return "one training per method: p does not include the variance between trainings"
    if summary.get("models", len(summary["seeds"])) < len(summary["seeds"]):
        return "seeds share trainings of the Large User Model: p does not include the variance between them"
    return None


def _pair(comparison: dict[str, Any]) -> str:
    return f"{_with_break(comparison['a'])} less {_with_break(comparison['b'])}"


def _difference(comparison: dict[str, Any], interval: list[float]) -> tuple[str, str, str]:
    bounds = " to ".join(signed(bound) for bound in interval)
    return signed(comparison["difference"]), bounds, p_value(comparison["p_value"])


def _is_baseline(name: str) -> bool:
    """Return whether a method is an end-to-end model without knowledge, or two stacked models."""
    return is_end_to_end(name) or STACKED in name


def _with_break(name: str) -> str:
    """Return a method's name with a space at which a narrow terminal can break it."""
    return name.replace(WITH_KNOWLEDGE, f" {WITH_KNOWLEDGE}")


def ablation_table(result: dict[str, Any]) -> Table:
    """Return a table of every ablation's test AUC, by the knowledge probe and with the ranker, and its difference from the
    whole method."""
    summary = result["bench"]
    title = f"{summary['dataset']}: {summary['ranker']} on the test rows, mean ± std over seeds"
    table = terminal_table(title, "Table", "Change", "Probe AUC", "AUC", "GAUC", "AUC less whole method", "p")
    for row in result["ablations"]:
        probe, difference = row["alone"], row["from_whole"]
        cells = [signed(difference["difference"]), p_value(difference["p_value"])] if difference else ["", ""]
        metrics = [spread(row["ranking"][metric]) for metric in ("auc", "gauc")]
        table.add_row(row["table"], row["label"], format_number(probe["test"]) if probe else "", *metrics, *cells)
    table.caption = _caveat(summary)
    return table


def tiers_table(result: dict[str, Any]) -> Table:
    """Return a table of every ranker's test AUC with each tier of knowledge and each control, of their gains, and of the lead of
    each tier over the controls. The costs stand below."""
    title = f"{result['bench']['dataset']}: AUC on the test rows, mean ± std over seeds"
    controls = [f"Over {control}" for control in CONTROLS]
    table = terminal_table(title, "Ranker", "With", "AUC", "Gain", *controls)
    compared = {(comparison["a"], comparison["b"]): comparison for comparison in result["comparisons"]}
    for ranker, figures in result["tiers"].items():
        for key, ending in ENDINGS.items():
            pairs = [(f"{ranker}{ending}", f"{ranker}{ENDINGS[other]}") for other in (NONE, *CONTROLS)]
            cells = [_marked(compared[pair]) if pair in compared else "" for pair in pairs]
            table.add_row(ranker if key == NONE else "", key, spread(figures[key]["auc"]), *cells)
        table.add_section()
    costs = result["query"].get("costs", {})
    notes = [f"{tier}: {cost_in_words({'online': ONLINE[tier], **costs.get(tier, {})})}" for tier in TIERS]
    notes += [f"{UNSURE}: p of 0.05 or more", _caveat(result["bench"]) or ""]
    table.caption, table.caption_justify = Text("\n".join(note for note in notes if note)), "left"
    return table


def _marked(comparison: dict[str, Any]) -> str:
    """Return a difference, marked if it is not significant."""
    difference = signed(comparison["difference"])
    return difference if comparison["p_value"] < 0.05 else f"{difference} {UNSURE}"


def retrieval_table(result: dict[str, Any]) -> Table:
    """Return a table of every method's metrics; questions that know fields of the held-out event are last."""
    summary = result["bench"]
    metrics = list(next(iter(result["retrieval"].values())))
    table = terminal_table(f"{summary['dataset']}: {HELD_OUT}, mean ± std over seeds", "Method", *metrics)
    for name in sorted(result["retrieval"], key=lambda name: name in summary["told_more"]):
        style = "italic" if name in summary["told_more"] else ""
        statistics = (
            seed_statistics([seed_metrics[name][metric] for seed_metrics in summary["by_seed"]]) for metric in metrics
        )
        table.add_row(name, *(spread(values) for values in statistics), style=style)
    return table


def plot_ranking(result: dict[str, Any], file: Path) -> Path:
    """Draw the test AUC of every method, and return the file. Plain rankers, generative rankers and rankers with knowledge have
    different colours."""
    seeds = {name: metrics["auc"]["seeds"] for name, metrics in result["ranking"].items()}
    colours = [ACCENT if name.endswith(WITH_KNOWLEDGE) else QUIET if _is_baseline(name) else INK for name in seeds]
    return _plot(seeds, colours, f"{result['bench']['dataset']}: AUC on the test rows", file)


def plot_retrieval(result: dict[str, Any], file: Path) -> Path:
    """Draw the NDCG of every method at the first cut-off, and return the file.

    End-to-end models, questions, and questions that know fields of the held-out event have different colours.
    """
    summary, names = result["bench"], list(result["retrieval"])
    metric = next(name for name in result["retrieval"][names[0]] if name.startswith("ndcg"))
    seeds = {name: [seed_metrics[name][metric] for seed_metrics in summary["by_seed"]] for name in names}
    colours = [QUIET if _is_baseline(name) else INK if name in summary["told_more"] else ACCENT for name in names]
    return _plot(seeds, colours, f"{summary['dataset']}: {metric.upper()}, {HELD_OUT}", file)


def _plot(seeds: dict[str, list[float]], colours: list[str], label: str, file: Path) -> Path:
    """Draw one line per method, from the top: the values of its seeds and their mean."""
    drawing = new_plot(7.0, 0.3 * len(seeds) + 0.8)
    axes = drawing.subplots()
    for y, (values, colour) in enumerate(zip(reversed(seeds.values()), reversed(colours), strict=True)):
        mean = float(np.mean(values))
        axes.plot(values, [y] * len(values), "o", color=colour, alpha=0.4, markersize=5)
        axes.plot([mean], [y], "|", color=colour, markersize=13, markeredgewidth=2.5)
        axes.annotate(
            format_number(mean), (max(values), y), (8, -3), textcoords="offset points", fontsize=8, color=colour
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
    drawing.savefig(file, facecolor="white", metadata={"Date": None} if file.suffix == ".svg" else None)
    return file
