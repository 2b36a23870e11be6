"""Every user's events in order of time, and which of them retrieval holds out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ibis
import ibis.expr.types as ir

from openlum.data.engine import ROW
from openlum.data.validate import SchemaError
from openlum.data.values import SECOND
from openlum.schema import Feature, Holdout


def eligible(events: ir.Table, holdout: Holdout | None, features: Mapping[str, Feature]) -> ir.Value:
    """Where an event may be held out for retrieval; read before its condition is encoded."""
    if holdout is None:
        return ibis.literal(True)
    column = events[f"condition.{holdout.field}"]
    match features[holdout.field].type:
        case "categorical":
            return column.isin(holdout.values).fill_null(False)
        case "numeric":
            try:
                return column.isin([float(value) for value in holdout.values]).fill_null(False)
            except ValueError:
                raise SchemaError(f"key 'holdout.values': expected numbers, for '{holdout.field}' is numeric") from None
        case other:
            raise SchemaError(f"key 'holdout.field': '{holdout.field}' is {other}; name a categorical or numeric field")


def sequences(events: ir.Table, fields: Sequence[str]) -> ir.Table:
    """One row a user: parallel lists over the user's events, and the events that leave-last-out holds out.

    Events of one moment stay in the order of the file. Of users with fewer than three eligible events none is held out:
    `valid_at` and `test_at` are then the number of events.

    Args:
        events: encoded events, with the columns user, item, time (microseconds), `eligible` and `row_number`.
        fields: further columns to carry as lists.

    Returns:
        The columns user, time (seconds), item, each of `fields`, valid_at and test_at, ordered by user.
    """
    forward, back = [events["time"], events[ROW]], [events["time"].desc(), events[ROW].desc()]
    placed = events.mutate(
        place=ibis.row_number().over(group_by="user", order_by=forward),
        back=ibis.row_number().over(group_by=["user", "eligible"], order_by=back),
    )
    held = placed["eligible"]
    # `place` is the first field, so sorting the structs sorts by time.
    names = ["item", *fields]
    event = ibis.struct(
        {"place": placed["place"], "time": placed["time"] // SECOND}
        | {f"field{index}": placed[name] for index, name in enumerate(names)}
    )
    users = placed.group_by("user").agg(
        events=event.collect(),
        number=placed.count(),
        candidates=held.sum(),
        last=placed["place"].max(where=held & (placed["back"] == 0)),
        second_last=placed["place"].max(where=held & (placed["back"] == 1)),
    )
    users = users.mutate(events=users["events"].sort())
    enough, number = users["candidates"] >= 3, users["number"]
    lists = {name: users["events"].map(_getter(f"field{index}")) for index, name in enumerate(names)}
    return users.select(
        "user",
        time=users["events"].map(_getter("time")),
        **lists,
        valid_at=ibis.ifelse(enough, users["second_last"], number),
        test_at=ibis.ifelse(enough, users["last"], number),
    ).order_by("user")


def _getter(field: str) -> Callable[[Any], Any]:
    return lambda event: event[field]
