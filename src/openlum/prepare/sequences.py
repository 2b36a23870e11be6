"""Each user's events in the order of time, and the events that the leave-last-out split holds out for retrieval."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ibis
import ibis.expr.types as ir

from openlum.data.canonical import canonical_text
from openlum.prepare.conversion import SECOND
from openlum.prepare.row_checks import POSITION
from openlum.schema import Feature, Holdout

MIN_ELIGIBLE_EVENTS = 3
"""A user needs this many eligible events before events are held out."""


def can_be_held_out(events: ir.Table, holdout: Holdout, features: Mapping[str, Feature]) -> ir.Value:
    """Return where an event may be held out for retrieval; call it before the condition is encoded."""
    column = events[f"condition.{holdout.field}"]
    if features[holdout.field].type == "numeric":
        return column.isin([float(value) for value in holdout.values]).fill_null(False)
    return column.isin([canonical_text(value) for value in holdout.values]).fill_null(False)


def build_sequences(events: ir.Table, fields: Sequence[str], with_nulls: bool) -> ir.Table:
    """Return one row for each user: parallel lists of the user's events, and the indices of the held-out events.

    Events of the same time stay in the order of the log. For a user with fewer than `MIN_ELIGIBLE_EVENTS` eligible events, no
    event is held out: `valid_at` and `test_at` are then the number of events.

    Args:
        events: encoded events, with the columns user, item, time (microseconds) and `POSITION`. The boolean column eligible is
            needed only if some events must not be held out.
        fields: further columns to collect as lists.
        with_nulls: whether events are collected as if some could be null, which is faster (`Engine.collects_nulls`).

    Returns:
        The columns user, time (seconds), item, each of `fields`, valid_at and test_at.
    """
    names = ["item", *fields] + (["eligible"] if "eligible" in events.columns else [])
    # Structs are sorted by their first field, then by their second field.
    event = ibis.struct(
        {"time": events["time"], "position": events[POSITION]}
        | {f"field{index}": events[name] for index, name in enumerate(names)}
    )
    users = events.group_by("user").agg(events=event.collect(include_null=with_nulls))
    users = users.mutate(events=users["events"].sort())
    lists = {name: users["events"].map(_field_getter(f"field{index}")) for index, name in enumerate(names)}
    users = users.select("user", time=users["events"].map(lambda entry: entry["time"] // SECOND), **lists)
    users = users.mutate(number=users["item"].length())
    if "eligible" in users.columns:
        indices = users["eligible"].map(lambda flag, event_index: ibis.ifelse(flag, event_index, ibis.null("int64")))
        users = users.mutate(eligible_at=indices.filter(lambda event_index: event_index.notnull()))
        last_two = [users["eligible_at"][users["eligible_at"].length() - back] for back in (2, 1)]
        enough = users["eligible_at"].length() >= MIN_ELIGIBLE_EVENTS
    else:
        last_two = [users["number"] - back for back in (2, 1)]
        enough = users["number"] >= MIN_ELIGIBLE_EVENTS
    return users.select(
        "user",
        "time",
        "item",
        *fields,
        valid_at=ibis.ifelse(enough, last_two[0], users["number"]),
        test_at=ibis.ifelse(enough, last_two[1], users["number"]),
    )


def _field_getter(field: str) -> Callable[[Any], Any]:
    return lambda entry: entry[field]
