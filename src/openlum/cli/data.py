"""Commands about logs and what is on disk: `lum data`, `lum market`, `lum schema`, `lum prepare`, `lum verify`."""

import math
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn
from rich.table import Column, Table

from openlum.cli.shared import Out, app, console, show_figures
from openlum.console import new_console, new_progress
from openlum.errors import InputError


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
    from openlum.sources import public

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
    from openlum.sources.market.settings import market_of_size
    from openlum.sources.market.write import market_figures, write_market

    settings = market_of_size(users, events, items, days, seed)
    began = time.monotonic()
    schema = write_market(settings, out, (os.cpu_count() or 1) if processes is None else processes)
    per_minute = 60 / (time.monotonic() - began)
    figures = market_figures(out)
    show_figures(
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
    from openlum.schema_wizard import propose

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
    from openlum.prepare import run as preparing
    from openlum.report.dataset_report import dataset_summary

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
def verify(
    directory: Annotated[Path, typer.Argument(help="A directory that lum wrote: an artefact, or a whole runs/NAME.")],
) -> None:
    """Compare every file with the checksum that was written beside it. Exit status 2 names the files that differ.

    Examples:

        lum verify runs/market

        lum verify data/ml-1m/dataset
    """
    from openlum.artefact.verify import artefacts_in
    from openlum.artefact.verify import verify as compare

    size = sum(part.bytes for manifest in artefacts_in(directory).values() for part in manifest.parts.values())
    columns = "{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with new_progress(*columns, console=new_console(stderr=True), transient=True) as shown:
        task = shown.add_task("verifying", total=size)
        files = compare(directory, lambda _, read: shown.advance(task, read))
    console.print(f"{files:,} files are as they were written", soft_wrap=True)
