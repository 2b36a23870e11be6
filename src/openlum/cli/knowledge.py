"""Commands of `lum knowledge`: look into knowledge, join it to other tables, and check it."""

from pathlib import Path
from typing import Annotated

import typer

from openlum.cli.shared import console, print_lines

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

    console.print(rows_table(Knowledge(directory), user, rows))


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
    console.print(columns_table(figures))
