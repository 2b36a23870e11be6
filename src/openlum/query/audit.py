"""`lum knowledge audit`: a sample of the rows of knowledge, computed again from histories that end before the rows' times.

A difference means that knowledge has something that was not known at its time, that it was changed, or that it belongs to another
dataset.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.table import Table

from openlum.arguments.values import as_path, whole_number
from openlum.console import tracked
from openlum.data.dataset import Dataset
from openlum.data.knowledge import Knowledge
from openlum.data.sequences import Impressions, concatenate
from openlum.data.shard import Shard
from openlum.errors import InputError
from openlum.model import LargeUserModel, default_device
from openlum.query.content import RECENT_ITEMS
from openlum.query.replayed_row import ReplayedRow
from openlum.query.shard import AS_OF
from openlum.query.user_ids import utc_text
from openlum.report.rendering import one_line, terminal_table

TOLERANCE = 1e-3
"""Numbers may differ by this much, because float16 and sums in another order round."""
INT8_TOLERANCE = 1e-2
"""Numbers of vectors that are stored as int8 may differ by this much."""
RELATIVE = 1e-3
"""Besides, a number may differ by this share of its size: log-odds of sure predictions are sensitive to rounding."""

SHOWN = 10
"""Number of differences that a table shows."""


@dataclass(frozen=True)
class Difference:
    """A value that differs."""

    row: Any
    """Row id or, of knowledge per user, the id of the user."""
    user: str | None
    """The user's id in the log."""
    second: int
    """Time of the row, in seconds since 1970."""
    column: str
    """Name of the column."""
    stored: Any
    """The stored value; of a vector, the number that differs most."""
    replayed: Any
    """The same, computed again."""


@dataclass
class Audit:
    """What was compared, and what differs."""

    rows: int = 0
    """Number of rows."""
    compared: dict[str, int] = field(default_factory=dict)
    """Number of values of each column, or of vectors of a column."""
    largest: dict[str, float] = field(default_factory=dict)
    """Largest difference in each column."""
    differences: list[Difference] = field(default_factory=list)
    """The values that differ by more than the tolerance."""
    notes: list[str] = field(default_factory=list)
    """What the reader of the differences should know."""


def audit(
    knowledge: str | Path,
    dataset: str | Path,
    model: str | Path,
    rows: int = 200,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> Audit:
    """Return the comparison of a sample of rows with the same rows computed again.

    Args:
        knowledge: per impression or per user.
        dataset: that was queried, or that has grown since.
        model: that answered.
        rows: number of rows to compare; all, if there are not more.
        seed: of the sample.
        tolerance: numbers may differ by this much, because of rounding; those of int8 vectors by `INT8_TOLERANCE` at least.

    Raises:
        InputError: another model answered, or an artefact cannot be read.
    """
    stored, data = Knowledge(knowledge), Dataset(as_path("dataset", dataset))
    lum = LargeUserModel.load(as_path("model", model), default_device())
    lum.check_compatible(data)
    if stored.info.model != lum.config.fingerprint:
        raise InputError(f"{stored.path}: was answered by another model than {model}; name the model that answered")
    comparison = _Comparison(stored, data, ReplayedRow(lum, stored.info, data), tolerance)
    if stored.info.dataset != data.info.fingerprint:
        comparison.result.notes.append(
            "the dataset has changed since the query; events that arrived late are differences too"
        )
    sample = _sample(stored, whole_number("rows", rows, minimum=1), whole_number("seed", seed, minimum=0))
    replay = comparison.impressions if stored.info.form == "impression" else comparison.users
    replay({row[stored.key]: row for row in sample})
    comparison.result.rows = len(sample)
    return comparison.result


def audit_tables(result: Audit) -> list[Table]:
    """Return the compared columns as a table and, if values differ, the first of them as another."""
    columns = terminal_table("Largest differences", "column", "compared", "largest difference")
    columns.columns[0].min_width = max(map(len, result.compared), default=0)
    for name, number in result.compared.items():
        columns.add_row(name, f"{number:,}", f"{result.largest[name]:.2g}")
    if not result.differences:
        return [columns]
    first = terminal_table(
        "First values that differ", "row", "user", "time (UTC)", "column", "stored", "computed again"
    )
    for one in result.differences[:SHOWN]:
        values = [
            f"{value:.4f}" if isinstance(value, float) else one_line(value) for value in (one.stored, one.replayed)
        ]
        first.add_row(one_line(one.row), one_line(one.user), utc_text(one.second), one.column, *values)
    return [columns, first]


def _sample(knowledge: Knowledge, rows: int, seed: int) -> list[dict[str, Any]]:
    """Return random rows of knowledge, in the order of the parts."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(knowledge))[:rows])
    columns, sample, first = knowledge.columns, [], 0
    for file, count in knowledge.part_rows().items():
        own = chosen[(chosen >= first) & (chosen < first + count)] - first
        if len(own):
            sample += knowledge.read_part(file, columns).take(pa.array(own)).to_pylist()
        first += count
    return sample


class _Comparison:
    """Compares rows of knowledge with the same rows computed again, and collects the differences."""

    def __init__(self, knowledge: Knowledge, dataset: Dataset, replayed: ReplayedRow, tolerance: float) -> None:
        self.knowledge, self.dataset, self.replayed, self.tolerance = knowledge, dataset, replayed, tolerance
        self.result = Audit()

    def impressions(self, sample: dict[int, dict[str, Any]]) -> None:
        """Compare rows per impression, by row id."""
        by_day = self.knowledge.info.as_of == AS_OF["day"]
        users, items = self.dataset.raw_ids("users"), self.dataset.raw_ids("items")
        for shard in self._shards():
            rows = self._rows_of(shard, list(sample))
            for index in range(len(rows)):
                row = rows.take(slice(index, index + 1))
                stored, second = sample.pop(int(row.row[0])), int(row.time[0])
                ids = {"user": users[int(row.user[0])].as_py(), "item": items[int(row.item[0])].as_py()}
                replayed = ids | self.replayed.of_impression(shard.sequences, row, by_day)
                self._compare(stored["row"], stored["user"], second, stored, replayed)
        for key, stored in sample.items():
            self._add(Difference(key, stored["user"], 0, "row", key, "not in the dataset"))

    def users(self, sample: dict[str, dict[str, Any]]) -> None:
        """Compare rows per user, by raw id."""
        raw_ids = self.dataset.raw_ids("users")
        ids = {raw: index for index, raw in enumerate(raw_ids.to_pylist()) if raw in sample}
        for shard in self._shards():
            sequences = shard.sequences
            for raw in [raw for raw, index in ids.items() if sequences.user_index(np.array([index]))[0] >= 0]:
                self._compare_user(shard, ids.pop(raw), sample.pop(raw))
        for raw, index in ids.items():  # users without events
            self._compare_user(self.dataset.shards()[0], index, sample.pop(raw))
        for raw in sample:
            self._add(Difference(raw, raw, 0, "user", raw, "not in the dataset"))

    def _compare_user(self, shard: Shard, user: int, stored: dict[str, Any]) -> None:
        second, last = int(stored["as_of"].timestamp()), stored["last_event"]
        stored = stored | {"last_event": None if last is None else int(last.timestamp())}
        self._compare(
            stored["user"], stored["user"], second, stored, self.replayed.of_user(shard.sequences, user, second)
        )

    def _shards(self) -> Any:
        return tracked(self.dataset.shards(), "audit")

    def _rows_of(self, shard: Shard, wanted: list[int]) -> Impressions:
        rows = concatenate([shard.impressions(split) for split in self.dataset.impression_sets])
        return rows.take(np.flatnonzero(np.isin(rows.row, wanted)))

    def _compare(self, row: Any, user: str, second: int, stored: dict[str, Any], replayed: dict[str, Any]) -> None:
        """Compare all columns of a row."""
        for column in [name for name in stored if name in replayed]:
            self.result.compared[column] = self.result.compared.get(column, 0) + 1
            mine, other = stored[column], replayed[column]
            if isinstance(mine, list) and column != RECENT_ITEMS:
                mine, other = self._most_different(np.array(mine, np.float64), np.asarray(other, np.float64))
            if not isinstance(mine, float):
                size, limit = float(mine != other), 0.0
            else:
                size, limit = abs(mine - other), self._limit(column) + RELATIVE * abs(other)
            self.result.largest[column] = max(self.result.largest.get(column, 0.0), size)
            if not size <= limit:  # also true for NaN
                self._add(Difference(row, user, second, column, mine, other))

    def _limit(self, column: str) -> float:
        is_vector = column.startswith(("answer.", "vectors"))
        return (
            max(self.tolerance, INT8_TOLERANCE) if is_vector and self.knowledge.info.dtype == "int8" else self.tolerance
        )

    def _most_different(self, stored: np.ndarray, replayed: np.ndarray) -> tuple[float, float]:
        """Return the two numbers that differ most in vectors that lie end to end, each scaled to length 1."""
        vectors = stored.reshape(-1, self.knowledge.info.width)
        unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-9)).ravel()
        place = int(np.abs(unit - replayed).argmax())
        return float(unit[place]), float(replayed[place])

    def _add(self, difference: Difference) -> None:
        self.result.differences.append(difference)
