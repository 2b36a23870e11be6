"""The command `lum verify`, which checks artefacts."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn

from openlum.cli.shared import app, console
from openlum.console import new_console, new_progress


@app.command()
def verify(
    directory: Annotated[Path, typer.Argument(help="An artefact, or a directory with artefacts, such as runs/NAME.")],
) -> None:
    """Compare every file of an artefact with its checksum. If files differ, name them and exit with status 2.

    Examples:

        lum verify runs/market

        lum verify data/ml-1m/dataset
    """
    from openlum.artefact.verify import artefacts_in
    from openlum.artefact.verify import verify as compare

    size = sum(part.bytes for manifest in artefacts_in(directory).values() for part in manifest.parts.values())
    columns = "{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with new_progress(*columns, console=new_console(stderr=True), transient=True) as progress:
        task = progress.add_task("verifying", total=size)
        files = compare(directory, lambda _, file_size: progress.advance(task, file_size))
    console.print(f"verified: {files:,} files have the content that was written", soft_wrap=True)
