"""The global time split: the first seconds of the validation and the test period."""

from dataclasses import dataclass
from typing import Any

import ibis.expr.types as ir

from openlum.data.dataset import Split
from openlum.prepare.conversion import SECOND
from openlum.prepare.engines.engine import Engine
from openlum.prepare.row_checks import SchemaError
from openlum.schema import Splits

HOUR = 3600 * SECOND


@dataclass(frozen=True)
class SplitBoundaries:
    """First seconds of the validation and of the test period."""

    valid_time: int
    test_time: int

    def training(self, table: ir.Table) -> ir.Table:
        """Return the rows of the training period; `time` is in microseconds."""
        return table.filter(table["time"] < self.valid_time * SECOND)

    def split(self, table: ir.Table) -> dict[Split, ir.Table]:
        """Return the rows of each period; `time` is in seconds."""
        return {name: table.filter(condition) for name, condition in self.conditions(table["time"]).items()}

    def conditions(self, second: Any) -> dict[Split, Any]:
        """Return where a time in seconds lies in each period."""
        return {
            "train": second < self.valid_time,
            "valid": (second >= self.valid_time) & (second < self.test_time),
            "test": second >= self.test_time,
        }


def split_boundaries(engine: Engine, events: ir.Table, splits: Splits) -> SplitBoundaries:
    """Return the seconds of the events at the fractions `splits` of the time-ordered events.

    All events of one second belong to the same period.

    Raises:
        SchemaError: the training period would be empty.
    """
    hours = _counts_by_unit(engine, events, HOUR)
    count = sum(number for _, number in hours)
    # The small term prevents int(0.29 * 100) from becoming 28.
    places = [_unit_of_rank(hours, int(part * count + 1e-9)) for part in (splits.valid, splits.test)]
    # First the hours of the two events, then their seconds: a long log has many seconds.
    within = events.filter((events["time"] // HOUR).isin({hour for hour, _ in places}))
    seconds = _counts_by_unit(engine, within, SECOND)
    valid_time, test_time = (
        _unit_of_rank([(at, n) for at, n in seconds if at * SECOND // HOUR == hour], rank)[0] for hour, rank in places
    )
    if places[0][0] == hours[0][0] and valid_time == seconds[0][0]:
        raise SchemaError(
            f"the first {splits.valid:.0%} of the events all happened in one second, so the training period would be empty; "
            "check the time column and 'time_unit'"
        )
    return SplitBoundaries(valid_time, test_time)


def _counts_by_unit(engine: Engine, events: ir.Table, unit: int) -> list[tuple[int, int]]:
    """Return the units of time, in `unit` microseconds, that have events, in ascending order, and their numbers of events."""
    rows = engine.fetch_rows(events.group_by(at=events["time"] // unit).agg(n=events.count()).order_by("at"))
    return [(int(row["at"]), row["n"]) for row in rows]


def _unit_of_rank(counts: list[tuple[int, int]], rank: int) -> tuple[int, int]:
    """Return the unit that contains a rank, and the rank within that unit."""
    for unit, number in counts:
        if rank < number:
            return unit, rank
        rank -= number
    raise ValueError("the rank is not below the number of events")
