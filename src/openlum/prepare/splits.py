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
        time = table["time"]
        return {
            "train": table.filter(time < self.valid_time),
            "valid": table.filter(time >= self.valid_time, time < self.test_time),
            "test": table.filter(time >= self.test_time),
        }


def split_boundaries(engine: Engine, events: ir.Table, splits: Splits) -> SplitBoundaries:
    """Return the seconds of the events at the fractions `splits` of the time-ordered events.

    All events of one second belong to the same period.

    Raises:
        SchemaError: the training period would be empty.
    """
    hours = _counts_by_unit(engine, events, events["time"] // HOUR)
    count = sum(row["n"] for row in hours)
    # The small term prevents int(0.29 * 100) from becoming 28.
    valid_time, test_time = (
        _second_of_rank(engine, events, hours, int(part * count + 1e-9)) for part in (splits.valid, splits.test)
    )
    if valid_time == engine.fetch_value(events["time"].min()) // SECOND:
        raise SchemaError(
            f"the first {splits.valid:.0%} of the events all happened in one second, so the training period would be empty; "
            "check the time column and 'time_unit'"
        )
    return SplitBoundaries(valid_time, test_time)


def _second_of_rank(engine: Engine, events: ir.Table, hours: list[dict[str, Any]], rank: int) -> int:
    """Return the second of the event with a rank in the order of time: first find its hour, then the second in that hour."""
    hour, rank_in_hour = _unit_of_rank(hours, rank)
    within = events.filter(events["time"] // HOUR == hour)
    return _unit_of_rank(_counts_by_unit(engine, within, within["time"] // SECOND), rank_in_hour)[0]


def _counts_by_unit(engine: Engine, events: ir.Table, unit: ir.Value) -> list[dict[str, Any]]:
    return engine.fetch_rows(events.group_by(at=unit).agg(n=events.count()).order_by("at"))


def _unit_of_rank(counts: list[dict[str, Any]], rank: int) -> tuple[int, int]:
    """Return the unit that contains a rank, and the rank within that unit."""
    for row in counts:
        if rank < row["n"]:
            break
        rank -= row["n"]
    return int(row["at"]), rank
