"""The results of a run for people: one HTML page that needs nothing else, and a table for the terminal."""

import datetime as dt
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.table import Table
from rich.text import Text

from openlum.artefact import read_json
from openlum.errors import InputError
from openlum.page import ACCENT, GRID, INK, PLAIN, QUIET, figure, new_figure, svg, terminal_table, write_page
from openlum.rank.settings import KNOWLEDGE

METRICS = {"auc": "AUC", "gauc": "GAUC", "logloss": "Log loss", "ne": "NE"}
SIGNIFICANT = 0.05


def write_report(run_dir: str | Path) -> Path:
    """Write `report.html` of a run.

    Args:
        run_dir: directory of the run. Of `summary.json`, `metrics.jsonl`, `example.json`, `config.resolved.yaml` and
            `dataset/dataset.json`, what is absent is left out of the page with a line that says so.

    Returns:
        The page.

    Raises:
        InputError: the directory is missing, or one of the files cannot be read.
    """
    run = Path(run_dir)
    if not run.is_dir():
        raise InputError(f"{run}: no such run; 'lum run CONFIG' makes one")
    summary = _optional(run / "summary.json") or {}
    curves = _curves(run / "metrics.jsonl")
    config = run / "config.resolved.yaml"
    page = run / "report.html"
    write_page(
        page,
        "report.html.j2",
        signed,
        spread,
        p_value,
        name=run.resolve().name,
        written=dt.datetime.now(dt.UTC),
        summary=summary,
        metrics=METRICS,
        gains=knowledge_gains(summary),
        auc_plot=_auc_plot(summary),
        curve_plots=[_curve_plot(name, lines) for name, lines in curves.items()],
        dataset=_optional(run / "dataset" / "dataset.json"),
        example=_optional(run / "example.json"),
        config=config.read_text(encoding="utf-8") if config.exists() else None,
    )
    return page


def summary_table(summary: dict[str, Any]) -> Table:
    """The rankers of a run with their metrics on the test period, and what knowledge adds to the AUC of each.

    It fits a terminal of 80 columns.

    Args:
        summary: the content of `summary.json`.
    """
    table = terminal_table("Test period, means over seeds", "Ranker", *METRICS.values(), "Knowledge adds")
    gains = {gain["a"]: gain for gain in knowledge_gains(summary)}
    for ranker, metrics in summary.get("ranking", {}).items():
        others = [
            figure(metrics[metric]["mean"]) if metric in metrics else "n/a" for metric in METRICS if metric != "auc"
        ]
        gain = gains.get(ranker)
        told = f"{signed(gain['difference'])}, {p_value(gain['p_value'])}" if gain else ""
        style = "bold" if ranker.endswith(KNOWLEDGE) else ""
        table.add_row(Text(ranker), spread(metrics.get("auc")), *others, told, style=style)
    if "oracle" in summary:
        cells = [figure(summary["oracle"].get(metric), missing="") for metric in METRICS]
        table.add_row("oracle", *cells, "", style="italic")
    return table


def knowledge_gains(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The comparisons of a ranker's AUC with and without knowledge, each with `verdict` and, where the ceiling is known,
    `closed`: the share of the way to it that knowledge goes."""
    gains = []
    for comparison in summary.get("comparisons", []):
        if comparison["a"] != comparison["b"] + KNOWLEDGE or comparison["metric"] != "auc":
            continue
        if comparison["p_value"] >= SIGNIFICANT:
            verdict = "makes no significant difference to"
        else:
            verdict = "improves" if comparison["difference"] > 0 else "harms"
        plain = summary.get("ranking", {}).get(comparison["b"], {}).get("auc", {}).get("mean")
        ceiling = summary.get("oracle", {}).get("auc")
        room = ceiling - plain if ceiling is not None and plain is not None else 0
        closed = comparison["difference"] / room if room > 0 and verdict == "improves" else None
        gains.append(comparison | {"verdict": verdict, "closed": closed})
    return gains


def signed(value: float) -> str:
    """A difference, always with its sign."""
    return f"{value:+.4f}".replace("-", "−")


def spread(metric: dict[str, Any] | None) -> str:
    """Mean and standard deviation over the seeds; the mean alone where there is one seed."""
    if metric is None:
        return "n/a"
    mean = figure(metric["mean"])
    return mean if len(metric["seeds"]) < 2 or metric["std"] is None else f"{mean} ± {figure(metric['std'])}"


def p_value(p: float) -> str:
    """A p-value as one writes it."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def _optional(path: Path) -> Any:
    return read_json(path, "lum run") if path.exists() else None


Lines = dict[str, tuple[list[float], list[float]]]
"""`training` or `validation` to steps and values."""


def _curves(path: Path) -> dict[str, Lines]:
    """Every number that the pre-training logged: name to lines. Names that hold 'loss' come first."""
    curves: dict[str, Lines] = {}
    for kind, step, name, value in _logged(path) if path.exists() else ():
        steps, values = curves.setdefault(name, {}).setdefault(kind, ([], []))
        steps.append(step)
        values.append(value)
    return dict(sorted(curves.items(), key=lambda curve: "loss" not in curve[0]))


def _logged(path: Path) -> Iterator[tuple[str, float, str, float]]:
    """`training` or `validation`, step, name, value of everything in `metrics.jsonl`."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = json.loads(line)
            step = entry["step"]
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{path}: line {number}: expected a JSON object with 'step'; run 'lum run' again"
            ) from None
        kind = "validation" if "validation" in entry else "training"
        for name, value in (entry["validation"] if kind == "validation" else entry).items():
            if name not in ("step", "epoch") and isinstance(value, int | float) and math.isfinite(value):
                yield kind, step, name, value


def _auc_plot(summary: dict[str, Any]) -> Markup | None:
    """A bar for each ranker's AUC, from 0.5 (a coin) up, a dot for each seed, and a line at the oracle's."""
    ranking = {name: metrics["auc"] for name, metrics in summary.get("ranking", {}).items() if "auc" in metrics}
    ranking = {name: auc for name, auc in ranking.items() if auc["mean"] is not None}
    if not ranking:
        return None
    oracle = summary.get("oracle", {}).get("auc")
    top = max([auc["mean"] for auc in ranking.values()] + ([oracle] if oracle is not None else []))
    plot = new_figure(5.6, 0.8 + 0.4 * len(ranking))
    axes = plot.add_subplot()
    for row, (name, auc) in enumerate(ranking.items()):
        colour = ACCENT if name.endswith(KNOWLEDGE) else PLAIN
        axes.barh(row, auc["mean"] - 0.5, left=0.5, height=0.62, color=colour)
        seeds = [value for value in auc["seeds"] if value is not None]
        if len(seeds) > 1:
            axes.plot(seeds, [row] * len(seeds), linestyle="", marker="o", markersize=3, color=INK, alpha=0.6)
        inside = auc["mean"] - 0.5 > 0.25 * (top - 0.5)
        place = 0.505 if inside else max(auc["mean"], *seeds, 0.5) + 0.006
        axes.text(place, row, figure(auc["mean"]), va="center", color=INK, fontsize=9, weight="bold")
    axes.set_yticks(range(len(ranking)), [name.replace("$", r"\$") for name in ranking])
    axes.invert_yaxis()
    axes.set_xlim(min(0.5, *(auc["mean"] for auc in ranking.values())), top + 0.02)
    axes.set_xlabel("AUC on the test period (0.5 = chance)")
    if oracle is not None:
        axes.axvline(oracle, color=INK, linestyle=(0, (4, 3)), linewidth=1)
        axes.text(oracle, -0.55, f"oracle {figure(oracle)}", ha="right", va="bottom", color=INK, fontsize=9)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    return svg(plot, "AUC of each ranker")


def _curve_plot(name: str, lines: Lines) -> Markup:
    """One logged number over the steps."""
    plot = new_figure(3.8, 2.1)
    axes = plot.add_subplot()
    for kind, (steps, values) in lines.items():
        marker = "o" if kind == "validation" or len(steps) == 1 else ""
        colour = ACCENT if kind == "validation" else PLAIN
        axes.plot(steps, values, marker=marker, markersize=4, linewidth=1.6, color=colour, label=kind)
    axes.set_title(name.replace("_", " ").replace("$", r"\$"), loc="left", fontsize=10, color=INK, weight="bold")
    axes.set_xlabel("step")
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.legend(frameon=False, fontsize=8, labelcolor=QUIET, loc="best")
    return svg(plot, name)
