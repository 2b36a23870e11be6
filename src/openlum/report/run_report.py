"""The results of a run for people: one HTML page that needs no other file, and a table for the terminal."""

import datetime as dt
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.table import Table
from rich.text import Text

from openlum.artefact.json_file import read_json
from openlum.errors import InputError
from openlum.evaluation.methods import WITH_CONTROL, WITH_KNOWLEDGE, shown_metrics
from openlum.report.knowledge_notes import knowledge_notes
from openlum.report.plots import Curves, auc_plot, calibration_plots, curve_plot
from openlum.report.rendering import format_number, p_value, signed, spread, terminal_table, write_page
from openlum.report.tiers import cost_in_words, tier_costs, tier_rows

SIGNIFICANT = 0.05


def write_report(run_dir: str | Path) -> Path:
    """Write `report.html` of a run and return its path.

    Args:
        run_dir: directory of the run. The page shows `summary.json`, `metrics.jsonl`, `example.json`, `config.resolved.yaml`
            and `dataset/dataset.json`. If a file is missing, the page says that its section is not
            available.

    Raises:
        InputError: the directory is missing, or a file cannot be read.
    """
    run = Path(run_dir)
    if not run.is_dir():
        raise InputError(f"{run}: no such run; 'lum run CONFIG' writes one")
    summary = _optional(run / "summary.json") or {}
    curves = _curves(run / "metrics.jsonl")
    config = run / "config.resolved.yaml"
    page = run / "report.html"
    write_page(
        page,
        "run.html.j2",
        breakable,
        signed,
        spread,
        p_value,
        cost_in_words,
        name=run.resolve().name,
        written=dt.datetime.now(dt.UTC),
        summary=summary,
        metrics=shown_metrics(summary.get("ranking", {}).values()),
        gains=knowledge_gains(summary),
        notes=knowledge_notes(summary),
        tiers=tier_rows(summary),
        tier_costs=tier_costs(summary),
        auc_plot=auc_plot(summary),
        calibration_plots=calibration_plots(summary.get("calibration", {})),
        curve_plots=[curve_plot(name, metric) for name, metric in curves.items()],
        dataset=_optional(run / "dataset" / "dataset.json"),
        example=_optional(run / "example.json"),
        config=config.read_text(encoding="utf-8") if config.exists() else None,
    )
    return page


def summary_table(summary: dict[str, Any]) -> Table:
    """Return a table of the rankers with their metrics on the test period and the gain in AUC from knowledge.

    The table fits a terminal of 80 columns.

    Args:
        summary: the content of `summary.json`.
    """
    rankings = summary.get("ranking", {}) | summary.get("controls", {}).get("ranking", {})
    shown = shown_metrics(rankings.values())
    table = terminal_table("Test period, means over seeds", "Ranker", *shown.values(), "Gain in AUC")
    for column in table.columns[1:]:
        column.no_wrap = True  # in a narrow terminal, the long name of a control is cut, and not the figures
    gains = {gain["a"]: gain for gain in knowledge_gains(summary)}
    controls = control_gains(summary)
    for ranker, metrics in rankings.items():
        means = {metric: format_number(metrics[metric]["mean"]) if metric in metrics else "n/a" for metric in shown}
        means["auc"] = spread(metrics.get("auc"))
        gain = gains.get(ranker)
        gain_in_words = f"{signed(gain['difference'])}, {p_value(gain['p_value'])}" if gain else ""
        if gain and not gain["used"]:
            gain_in_words = "nothing, not used"
        if ranker in controls:
            gain_in_words = f"{signed(controls[ranker]['difference'])}, {p_value(controls[ranker]['p_value'])}"
        style = "bold" if ranker.endswith(WITH_KNOWLEDGE) else ""
        table.add_row(Text(ranker), *means.values(), gain_in_words, style=style)
    if "oracle" in summary:
        ceiling = [format_number(summary["oracle"].get(metric), missing="") for metric in shown]
        table.add_row("oracle", *ceiling, "", style="italic")
    notes = [Text(note.text, style="bold red" if note.warns else "") for note in knowledge_notes(summary)]
    table.caption = Text("\n").join(notes) if notes else None
    table.caption_justify = "left"
    return table


def knowledge_gains(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the comparisons of a ranker's AUC with and without knowledge.

    Each has a `verdict` in words, `used` (whether late fusion uses knowledge for any seed), and `oracle_gap_share`: the gain as a
    share of the distance to the oracle's AUC. It is None without an oracle or a significant gain.
    """
    gains = []
    for comparison in summary.get("comparisons", []):
        if comparison["a"] != comparison["b"] + WITH_KNOWLEDGE or comparison["metric"] != "auc":
            continue
        kept = summary.get("fusion", {}).get("rankers", {}).get(comparison["a"], {}).get("kept", [True])
        if not any(kept):
            verdict = "adds nothing to"
        elif comparison["p_value"] >= SIGNIFICANT:
            verdict = "makes no significant difference to"
        else:
            verdict = "improves" if comparison["difference"] > 0 else "harms"
        plain = summary.get("ranking", {}).get(comparison["b"], {}).get("auc", {}).get("mean")
        ceiling = summary.get("oracle", {}).get("auc")
        room = ceiling - plain if ceiling is not None and plain is not None else 0
        oracle_gap_share = comparison["difference"] / room if room > 0 and verdict == "improves" else None
        gains.append(comparison | {"verdict": verdict, "used": any(kept), "oracle_gap_share": oracle_gap_share})
    return gains


def control_gains(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each control, such as `din+control:counters`, with the comparison of its AUC with the plain ranker's."""
    comparisons = summary.get("controls", {}).get("comparisons", [])
    return {gain["a"]: gain for gain in comparisons if WITH_CONTROL in gain["a"]}


def breakable(ranker: str) -> Markup:
    """Return a ranker's name that a narrow column may break before each `+`."""
    return Markup("<wbr>+").join(ranker.split("+"))


def _optional(path: Path) -> Any:
    return read_json(path, "lum run") if path.exists() else None


def _curves(path: Path) -> dict[str, Curves]:
    """Return the curves of every metric that the pre-training logged, by name. Names that contain 'loss' come first."""
    curves: dict[str, Curves] = {}
    for kind, step, name, value in _logged(path) if path.exists() else ():
        steps, values = curves.setdefault(name, {}).setdefault(kind, ([], []))
        steps.append(step)
        values.append(value)
    return dict(sorted(curves.items(), key=lambda curve: "loss" not in curve[0]))


def _logged(path: Path) -> Iterator[tuple[str, float, str, float]]:
    """Yield `training` or `validation`, the step, the name and the value of every number in `metrics.jsonl`."""
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
