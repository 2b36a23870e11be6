"""The log of a simulated world: events and impressions with known click probabilities.

In the marketplace, users have hidden interests that drift (`users.py`). A user comes in sessions. Each session has one
scenario, which gives more weight to some of the interests, and shows a slate of items. The other worlds are in files of
their own: `shop.py`, `news.py` and `travel.py`. The true probability of each click is written to `truth.parquet`. Only
the evaluation reads `truth.parquet`: its ranking is the *oracle*, which no model can beat.

The log is written in chunks of users, so memory does not grow with the log. Several processes may simulate the chunks,
but one process writes them in order, so the number of processes does not change the files.
"""

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openlum.artefact.directory import files_of, whole_directory
from openlum.capacity import check_space
from openlum.console import new_console, tracked
from openlum.errors import InputError
from openlum.sources.market.settings import MarketSettings, WorldSettings
from openlum.sources.market.worlds import draw_world, most_events, world_kind

BYTES_PER_EVENT = 15
"""Least disk space of an event with its impression and its click probability."""


def write_market(settings: MarketSettings | WorldSettings, out: str | Path, processes: int = 1) -> Path:
    """Simulate a marketplace or another world, write its log to a directory and return its schema file.

    The directory appears complete or not at all.

    Writes `events.parquet`, `impressions.parquet`, `items.parquet`, `schema.yaml`, and `truth.parquet` (row id of the
    impression, true click probability), which the schema does not name. The marketplace and `travel` also have
    `users.parquet`.

    Args:
        settings: size of the marketplace, behaviour of its users, and seed; or kind and size of another world.
        out: the directory. An existing directory is replaced.
        processes: how many processes simulate users. More than one are started with "spawn", so a script that calls this
            function needs `if __name__ == "__main__":` around the call.

    Returns:
        The schema file, for `lum prepare`.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> write_market(MarketSettings(users=10, items=100, sessions=2), folder + "/market").name
        'schema.yaml'
    """
    if processes < 1:
        raise InputError(f"--processes {processes}: expected at least 1")
    events = most_events(settings)
    check_space(Path(out), BYTES_PER_EVENT * events, f"a log of up to {events:,.0f} events")
    kind, world = world_kind(settings), draw_world(settings)
    starts = range(0, settings.users, settings.users_per_chunk)
    with whole_directory(out, "log") as draft:
        pq.write_table(kind.item_table(world), draft / "items.parquet")
        (draft / "schema.yaml").write_text(kind.schema, encoding="utf-8")
        with ExitStack() as stack:
            if processes > 1 and len(starts) > 1:
                chunks = stack.enter_context(_simulate_in_processes(settings, starts, min(processes, len(starts))))
            else:
                chunks = (kind.simulate_chunk(settings, world, first) for first in starts)
            writers: dict[str, pq.ParquetWriter] = {}
            next_id = {"row": 0, "request_id": 0}  # the ids of every chunk begin at 0
            for tables in tracked(chunks, "simulating users", len(starts), new_console(stderr=True)):
                for name, table in tables.items():
                    for id_column in next_id.keys() & set(table.column_names):
                        index = table.column_names.index(id_column)
                        table = table.set_column(index, id_column, pc.add(table[id_column], next_id[id_column]))
                    if name not in writers:
                        writers[name] = stack.enter_context(pq.ParquetWriter(draft / f"{name}.parquet", table.schema))
                    writers[name].write_table(table)
                for id_column in next_id.keys() & set(tables["impressions"].column_names):
                    next_id[id_column] += pc.max(tables["impressions"][id_column]).as_py() + 1
    return Path(out) / "schema.yaml"


@dataclass(frozen=True)
class MarketFigures:
    """Counts of the rows and files in a market directory."""

    users: int
    """Number of users."""
    items: int
    """Number of items."""
    events: int
    """Number of events."""
    impressions: int
    """Number of impressions."""
    click_rate: float
    """Fraction of the impressions that were clicked."""
    sizes: dict[str, int]
    """File name to size in bytes."""


def market_figures(directory: Path) -> MarketFigures:
    """Return the counts of a directory that `write_market` wrote. Only one row group at a time is in memory."""
    rows = {
        name: pq.read_metadata(directory / f"{name}.parquet").num_rows for name in ("items", "events", "impressions")
    }
    users = clicks = 0
    with pq.ParquetFile(directory / "impressions.parquet") as file:
        for batch in file.iter_batches(columns=["user_id", "label"]):
            users = max(users, pc.max(batch["user_id"]).as_py())  # users are numbered from 1, and each has impressions
            clicks += pc.sum(batch["label"]).as_py()
    return MarketFigures(users=users, **rows, click_rate=clicks / rows["impressions"], sizes=files_of(directory))


@contextmanager
def _simulate_in_processes(
    settings: MarketSettings | WorldSettings, starts: range, processes: int
) -> Iterator[Iterator[dict[str, pa.Table]]]:
    """Yield an iterator over the chunks in order. The processes take turns; each holds one chunk until it is received."""
    context = multiprocessing.get_context("spawn")
    workers = []
    resource_tracker.ensure_running()  # before the mask is set, because starting the tracker would reset it
    # Ctrl-C reaches every process of the terminal, but only this process must handle it. New processes inherit the mask.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for turn in range(processes):
            receiver, sender = context.Pipe(duplex=False)
            process_starts = starts[turn::processes]
            process = context.Process(target=_send_chunks, args=(settings, process_starts, sender), daemon=True)
            process.start()
            sender.close()  # only the process keeps it, so the pipe ends when the process ends
            workers.append((process, receiver))
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield (_receive(*workers[turn % processes]) for turn in range(len(starts)))
    finally:
        for process, _ in workers:
            process.terminate()
            process.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _send_chunks(settings: MarketSettings | WorldSettings, starts: range, sender: Connection) -> None:
    """Simulate the chunks of users that begin at `starts` and send their tables. Runs in a process of its own."""
    kind, world = world_kind(settings), draw_world(settings)
    try:
        for first in starts:
            sender.send(kind.simulate_chunk(settings, world, first))
    except BrokenPipeError:
        return  # the receiving process has ended


def _receive(process: Any, receiver: Connection) -> dict[str, pa.Table]:
    """Return the tables of the next chunk of a process."""
    try:
        tables: dict[str, pa.Table] = receiver.recv()
    except EOFError:
        process.join()
        raise InputError(
            f"a simulation process ended with status {process.exitcode}; if memory ran out, use fewer --processes"
        ) from None
    return tables
