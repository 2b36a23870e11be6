"""The application, the common options and the output of results for all commands of `lum`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from openlum.console import metrics_in_words, new_console

app = typer.Typer(
    name="lum",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="The Large User Model: knowledge construction, querying and utilization. Start with `lum run configs/market.yaml`.",
)
console = new_console()

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Experiment file, or a file with only the sections of the step, such as `pretrain`."
    ),
]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a key of the experiment file, such as pretrain.epochs=3. The value is YAML. May be given several times.",
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Directory to write. It is written completely or not at all.")]
DatasetDir = Annotated[Path, typer.Option("--dataset", "-d", help="Dataset from `lum prepare`.")]
ModelDir = Annotated[Path, typer.Option("--model", "-m", help="Model from `lum pretrain`.")]


def print_ranking(summary: dict[str, Any]) -> None:
    """Print the tables of rankers, controls and tiers of knowledge, if there are rankers."""
    from openlum.report.run_report import summary_table
    from openlum.report.tiers import tier_table

    tiers = tier_table(summary)
    for table in ([summary_table(summary)] if "ranking" in summary else []) + ([tiers] if tiers else []):
        console.print(table)


def print_retrieval(metrics: dict[str, dict[str, float]]) -> None:
    """Print the retrieval metrics of every question and of the baselines."""
    from openlum.retrieve.settings import BASELINES

    for name, values in metrics.items():
        method = name if name in BASELINES else f"question {name!r}"
        console.print(f"{method:24} {metrics_in_words(values)}", soft_wrap=True)


def print_cold_items(cold_items: dict[str, Any] | None) -> None:
    """Print how well held-out items without a training event are found among such items, if there are any."""
    if cold_items:
        counts = f"{cold_items['users']:,} users, {cold_items['candidates']:,} items"
        console.print(f"Held-out items without a training event, among such items ({counts}):")
        for name, values in cold_items["among_cold"].items():
            console.print(f"  {name:22} {metrics_in_words(values)}", soft_wrap=True)


def print_figures(figures: dict[str, Any], out: Path) -> None:
    """Print figures with their names, and the path that was written."""
    print_lines(figures)
    console.print(f"written: {out}", soft_wrap=True)


def print_lines(figures: dict[str, Any]) -> None:
    """Print figures with their names, one in a line."""
    for name, figure in figures.items():
        value = metrics_in_words(figure) if isinstance(figure, dict) else figure
        text = f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if isinstance(value, float) else value
        console.print(f"{name:24} {text}", soft_wrap=True)
