"""The parts of `knowledge/`, which a query run writes one by one and finds again after an interruption.

`impressions/part-*.parquet` has the columns of `query/shard.py`, `users/part-*.parquet` those of `query/users.py`,
`items/part-00000.parquet` those of `item_table`. `rejected/part-00000.parquet` has the ids of users that the dataset does not
have.
"""

import os
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from openlum.artefact.checksums import sha256_of
from openlum.artefact.json_file import read_json, write_json
from openlum.config import Settings, parse_settings
from openlum.errors import InputError

ID_COLUMNS = ["row", "user", "item", "as_of", "last_event"]


class Part(Settings):
    """The record of a finished part."""

    rows: int
    """Number of rows."""
    sha256: str
    """SHA-256 of the file."""


class FinishedShard(Settings):
    """The record of a finished shard."""

    parts: int
    """Number of parts."""


class PartStore:
    """The finished parts of a query run, in a directory that outlives the process.

    Every finished part `NAME.parquet` has a record `NAME.json`, and every finished shard a record `shard-NAME.json`, so several
    processes can write parts of one run. A part that differs from its record does not count as finished.

    Args:
        directory: of the parts.
        shard: number of the shard whose parts are of interest; None for all shards.
    """

    def __init__(self, directory: Path, shard: int | None = None) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.parts: dict[str, Part] = {}
        """The finished parts by name."""
        for file in directory.glob("part-*.parquet" if shard is None else f"part-{shard:05d}-*.parquet"):
            part = _record(file.with_suffix(".json"), Part)
            if part and sha256_of(file) == part.sha256:
                self.parts[file.name] = part

    @property
    def rows(self) -> int:
        """Number of rows of the finished parts."""
        return sum(part.rows for part in self.parts.values())

    def is_finished(self, number: int, shard: str) -> bool:
        """Return whether all parts of a shard, with this number and name, are finished."""
        record = _record(self._shard_record(shard), FinishedShard)
        return record is not None and all(part_name(number, piece) in self.parts for piece in range(record.parts))

    def write(self, name: str, table: pa.Table) -> None:
        """Write a part, completely or not at all."""
        file, draft = self.directory / name, self.directory / f".{name}.{uuid4().hex}"
        write_part(table, draft)
        self.add(name, Part(rows=len(table), sha256=sha256_of(draft)))
        os.replace(draft, file)

    def add(self, name: str, part: Part) -> None:
        """Record a part that this or another process writes."""
        write_json((self.directory / name).with_suffix(".json"), part.model_dump())
        self.parts[name] = part

    def finish_shard(self, shard: str, parts: int) -> None:
        """Record that all parts of a shard are written."""
        write_json(self._shard_record(shard), FinishedShard(parts=parts).model_dump())

    def link_into(self, target: Path) -> None:
        """Let the finished parts appear in the directory `target` too. They stay here until the run is over."""
        target.mkdir()
        for name in sorted(self.parts):
            try:
                os.link(self.directory / name, target / name)
            except OSError:  # a file system without hard links
                os.replace(self.directory / name, target / name)

    def _shard_record(self, shard: str) -> Path:
        return self.directory / f"shard-{shard}.json"


Record = TypeVar("Record", bound=Settings)


def _record(file: Path, kind: type[Record]) -> Record | None:
    """Return the content of a record, or None if it is missing or damaged."""
    try:
        return parse_settings(read_json(file, "lum query"), kind, where=file.name)
    except InputError:
        return None


def part_name(shard: int, piece: int) -> str:
    """Return the file name of a piece of a shard, by their numbers."""
    return f"part-{shard:05d}-{piece:05d}.parquet"


def write_part(table: pa.Table, file: Path) -> None:
    """Write a part of `knowledge/`."""
    ids = [name for name in ID_COLUMNS if name in table.column_names]
    # Vectors hardly compress. Uncompressed pages are written and read several times faster.
    pq.write_table(table, file, compression="none", use_dictionary=ids, write_statistics=ids)
