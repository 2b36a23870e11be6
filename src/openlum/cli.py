"""The command line, thin. Heavy imports wait until a command runs."""

import math
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn
from rich.table import Column, Table

from openlum.bench.command import bench
from openlum.config import Settings, load_settings
from openlum.console import new_console, new_progress
from openlum.errors import InputError

app = typer.Typer(
    name="lum",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="The Large User Model: knowledge construction, querying and utilization. Start with `lum run configs/market.yaml`.",
)
app.add_typer(bench, name="bench")
console = new_console()

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Experiment file whose section is used.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Directory to write; it appears whole or not at all.")]
DatasetDir = Annotated[Path, typer.Option("--dataset", "-d", help="From `lum prepare`.")]
ModelDir = Annotated[Path, typer.Option("--model", "-m", help="From `lum pretrain`.")]

INTERRUPTED = 130
"""The exit status after Ctrl-C."""

S = TypeVar("S", bound=Settings)


def _whole_number(text: str) -> int:
    """A whole number, which may be written 1e6."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise InputError(f"'{text}' is not a whole number; write 1000000, 1_000_000 or 1e6")
    return int(number)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="Experiment file, for example configs/market.yaml.")],
    runs: Annotated[Path, typer.Option(help="Directory for runs/NAME.")] = Path("runs"),
    from_dir: Annotated[Path | None, typer.Option("--from", help="The publisher's files of a public data set.")] = None,
) -> None:
    """The whole chain from one experiment file. Steps whose inputs, settings and code have not changed are skipped.

    Examples:

        lum run configs/market.yaml

        lum run configs/ml-1m.yaml --from ~/Downloads/ml-1m
    """
    from openlum.report import summary_table
    from openlum.run import run as run_experiment

    summary, report = run_experiment(config, runs, console, from_dir)
    if "ranking" in summary:
        console.print(summary_table(summary))
    _show_retrieval(summary.get("retrieval", {}))
    console.print(f"report: {report.resolve()}", soft_wrap=True)


@app.command()
def data(
    name: Annotated[str | None, typer.Argument(help="Name of the data set; without one, all are listed.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Directory to write.", show_default="data/NAME")
    ] = None,
    from_dir: Annotated[Path | None, typer.Option("--from", help="Directory with the publisher's files.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Accept fewer rows or files than were published.")] = False,
    negatives: Annotated[
        int | None,
        typer.Option(
            "--negatives",
            min=1,
            metavar="N",
            help="Amazon: rank each review (label 1) among N items (label 0) of other reviews of that time.",
        ),
    ] = None,
) -> None:
    """Fetch a public data set, or take it from a directory, and write its log and schema.

    Examples:

        lum data

        lum data ml-1m

        lum data ml-1m --from ~/Downloads/ml-1m --out data/ml-1m

        lum data amazon-2014-beauty_5 --negatives 4
    """
    from openlum.data import public

    if name is None:
        table = Table(Column("name", no_wrap=True), "size", Column("publisher", overflow="fold"))
        for known, publisher in public.publishers().items():
            table.add_row(known, publisher.size, publisher.page)
        console.print(table)
        return
    schema = public.write(name, out or Path("data") / name, from_dir, partial, negatives)
    console.print(f"schema: {schema}", soft_wrap=True)


@app.command()
def market(
    users: Annotated[int, typer.Option(parser=_whole_number, metavar="NUMBER", help="How many users.")],
    events: Annotated[
        int,
        typer.Option(
            parser=_whole_number,
            metavar="NUMBER",
            help="About how many events: they become sessions per user, each a slate of up to 8 items, and each item "
            "shown is an event. With few users it may be far off. How many were written is printed at the end.",
        ),
    ],
    out: Out,
    items: Annotated[
        int | None,
        typer.Option(
            parser=_whole_number,
            metavar="NUMBER",
            help="How many items, at least 100.",
            show_default="half as many as users, at least 1500",
        ),
    ] = None,
    days: Annotated[
        int, typer.Option(parser=_whole_number, metavar="NUMBER", help="Length of the log, from 2025-01-01 on.")
    ] = 60,
    seed: Annotated[int, typer.Option(help="The same sizes and seed give the same files, byte for byte.")] = 0,
    processes: Annotated[
        int | None,
        typer.Option(help="Processes that simulate. The files don't depend on it.", show_default="one a core"),
    ] = None,
) -> None:
    """Simulate a marketplace of any size: its event log, impressions, items, users and schema.

    Numbers may be written 1e6. Memory does not grow with the log.

    Examples:

        lum market --users 1000 --events 1e5 --out data/market

        lum market --users 1e6 --events 1e8 --items 5e5 --out data/market-100m
    """
    from openlum.data.market import market_figures, market_of_size, write_market

    settings = market_of_size(users, events, items, days, seed)
    began = time.monotonic()
    schema = write_market(settings, out, (os.cpu_count() or 1) if processes is None else processes)
    per_minute = 60 / (time.monotonic() - began)
    figures = market_figures(out)
    _show(
        {
            "users": figures.users,
            "items": figures.items,
            "events": figures.events,
            "impressions": figures.events,
            "click rate": figures.click_rate,
            "events a minute": int(figures.events * per_minute),
        }
        | {name: f"{size / 1e6:,.1f} MB" for name, size in figures.sizes.items()},
        out,
    )
    console.print(f"schema: {schema}", soft_wrap=True)


@app.command()
def schema(
    log: Annotated[str, typer.Argument(help="The event log, Parquet or CSV: a file, a directory or a 'pattern*'.")],
    items: Annotated[str | None, typer.Option(help="The item table.")] = None,
    users: Annotated[str | None, typer.Option(help="The user table.")] = None,
    impressions: Annotated[str | None, typer.Option(help="The impression log.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write, with paths relative to it.", show_default="print it"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file where it exists.")] = False,
    sample: Annotated[int, typer.Option(min=1, help="Rows of each table that are looked at.")] = 100_000,
) -> None:
    """Propose a schema for a log: a commented YAML, ready to edit.

    Roles, types and feedback are guessed from the names and values of columns; what could not be guessed says `???`.

    Examples:

        lum schema log/ --items items.parquet --impressions impressions.parquet --out schema.yaml

        lum schema ratings.csv
    """
    from openlum.data.propose import propose

    if out is not None and out.exists() and not force:
        raise InputError(f"{out}: exists; name another file, or replace it with --force")
    proposal = propose(log, items, users, impressions, out.resolve().parent if out else None, sample)
    if out is None:
        print(proposal.text, end="")
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(proposal.text, encoding="utf-8")
        print(f"schema: {out}", file=sys.stderr)
    if proposal.missing:
        print(f"to be filled in, where ??? stands: {', '.join(proposal.missing)}", file=sys.stderr)


@app.command()
def prepare(
    schema: Annotated[Path | None, typer.Argument(help="Schema file (YAML) of the log.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Dataset to write, or to add to; it appears whole or not at all."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the log against the schema; write nothing.")
    ] = False,
    append: Annotated[
        Path | None, typer.Option("--append", help="Without SCHEMA: new files of the event log, added to --out.")
    ] = None,
    impressions: Annotated[
        Path | None, typer.Option(help="Without SCHEMA: new files of the impression log, added to --out.")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Without SCHEMA: new files of the item table, added to --out.")
    ] = None,
    users: Annotated[
        Path | None, typer.Option(help="Without SCHEMA: new files of the user table, added to --out.")
    ] = None,
) -> None:
    """Turn a log and its schema into a dataset; or, without SCHEMA, add new files of any of its tables to the dataset --out.

    Examples:

        lum prepare data/ml-1m/schema.yaml --out data/ml-1m/dataset

        lum prepare data/shop/schema.yaml --check

        lum prepare --append log/2026-01-02.parquet --out data/shop/dataset

        lum prepare --impressions candidates/2026-01-03.parquet --out data/shop/dataset
    """
    from openlum.data import prepare as preparing
    from openlum.data.report import dataset_summary

    new = {"--append": append, "--impressions": impressions, "--items": items, "--users": users}
    given = [option for option, path in new.items() if path is not None]
    if given:
        if schema is not None or check or out is None:
            raise InputError(
                f"{', '.join(given)}: new files go into a dataset that is there, by its own schema; give --out DATASET, and "
                "neither SCHEMA nor --check"
            )
        info = preparing.append(out, append, impressions, items, users)
    elif schema is None or (out is None) != check:
        raise InputError(
            "give SCHEMA and --out DATASET, or SCHEMA and --check; or, to add to a dataset, --out DATASET and new files with "
            "--append, --impressions, --items or --users"
        )
    else:
        info = preparing.prepare(schema, out) if out is not None else preparing.check(schema)
    console.print(dataset_summary(info))
    if out is None:
        console.print("checked: nothing was written")
        return
    console.print(f"dataset: {out}", soft_wrap=True)
    console.print(f"report: {(out / 'report.html').resolve()}", soft_wrap=True)


@app.command()
def pretrain(
    dataset: DatasetDir,
    out: Out,
    config: Config = None,
    init_from: Annotated[
        Path | None, typer.Option("--init-from", help="A model to begin with, for a dataset that has grown since.")
    ] = None,
) -> None:
    """Step 1, knowledge construction: train a Large User Model. An interrupted training goes on where it was.

    Examples:

        lum pretrain --dataset data/ml-1m/dataset --out data/ml-1m/model --config configs/ml-1m.yaml

        lum pretrain --dataset data/grown --out data/new-model --init-from data/ml-1m/model
    """
    from openlum.model.settings import ModelSettings
    from openlum.pretrain.settings import PretrainSettings
    from openlum.pretrain.train import pretrain as train

    shape, settings = _section(config, "model", ModelSettings), _section(config, "pretrain", PretrainSettings)
    _show(train(dataset, out, shape, settings, init_from), out)


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
    _show_retrieval(found)
    console.print(f"written: {out}", soft_wrap=True)


@app.command()
def verify(
    directory: Annotated[Path, typer.Argument(help="A directory that lum wrote: an artefact, or a whole runs/NAME.")],
) -> None:
    """Compare every file with the checksum that was written beside it. Exit status 2 names the files that differ.

    Examples:

        lum verify runs/market

        lum verify data/ml-1m/dataset
    """
    from openlum.verify import artefacts_in
    from openlum.verify import verify as compare

    size = sum(part.bytes for manifest in artefacts_in(directory).values() for part in manifest.parts.values())
    columns = "{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with new_progress(*columns, console=new_console(stderr=True), transient=True) as shown:
        task = shown.add_task("verifying", total=size)
        files = compare(directory, lambda _, read: shown.advance(task, read))
    console.print(f"{files:,} files are as they were written", soft_wrap=True)


def _section(config: Path | None, name: str, kind: type[S]) -> S:
    """A section of an experiment file, or its defaults."""
    if config is None:
        return kind()
    from openlum.run import Experiment

    section = getattr(load_settings(config, Experiment), name)
    return kind() if section is None else section


def _show_retrieval(found: dict[str, dict[str, float]]) -> None:
    for question, metrics in found.items():
        console.print(f"{f'question {question!r}':24} {_told(metrics)}", soft_wrap=True)


def _show(figures: dict[str, Any], out: Path) -> None:
    for name, value in figures.items():
        shown = _told(value) if isinstance(value, dict) else value
        text = f"{shown:,}" if isinstance(shown, int) else f"{shown:.4f}" if isinstance(shown, float) else shown
        console.print(f"{name:24} {text}", soft_wrap=True)
    console.print(f"written: {out}", soft_wrap=True)


def _told(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def main() -> None:
    """Entry point. Exit status: 0 fine, 2 the user's input, 1 our fault."""
    try:
        app()
    except InputError as error:
        print(f"lum: {error}", file=sys.stderr)
        sys.exit(2)
    except MemoryError as error:
        print(f"lum: memory ran out ({error}); use smaller settings, or a machine with more", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"lum: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            print(
                "lum: interrupted; the same command goes on: with finished steps and trainings of a benchmark, and where a "
                "pretraining was; other steps begin again",
                file=sys.stderr,
            )
        raise
    except Exception as error:
        with tempfile.NamedTemporaryFile("w", prefix="lum-", suffix=".log", delete=False) as log:
            traceback.print_exc(file=log)
        print(f"lum: internal error: {error!r}. This is our fault; the details are in {log.name}", file=sys.stderr)
        sys.exit(1)
