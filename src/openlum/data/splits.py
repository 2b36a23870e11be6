"""The global time split: where validation and test begin."""

from dataclasses import dataclass

import ibis.expr.types as ir

from openlum.data.dataset import Split
from openlum.data.engine import Engine
from openlum.data.values import SECOND
from openlum.errors import InputError
from openlum.schema import Splits


@dataclass(frozen=True)
class Boundaries:
    """First seconds of the validation and of the test period."""

    valid: int
    test: int

    def training(self, table: ir.Table) -> ir.Table:
        """The rows of the training period."""
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
    """
    count = engine.value(events.count())
    ordered = events.order_by("time").select("time")
    valid, test = (
        # The small term keeps 0.29 * 100 from becoming 28.
        engine.rows(ordered.limit(1, offset=int(fraction * count + 1e-9)))[0]["time"] // SECOND
        for fraction in (splits.valid, splits.test)
    )
    found = Boundaries(valid, test)
    if not engine.value(found.training(events).count()):
        raise InputError(
            f"the first {splits.valid:.0%} of the events all happened in one second, so nothing is left to train on; "
            "check the time column and 'time_unit'"
        )
    return found
