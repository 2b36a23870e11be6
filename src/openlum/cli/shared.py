"""What the commands of `lum` share: the application, common options, and how results are shown."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from openlum.config import Settings, load_settings
from openlum.console import new_console

app = typer.Typer(
    name="lum",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="The Large User Model: knowledge construction, querying and utilization. Start with `lum run configs/market.yaml`.",
)
console = new_console()

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Experiment file whose section is used.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Directory to write; it appears whole or not at all.")]
DatasetDir = Annotated[Path, typer.Option("--dataset", "-d", help="From `lum prepare`.")]
ModelDir = Annotated[Path, typer.Option("--model", "-m", help="From `lum pretrain`.")]

S = TypeVar("S", bound=Settings)


def section(config: Path | None, name: str, kind: type[S]) -> S:
    """A section of an experiment file, or its defaults."""
    if config is None:
        return kind()
    from openlum.pipeline.experiment import Experiment

    section = getattr(load_settings(config, Experiment), name)
    return kind() if section is None else section


def show_retrieval(found: dict[str, dict[str, float]]) -> None:
    """Print the metrics of every question."""
    for question, metrics in found.items():
        console.print(f"{f'question {question!r}':24} {figures_in_words(metrics)}", soft_wrap=True)


def show_figures(figures: dict[str, Any], out: Path) -> None:
    """Print figures by name, and what was written."""
    for name, value in figures.items():
        shown = figures_in_words(value) if isinstance(value, dict) else value
        text = f"{shown:,}" if isinstance(shown, int) else f"{shown:.4f}" if isinstance(shown, float) else shown
        console.print(f"{name:24} {text}", soft_wrap=True)
    console.print(f"written: {out}", soft_wrap=True)


def figures_in_words(metrics: dict[str, float]) -> str:
    """Return metrics in one line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
