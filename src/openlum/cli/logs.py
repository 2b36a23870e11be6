"""Commands that write a log or its schema: `lum data`, `lum market`, `lum schema`."""

import math
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Column, Table

from openlum.cli.shared import Out, app, console, print_figures
from openlum.errors import InputError


def _whole_number(text: str) -> int:
    """Return a whole number from text such as 1000000, 1_000_000 or 1e6."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise InputError(f"'{text}' is not a whole number; write 1000000, 1_000_000 or 1e6")
    return int(number)


@app.command()
def data(
    name: Annotated[
        str | None, typer.Argument(help="Name of the data set. Without a name, all data sets are listed.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Directory to write.", show_default="data/NAME")
    ] = None,
    from_dir: Annotated[Path | None, typer.Option("--from", help="Directory with the publisher's files.")] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Accept fewer rows or files than the publisher states.")
    ] = False,
    negatives: Annotated[
        int | None,
        typer.Option(
            "--negatives",
            min=1,
            metavar="N",
            help="Amazon data sets only: rank each review (label 1) among N items of other reviews from the same time (label 0).",
        ),
    ] = None,
) -> None:
    """Download a public data set, or read it from a directory, and write its log and schema.

    Examples:

        lum data

        lum data ml-1m

        lum data ml-1m --from ~/Downloads/ml-1m --out data/ml-1m

        lum data amazon-2014-beauty_5 --negatives 4
    """
    from openlum.sources import public

    if name is None:
        table = Table(Column("name", no_wrap=True), "size", Column("publisher", overflow="fold"))
        for name, dataset in public.published_datasets().items():
            table.add_row(name, dataset.size, dataset.page)
        console.print(table)
        return
    schema = public.write(name, out or Path("data") / name, from_dir, partial, negatives)
    console.print(f"schema: {schema}", soft_wrap=True)


World = Literal["market", "shop", "news", "travel"]


@app.command()
def market(
    out: Out,
    world: Annotated[
        World,
        typer.Option(
            help="Kind of log. market: lists of items with clicks and skips. shop: few events per user, many items. news: "
            "articles that live for hours. travel: lists of hotels, where most clicks repeat."
        ),
    ] = "market",
    users: Annotated[
        int | None,
        typer.Option(
            parser=_whole_number,
            metavar="NUMBER",
            help="Number of users.",
            show_default="1000; shop 6000, news 2000, travel 1500",
        ),
    ] = None,
    events: Annotated[
        int | None,
        typer.Option(
            parser=_whole_number,
            metavar="NUMBER",
            help="Approximate number of events. In market and travel, every shown item is an event; in shop and news, only "
            "those that were taken or clicked. With few users the number may differ much; the exact number is printed at "
            "the end.",
            show_default="in proportion to the users: 100 for each user; shop 7, news 14, travel 110",
        ),
    ] = None,
    items: Annotated[
        int | None,
        typer.Option(
            parser=_whole_number,
            metavar="NUMBER",
            help="Number of items, at least 100.",
            show_default="half as many as users, at least 1500; shop 12000, news 2200, travel 1200",
        ),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(
            parser=_whole_number,
            metavar="NUMBER",
            help="Number of days of the log, which begins on 2025-01-01.",
            show_default="60; shop 360, news 10, travel 120",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the simulation. The same sizes and seed give the same files, byte for byte.")
    ] = 0,
    processes: Annotated[
        int | None,
        typer.Option(help="Number of processes. The files do not depend on it.", show_default="one per core"),
    ] = None,
) -> None:
    """Simulate a marketplace or another world, and write its event log, impressions, items, users and schema.

    Numbers may be written as 1e6. Memory does not grow with the log.

    Examples:

        lum market --users 1000 --events 1e5 --out data/market

        lum market --users 1e6 --events 1e8 --items 5e5 --out data/market-100m

        lum market --world news --out data/news

        lum market --world travel --users 500 --seed 3 --out data/travel
    """
    from openlum.capacity import available_cores
    from openlum.sources.market.settings import world_of_size
    from openlum.sources.market.write import market_figures, write_market

    settings = world_of_size(world, users, events, items, days, seed)
    start = time.monotonic()
    schema = write_market(settings, out, available_cores() if processes is None else processes)
    per_minute = 60 / (time.monotonic() - start)
    figures = market_figures(out)
    print_figures(
        {
            "users": figures.users,
            "items": figures.items,
            "events": figures.events,
            "impressions": figures.impressions,
            "click rate": figures.click_rate,
            "events per minute": int(figures.events * per_minute),
        }
        | {name: f"{size / 1e6:,.1f} MB" for name, size in figures.sizes.items()},
        out,
    )
    console.print(f"schema: {schema}", soft_wrap=True)


@app.command()
def schema(
    log: Annotated[str, typer.Argument(help="The event log in Parquet or CSV: a file, a directory or a 'pattern*'.")],
    items: Annotated[str | None, typer.Option(help="The item table.")] = None,
    users: Annotated[str | None, typer.Option(help="The user table.")] = None,
    impressions: Annotated[str | None, typer.Option(help="The impression log.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Schema file to write. Its paths are relative to it.", show_default="print it"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    sample: Annotated[int, typer.Option(min=1, help="Number of rows of each table to examine.")] = 100_000,
) -> None:
    """Propose a schema for a log: a YAML file with comments, for you to edit.

    Roles, types and feedback are derived from the names and values of columns. `???` marks a value that you must fill in.

    Examples:

        lum schema log/ --items items.parquet --impressions impressions.parquet --out schema.yaml

        lum schema ratings.csv
    """
    from openlum.schema_wizard import propose

    if out is not None and out.exists() and not force:
        raise InputError(f"{out}: already exists; name another file, or replace this one with --force")
    proposal = propose(log, items, users, impressions, out.resolve().parent if out else None, sample)
    if out is None:
        print(proposal.text, end="")
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(proposal.text, encoding="utf-8")
        print(f"schema: {out}", file=sys.stderr)
    if proposal.missing:
        print(f"replace ??? in the schema with: {', '.join(proposal.missing)}", file=sys.stderr)
