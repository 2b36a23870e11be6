"""Commands of `lum knowledge`: look into knowledge, join it to other tables, and check it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from openlum.cli.shared import Config, DatasetDir, ModelDir, Overrides, console, print_figures, print_lines
from openlum.console import new_console

WIDEST = 10_000
"""Largest number of characters in a line of a table."""

knowledge = typer.Typer(no_args_is_help=True, help="Knowledge from `lum query`: look into it, join it, check it.")
Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="Knowledge from `lum query`, per impression or per user.")
]


@knowledge.command()
def show(
    directory: Directory,
    user: Annotated[str | None, typer.Option(help="Only rows of this user (the id in the log).")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Largest number of rows.")] = 4,
) -> None:
    """Print some rows: ids, times, scores, and the first numbers of each vector.

    Examples:

        lum knowledge show runs/market/knowledge

        lum knowledge show runs/market/knowledge --user 7 --rows 2
    """
    from openlum.data.knowledge import Knowledge
    from openlum.report.knowledge_tables import rows_table

    _print_whole(rows_table(Knowledge(directory), user, rows))


@knowledge.command()
def stats(directory: Directory) -> None:
    """Print the number of rows and users, sizes, times and versions, and the figures of every column.

    Example:

        lum knowledge stats runs/market/knowledge
    """
    from openlum.data.knowledge import Knowledge
    from openlum.report.knowledge_tables import columns_table, knowledge_figures, statistics

    stored = Knowledge(directory)
    figures = statistics(stored)
    print_lines(knowledge_figures(stored, figures))
    _print_whole(columns_table(figures))


@knowledge.command()
def join(
    log: Annotated[str, typer.Argument(help="Table to join to: a file, a directory or a pattern, Parquet or CSV.")],
    user: Annotated[str, typer.Option(help="Column of the user id.")],
    time: Annotated[str, typer.Option(help="Column of the time of each row.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Parquet file to write.")],
    knowledge: Annotated[
        list[Path],
        typer.Option("--knowledge", "-k", help="Knowledge per user. May be given several times, once for each night."),
    ] = [],  # noqa: B006
    item: Annotated[str | None, typer.Option(help="Column of the item id, for similarities and predictions.")] = None,
    dataset: Annotated[
        Path | None, typer.Option("--dataset", "-d", help="Dataset from `lum prepare`; with --model.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            "-m",
            help="Model from `lum pretrain`. Without --knowledge, it answers every row from the events before the row; with "
            "--knowledge and --item, its matching head predicts the feedback.",
        ),
    ] = None,
    prefix: Annotated[str, typer.Option(help="Begin the names of the added columns with this text.")] = "",
    time_unit: Annotated[
        str, typer.Option(metavar="s|ms|us|ns|yyyymmdd", help="Unit of numeric times since 1970.")
    ] = "s",
    date_order: Annotated[
        str | None, typer.Option(metavar="dmy|mdy", help="Order of day and month in dates such as 01/02/2026.")
    ] = None,
    config: Config = None,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Add knowledge to the rows of any table with users and times, each row as of its own time.

    Examples:

        lum knowledge join clicks.parquet -k users --user user_id --time timestamp -o joined.parquet

        lum knowledge join clicks.parquet -d dataset -m model --user user_id --time timestamp --item sku -o joined.parquet
    """
    from openlum.config import parse_settings
    from openlum.pipeline.experiment import step_settings
    from openlum.prepare.outside_log import LogColumns
    from openlum.query.join import join as add_knowledge
    from openlum.query.settings import QuerySettings

    has_settings = config is not None or bool(overrides)
    settings = step_settings(config, "query", QuerySettings, overrides) if has_settings else None
    named = {"user": user, "time": time, "item": item, "time_unit": time_unit, "date_order": date_order}
    columns = parse_settings(named, LogColumns, where="columns")
    print_figures(add_knowledge(log, out, columns, knowledge, dataset, model, settings, prefix), out)


@knowledge.command()
def audit(
    directory: Directory,
    dataset: DatasetDir,
    model: ModelDir,
    rows: Annotated[int, typer.Option(min=1, help="Number of random rows to compute again.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample.")] = 0,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0,
            help="Numbers may differ by this much. A GPU rounds more, because it computes attention in half precision.",
        ),
    ] = 1e-3,
) -> None:
    """Compute a sample of rows again from histories that end before each row's time, and exit with status 1 if a value differs.

    Example:

        lum knowledge audit runs/market/knowledge -d runs/market/dataset -m runs/market/model --rows 100
    """
    from openlum.query.audit import audit as compare
    from openlum.query.audit import audit_tables

    result = compare(directory, dataset, model, rows, seed, tolerance)
    for table in audit_tables(result):
        console.print(table)
    for note in result.notes:
        console.print(f"note: {note}", soft_wrap=True)
    if result.differences:
        console.print(f"{len(result.differences):,} values differ in {result.rows:,} rows", soft_wrap=True)
        raise typer.Exit(1)
    console.print(f"{result.rows:,} rows have the values of histories that end before their times", soft_wrap=True)


def _print_whole(table: Table) -> None:
    """Print a table in its full width, also in a narrower terminal: folded numbers cannot be read."""
    wide = new_console()
    widest = wide.options.update(width=WIDEST)
    wide.width = max(wide.width, wide.measure(table, options=widest).maximum)
    wide.print(table)
