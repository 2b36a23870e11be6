"""The command line, thin. Heavy imports wait until a command runs."""

import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from openlum.config import Settings, load_settings
from openlum.errors import InputError

app = typer.Typer(
    name="lum",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="The Large User Model: knowledge construction, querying and utilization. Start with `lum run configs/market.yaml`.",
)
console = Console()

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Experiment file whose section is used.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Directory to write; it appears whole or not at all.")]
DatasetDir = Annotated[Path, typer.Option("--dataset", "-d", help="From `lum prepare`.")]
ModelDir = Annotated[Path, typer.Option("--model", "-m", help="From `lum pretrain`.")]

INTERRUPTED = 130
"""The exit status after Ctrl-C."""

S = TypeVar("S", bound=Settings)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="Experiment file, for example configs/market.yaml.")],
    runs: Annotated[Path, typer.Option(help="Directory for runs/NAME.")] = Path("runs"),
    from_dir: Annotated[Path | None, typer.Option("--from", help="The publisher's files of a public data set.")] = None,
) -> None:
    """The whole chain from one experiment file. Steps whose inputs and settings have not changed are skipped.

    Examples:

        lum run configs/market.yaml

        lum run configs/ml-1m.yaml --from ~/Downloads/ml-1m
    """
    from openlum.report import summary_table
    from openlum.run import run as run_experiment

    summary, report = run_experiment(config, runs, console, from_dir)
    console.print(summary_table(summary))
    console.print(f"report: {report.resolve()}", soft_wrap=True)


@app.command()
def data(
    name: Annotated[str, typer.Argument(help="Name of the data set, for example ml-1m.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Directory to write.", show_default="data/NAME")
    ] = None,
    from_dir: Annotated[Path | None, typer.Option("--from", help="Directory with the publisher's files.")] = None,
) -> None:
    """Fetch a public data set, or take it from a directory, and write its log and schema.

    Examples:

        lum data ml-1m

        lum data ml-1m --from ~/Downloads/ml-1m --out data/ml-1m
    """
    from openlum.data import public

    schema = public.write(name, out or Path("data") / name, from_dir)
    console.print(f"schema: {schema}", soft_wrap=True)


@app.command()
def prepare(schema: Annotated[Path, typer.Argument(help="Schema file (YAML) of the log.")], out: Out) -> None:
    """Turn a log and its schema into a dataset.

    Example:

        lum prepare data/ml-1m/schema.yaml --out data/ml-1m/dataset
    """
    from openlum.data.prepare import prepare as prepare_log

    info = prepare_log(schema, out)
    for name, count in [*info.counts.items(), *info.impressions.items()]:
        console.print(f"{name:28} {count:>12,}")
    for reason, count in (info.rejected | info.notes).items():
        console.print(f"{reason}: {count:,}", soft_wrap=True)
    console.print(f"dataset: {out}", soft_wrap=True)


@app.command()
def pretrain(dataset: DatasetDir, out: Out, config: Config = None) -> None:
    """Step 1, knowledge construction: train a Large User Model. An interrupted training goes on where it was.

    Example:

        lum pretrain --dataset data/ml-1m/dataset --out data/ml-1m/model --config configs/ml-1m.yaml
    """
    from openlum.model.settings import ModelSettings
    from openlum.pretrain.settings import PretrainSettings
    from openlum.pretrain.train import pretrain as train

    shape, settings = _section(config, "model", ModelSettings), _section(config, "pretrain", PretrainSettings)
    _show(train(dataset, out, shape, settings), out)


@app.command()
def query(dataset: DatasetDir, model: ModelDir, out: Out, config: Config = None) -> None:
    """Step 2, knowledge querying: ask every impression's questions, each as of its own time.

    Example:

        lum query -d data/ml-1m/dataset -m data/ml-1m/model -o data/ml-1m/knowledge -c configs/ml-1m.yaml
    """
    from openlum.query.bulk import query as ask
    from openlum.query.settings import QuerySettings

    _show(ask(dataset, model, out, _section(config, "query", QuerySettings)), out)


@app.command()
def rank(
    dataset: DatasetDir,
    out: Out,
    knowledge: Annotated[Path | None, typer.Option("--knowledge", "-k", help="From `lum query`.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="True click probabilities of a simulation, for the oracle.")
    ] = None,
    config: Config = None,
) -> None:
    """Step 3, knowledge utilization: train rankers without and with knowledge, and compare them.

    Example:

        lum rank -d data/ml-1m/dataset -k data/ml-1m/knowledge -o data/ml-1m/ranker -c configs/ml-1m.yaml
    """
    from openlum.rank.run import rank as train
    from openlum.rank.settings import RankSettings
    from openlum.report import summary_table

    console.print(summary_table(train(dataset, knowledge, out, _section(config, "rank", RankSettings), truth)))


@app.command()
def retrieve(dataset: DatasetDir, model: ModelDir, out: Out, config: Config = None) -> None:
    """Rank all items for every user with the last one held out.

    Example:

        lum retrieve -d data/ml-1m/dataset -m data/ml-1m/model -o data/ml-1m/retrieval
    """
    from openlum.retrieve.evaluate import retrieve as evaluate
    from openlum.retrieve.settings import RetrieveSettings

    found = evaluate(dataset, model, out, _section(config, "retrieve", RetrieveSettings))
    _show({f"question '{question}'": metrics for question, metrics in found.items()}, out)


def _section(config: Path | None, name: str, kind: type[S]) -> S:
    """A section of an experiment file, or its defaults."""
    if config is None:
        return kind()
    from openlum.run import Experiment

    section = getattr(load_settings(config, Experiment), name)
    return kind() if section is None else section


def _show(figures: dict[str, Any], out: Path) -> None:
    for name, value in figures.items():
        shown = ", ".join(f"{k} {v:.4f}" for k, v in value.items()) if isinstance(value, dict) else value
        text = f"{shown:,}" if isinstance(shown, int) else f"{shown:.4f}" if isinstance(shown, float) else shown
        console.print(f"{name:24} {text}", soft_wrap=True)
    console.print(f"written: {out}", soft_wrap=True)


def main() -> None:
    """Entry point. Exit status: 0 fine, 2 the user's input, 1 our fault."""
    try:
        app()
    except InputError as error:
        print(f"lum: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"lum: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            print("lum: interrupted; the same command goes on where a training was", file=sys.stderr)
        raise
    except Exception as error:
        with tempfile.NamedTemporaryFile("w", prefix="lum-", suffix=".log", delete=False) as log:
            traceback.print_exc(file=log)
        print(f"lum: internal error: {error!r}. This is our fault; the details are in {log.name}", file=sys.stderr)
        sys.exit(1)
