"""Every user's events in order of time, and which of them retrieval holds out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ibis
import ibis.expr.types as ir

from openlum.data.canonical import canonical
from openlum.prepare.intake import POSITION
from openlum.prepare.values import SECOND
from openlum.schema import Feature, Holdout

FEWEST = 3
"""Eligible events of a user of whom any is held out."""


def eligible(events: ir.Table, holdout: Holdout, features: Mapping[str, Feature]) -> ir.Value:
    """Where an event may be held out for retrieval; read before its condition is encoded."""
    column = events[f"condition.{holdout.field}"]
    if features[holdout.field].type == "numeric":
        return column.isin([float(value) for value in holdout.values]).fill_null(False)
    return column.isin([canonical(value) for value in holdout.values]).fill_null(False)


def sequences(events: ir.Table, fields: Sequence[str]) -> ir.Table:
    """One row a user: parallel lists over the user's events, and the events that leave-last-out holds out.

    Events of one moment stay in the order of the log. Of users with fewer than three eligible events none is held out:
    `valid_at` and `test_at` are then the number of events.

    Args:
        events: encoded events, with the columns user, item, time (microseconds), `POSITION` and, where not all may be held
            out, eligible.
        fields: further columns to carry as lists.

    Returns:
        The columns user, time (seconds), item, each of `fields`, valid_at and test_at.
    """
    names = ["item", *fields] + (["eligible"] if "eligible" in events.columns else [])
    # Structs sort by their first field, then the second.
    event = ibis.struct(
        {"time": events["time"], "position": events[POSITION]}
        | {f"field{index}": events[name] for index, name in enumerate(names)}
    )
    users = events.group_by("user").agg(events=event.collect())
    users = users.mutate(events=users["events"].sort())
    lists = {name: users["events"].map(_getter(f"field{index}")) for index, name in enumerate(names)}
    users = users.select("user", time=users["events"].map(lambda one: one["time"] // SECOND), **lists)
    users = users.mutate(number=users["item"].length())
    if "eligible" in users.columns:
        places = users["eligible"].map(lambda held, place: ibis.ifelse(held, place, ibis.null("int64")))
        users = users.mutate(held=places.filter(lambda place: place.notnull()))
        last = [users["held"][users["held"].length() - back] for back in (2, 1)]
        enough = users["held"].length() >= FEWEST
    else:
        last, enough = [users["number"] - back for back in (2, 1)], users["number"] >= FEWEST
    return users.select(
        "user",
        "time",
        "item",
        *fields,
        valid_at=ibis.ifelse(enough, last[0], users["number"]),
        test_at=ibis.ifelse(enough, last[1], users["number"]),
    )


def _getter(field: str) -> Callable[[Any], Any]:
    return lambda one: one[field]
