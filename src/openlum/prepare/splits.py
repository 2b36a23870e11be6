"""The global time split: where validation and test begin."""

from dataclasses import dataclass
from typing import Any

import ibis.expr.types as ir

from openlum.data.dataset import Split
from openlum.prepare.engines.engine import Engine
from openlum.prepare.intake import SchemaError
from openlum.prepare.values import SECOND
from openlum.schema import Splits

HOUR = 3600 * SECOND


@dataclass(frozen=True)
class Boundaries:
    """First seconds of the validation and of the test period."""

    valid: int
    test: int

    def training(self, table: ir.Table) -> ir.Table:
        """The rows of the training period; `time` in microseconds."""
        return table.filter(table["time"] < self.valid * SECOND)

    def split(self, table: ir.Table) -> dict[Split, ir.Table]:
        """The rows of each period; `time` in seconds."""
        time = table["time"]
        return {
            "train": table.filter(time < self.valid),
            "valid": table.filter(time >= self.valid, time < self.test),
            "test": table.filter(time >= self.test),
        }


def boundaries(engine: Engine, events: ir.Table, splits: Splits) -> Boundaries:
    """The seconds of the events at the fractions `splits` of the time-ordered events.

    All events of one second fall into one period.

    Raises:
        SchemaError: nothing would be left to train on.
    """
    hours = _counted(engine, events, events["time"] // HOUR)
    count = sum(row["n"] for row in hours)
    # The small term keeps 0.29 * 100 from becoming 28.
    valid, test = (_second(engine, events, hours, int(part * count + 1e-9)) for part in (splits.valid, splits.test))
    if valid == engine.value(events["time"].min()) // SECOND:
        raise SchemaError(
            f"the first {splits.valid:.0%} of the events all happened in one second, so nothing is left to train on; "
            "check the time column and 'time_unit'"
        )
    return Boundaries(valid, test)


def _second(engine: Engine, events: ir.Table, hours: list[dict[str, Any]], place: int) -> int:
    """The second of the event at a place in the order of time: first its hour is found, then the second in it."""
    hour, place = _at(hours, place)
    within = events.filter(events["time"] // HOUR == hour)
    return _at(_counted(engine, within, within["time"] // SECOND), place)[0]


def _counted(engine: Engine, events: ir.Table, unit: ir.Value) -> list[dict[str, Any]]:
    return engine.rows(events.group_by(at=unit).agg(n=events.count()).order_by("at"))


def _at(counted: list[dict[str, Any]], place: int) -> tuple[int, int]:
    """The unit that holds a place, and the place within it."""
    for row in counted:
        if place < row["n"]:
            break
        place -= row["n"]
    return int(row["at"]), place
