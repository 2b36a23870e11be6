"""Plots of the page of a run."""

from typing import Any

from markupsafe import Markup

from openlum.evaluation.methods import WITH_KNOWLEDGE
from openlum.report.rendering import (
    ACCENT,
    GRID,
    INK,
    PLAIN,
    QUIET,
    format_number,
    format_share,
    new_plot,
    one_line,
    svg,
)

Curves = dict[str, tuple[list[float], list[float]]]
"""`training` or `validation` to the steps and the values of one metric."""


def auc_plot(summary: dict[str, Any]) -> Markup | None:
    """Return a plot of each ranker's AUC: a bar from 0.5 (chance), a dot for each seed, and a line at the AUC of the oracle."""
    ranking = {name: metrics["auc"] for name, metrics in summary.get("ranking", {}).items() if "auc" in metrics}
    ranking = {name: auc for name, auc in ranking.items() if auc["mean"] is not None}
    if not ranking:
        return None
    oracle = summary.get("oracle", {}).get("auc")
    top = max([auc["mean"] for auc in ranking.values()] + ([oracle] if oracle is not None else []))
    plot = new_plot(4.8, 0.8 + 0.36 * len(ranking))
    axes = plot.add_subplot()
    for row, (name, auc) in enumerate(ranking.items()):
        colour = ACCENT if name.endswith(WITH_KNOWLEDGE) else PLAIN
        axes.barh(row, auc["mean"] - 0.5, left=0.5, height=0.62, color=colour)
        seeds = [value for value in auc["seeds"] if value is not None]
        if len(seeds) > 1:
            axes.plot(seeds, [row] * len(seeds), linestyle="", marker="o", markersize=3, color=INK, alpha=0.6)
        fits_inside = auc["mean"] - 0.5 > 0.25 * (top - 0.5)
        x = 0.505 if fits_inside else max(auc["mean"], *seeds, 0.5) + 0.006
        axes.text(x, row, format_number(auc["mean"]), va="center", color=INK, fontsize=9, weight="bold")
    axes.set_yticks(range(len(ranking)), [_label(name) for name in ranking])
    axes.invert_yaxis()
    axes.set_xlim(min(0.5, *(auc["mean"] for auc in ranking.values())), top + 0.02)
    axes.set_xlabel("AUC on the test period (0.5 = chance)")
    if oracle is not None:
        axes.axvline(oracle, color=INK, linestyle=(0, (4, 3)), linewidth=1)
        axes.text(oracle, -0.55, f"oracle {format_number(oracle)}", ha="right", va="bottom", color=INK, fontsize=9)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    return svg(plot, "AUC of each ranker")


def calibration_plots(calibration: dict[str, list[dict[str, Any]]]) -> list[Markup]:
    """Return one plot for each ranker: observed over predicted shares of positive rows. All plots have the same scale.

    Args:
        calibration: `calibration` of `summary.json`.
    """
    ends = [end for bins in calibration.values() for bin_ in bins for end in (bin_["predicted"], *bin_["ci95"])]
    top = min(1.0, 1.05 * max(ends, default=1.0)) or 1.0
    return [_calibration_plot(name, bins, top) for name, bins in calibration.items()]


def _calibration_plot(name: str, bins: list[dict[str, Any]], top: float) -> Markup:
    plot = new_plot(3.8, 3.0)
    axes = plot.add_subplot()
    axes.plot([0, top], [0, top], color=QUIET, linestyle=(0, (4, 3)), linewidth=1)
    colour = ACCENT if name.endswith(WITH_KNOWLEDGE) else PLAIN
    predicted, observed = [bin_["predicted"] for bin_ in bins], [bin_["observed"] for bin_ in bins]
    for x, bin_ in zip(predicted, bins, strict=True):
        axes.plot([x, x], bin_["ci95"], color=INK, linewidth=1.2)
    axes.plot(
        predicted, observed, linestyle="", marker="o", markersize=5, color=colour, markeredgecolor=INK, clip_on=False
    )
    axes.set(xlim=(0, top), ylim=(0, top))
    axes.set_title(_label(name), loc="left", fontsize=10, color=INK, weight="bold")
    axes.set_xlabel("predicted")
    axes.set_ylabel("observed", color=QUIET, fontsize=9)
    axes.grid(color=GRID, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    bins_in_words = ", ".join(
        f"{format_share(x)} predicted {format_share(y)} observed" for x, y in zip(predicted, observed, strict=True)
    )
    return svg(plot, f"Calibration of {name}: {bins_in_words}")


def curve_plot(name: str, curves: Curves) -> Markup:
    """Return a plot of one logged metric over the training steps."""
    plot = new_plot(3.8, 2.1)
    axes = plot.add_subplot()
    for kind, (steps, values) in curves.items():
        marker = "o" if kind == "validation" or len(steps) == 1 else ""
        colour = ACCENT if kind == "validation" else PLAIN
        axes.plot(steps, values, marker=marker, markersize=4, linewidth=1.6, color=colour, label=kind)
    axes.set_title(_label(name.replace("_", " ")), loc="left", fontsize=10, color=INK, weight="bold")
    axes.set_xlabel("step")
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.legend(frameon=False, fontsize=8, labelcolor=QUIET, loc="best")
    return svg(plot, name)


def _label(name: str) -> str:
    """Return a name, shortened to leave room for the plot. Dollar signs are escaped so that they do not begin a formula."""
    return one_line(name, 28).replace("$", r"\$")
