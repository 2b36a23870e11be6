"""The parts of `knowledge/`, which a query run writes one by one and finds again after an interruption.

`impressions/part-*.parquet` has the columns of `query/shard.py`, `users/part-*.parquet` those of `query/users.py`,
`items/part-00000.parquet` those of `item_table`. `rejected/part-00000.parquet` has the ids of users that the dataset does not
have.
"""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from openlum.artefact.checksums import sha256_of
from openlum.artefact.json_file import read_json, write_json
from openlum.config import Settings, parse_settings
from openlum.errors import InputError

PROGRESS = "progress.json"
ID_COLUMNS = ["row", "user", "item", "as_of", "last_event"]


class Part(Settings):
    """A finished part."""

    rows: int
    """Number of rows."""
    sha256: str
    """SHA-256 of the file."""


class QueryProgress(Settings):
    """The content of `progress.json`."""

    parts: dict[str, Part]
    """Name of each finished part to its rows and checksum."""
    shards: dict[str, int]
    """Name of each finished shard to its number of parts."""


class PartStore:
    """The finished parts of a query run, in a directory that outlives the process.

    `progress.json` has the number of rows and the checksum of every finished part, and the number of parts of every finished
    shard. A part that differs from its checksum does not count as finished.

    Args:
        directory: of the parts.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.parts: dict[str, Part] = {}
        """The finished parts by name."""
        self.shards: dict[str, int] = {}
        """Name of each finished shard to its number of parts."""
        if (directory / PROGRESS).exists():
            try:
                content = parse_settings(read_json(directory / PROGRESS, "lum query"), QueryProgress, where=PROGRESS)
            except InputError:  # the file is damaged: all parts are written again
                return
            self.parts = {name: part for name, part in content.parts.items() if self._is_intact(name, part)}
            self.shards = content.shards

    def _is_intact(self, name: str, part: Part) -> bool:
        file = self.directory / name
        return file.is_file() and sha256_of(file) == part.sha256

    @property
    def rows(self) -> int:
        """Number of rows of the finished parts."""
        return sum(part.rows for part in self.parts.values())

    def write(self, name: str, table: pa.Table) -> None:
        """Write a part, completely or not at all."""
        file, draft = self.directory / name, self.directory / f".{name}"
        write_part(table, draft)
        os.replace(draft, file)
        self.parts[name] = Part(rows=len(table), sha256=sha256_of(file))
        self._save()

    def finish_shard(self, shard: str, parts: int) -> None:
        """Record that all parts of a shard are written."""
        self.shards[shard] = parts
        self._save()

    def link_into(self, target: Path) -> None:
        """Let the finished parts appear in the directory `target` too. They stay here until the run is over."""
        target.mkdir()
        for name in sorted(self.parts):
            try:
                os.link(self.directory / name, target / name)
            except OSError:  # a file system without hard links
                os.replace(self.directory / name, target / name)

    def _save(self) -> None:
        write_json(self.directory / PROGRESS, QueryProgress(parts=self.parts, shards=self.shards).model_dump())


def part_name(shard: int, piece: int) -> str:
    """Return the file name of a piece of a shard, by their numbers."""
    return f"part-{shard:05d}-{piece:05d}.parquet"


def write_part(table: pa.Table, file: Path) -> None:
    """Write a part of `knowledge/`."""
    ids = [name for name in ID_COLUMNS if name in table.column_names]
    # Vectors hardly compress. Uncompressed pages are written and read several times faster.
    pq.write_table(table, file, compression="none", use_dictionary=ids, write_statistics=ids)
