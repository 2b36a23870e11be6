"""The simulated marketplace: an event log and an impression log whose true click probabilities are known.

Users have drifting interests that nobody sees (`market_users.py`). They come in sessions, each in one scenario that
pulls some of these interests more than others, and each shows a slate of items. The probability of every click is known
and is written apart, in `truth.parquet`: only evaluation reads it, for the *oracle*, the score that no model can beat.

The log is written user chunk by user chunk, so memory does not grow with it. Several processes may simulate the chunks;
one writes them, in order, so that their number does not change a byte.
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

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openlum.artefact.directory import files_of, whole_directory
from openlum.capacity import check_space
from openlum.console import new_console, tracked
from openlum.errors import InputError
from openlum.sources.market.settings import MarketSettings
from openlum.sources.market.tables import SCHEMA, item_table, log_tables, user_table
from openlum.sources.market.users import simulate_users
from openlum.sources.market.world import World

BYTES_OF_AN_EVENT = 15
"""On the disk, with its impression and its probability, at least."""


def write_market(settings: MarketSettings, out: str | Path, processes: int = 1) -> Path:
    """Simulate a marketplace and write its log into a directory, which appears whole or not at all.

    Writes `events.parquet`, `impressions.parquet`, `items.parquet`, `users.parquet`, `schema.yaml`, and `truth.parquet`
    (row id of the impression, true click probability), which the schema does not name.

    Args:
        settings: size, character and seed.
        out: the directory. It is replaced where it exists.
        processes: how many simulate users. Above 1 they are started afresh ("spawn"): a script that calls this needs
            `if __name__ == "__main__":` around it.

    Returns:
        The schema file, for `lum prepare`.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> write_market(MarketSettings(users=10, items=100, sessions=2), folder + "/market").name
        'schema.yaml'
    """
    if processes < 1:
        raise InputError(f"--processes {processes}: at least one is needed")
    events = settings.users * settings.sessions * settings.slate
    check_space(Path(out), BYTES_OF_AN_EVENT * events, f"a market of up to {events:,.0f} events")
    world = World.draw(settings.items, np.random.default_rng([settings.seed, 0]))
    starts = range(0, settings.users, settings.users_per_chunk)
    with whole_directory(out, "log") as draft:
        pq.write_table(item_table(world), draft / "items.parquet")
        (draft / "schema.yaml").write_text(SCHEMA, encoding="utf-8")
        with ExitStack() as stack:
            if processes > 1 and len(starts) > 1:
                chunks = stack.enter_context(_simulated_elsewhere(settings, starts, min(processes, len(starts))))
            else:
                chunks = (_simulate(settings, world, first) for first in starts)
            writers: dict[str, pq.ParquetWriter] = {}
            rows = 0
            for tables in tracked(chunks, "simulating users", len(starts), new_console(stderr=True)):
                for name, table in tables.items():
                    if "row" in table.column_names:  # counted from 0 in every chunk
                        place = table.column_names.index("row")
                        table = table.set_column(place, "row", pc.add(table["row"], rows))
                    if name not in writers:
                        writers[name] = stack.enter_context(pq.ParquetWriter(draft / f"{name}.parquet", table.schema))
                    writers[name].write_table(table)
                rows += len(tables["events"])
    return Path(out) / "schema.yaml"


@dataclass(frozen=True)
class MarketFigures:
    """What a market directory holds, counted in its files."""

    users: int
    """Users."""
    items: int
    """Items."""
    events: int
    """Events; there are as many impressions."""
    click_rate: float
    """Part of the impressions that was clicked."""
    sizes: dict[str, int]
    """File to its bytes."""


def market_figures(directory: Path) -> MarketFigures:
    """Count a market that `write_market` wrote; one row group at a time is in memory."""
    rows = {name: pq.read_metadata(directory / f"{name}.parquet").num_rows for name in ("users", "items", "events")}
    with pq.ParquetFile(directory / "impressions.parquet") as file:
        clicks = sum(pc.sum(batch["label"]).as_py() for batch in file.iter_batches(columns=["label"]))
    return MarketFigures(**rows, click_rate=clicks / rows["events"], sizes=files_of(directory))


def _simulate(settings: MarketSettings, world: World, first: int) -> dict[str, pa.Table]:
    """The tables of the chunk of users from `first` on; rows are counted from 0."""
    count = min(settings.users_per_chunk, settings.users - first)
    crowd, slates = simulate_users(settings, world, count, np.random.default_rng([settings.seed, 1, first]))
    return log_tables(slates, first) | {"users": user_table(crowd.age, crowd.city, first)}


@contextmanager
def _simulated_elsewhere(
    settings: MarketSettings, starts: range, processes: int
) -> Iterator[Iterator[dict[str, pa.Table]]]:
    """Chunks in order, from processes that take turns. Each holds one chunk at most: it waits until that is taken."""
    context = multiprocessing.get_context("spawn")
    started = []
    resource_tracker.ensure_running()  # before the mask: it would lift it
    # Ctrl-C reaches every process of the terminal; only this one is to act on it. The mask is inherited.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for turn in range(processes):
            receiver, sender = context.Pipe(duplex=False)
            turns = starts[turn::processes]
            process = context.Process(target=_send_chunks, args=(settings, turns, sender), daemon=True)
            process.start()
            sender.close()  # so that the pipe ends with its process
            started.append((process, receiver))
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield (_receive(*started[turn % processes]) for turn in range(len(starts)))
    finally:
        for process, _ in started:
            process.terminate()
            process.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _send_chunks(settings: MarketSettings, starts: range, sender: Connection) -> None:
    """Simulate the chunks of users that begin at `starts`, in a process of its own."""
    world = World.draw(settings.items, np.random.default_rng([settings.seed, 0]))
    try:
        for first in starts:
            sender.send(_simulate(settings, world, first))
    except BrokenPipeError:
        return  # the writer is gone


def _receive(process: Any, receiver: Connection) -> dict[str, pa.Table]:
    try:
        tables: dict[str, pa.Table] = receiver.recv()
    except EOFError:
        process.join()
        raise InputError(
            f"a simulating process ended with status {process.exitcode}; if memory ran out, use fewer --processes"
        ) from None
    return tables
