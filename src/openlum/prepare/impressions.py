"""The impressions that rankers learn from: user, item, time, label and prefix (the number of events that the row may use)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ibis
import ibis.expr.types as ir

from openlum.errors import InputError
from openlum.prepare.conversion import SECOND, Column, feature_columns
from openlum.prepare.engines.engine import Engine
from openlum.prepare.row_checks import POSITION, CheckedTable, RowChecker, SchemaError
from openlum.prepare.sampled_impressions import SampledImpressions
from openlum.schema import ImpressionRule, ImpressionTable, Schema


def condition_without_feedback(schema: Schema) -> dict[str, Any]:
    """Return the condition fields that are known when an impression is ranked."""
    return {name: field for name, field in schema.events.condition.items() if not field.feedback}


NEGATIVES = {
    "same time": "items of events at the same time or soon after",
    "popularity": "items of any events of the log",
    "uniform": "any items with events",
}
"""The source of negatives in words, for each rule."""


def label_rule(schema: Schema, item_fields: Sequence[str] = ()) -> str:
    """Describe in words where the impressions and their labels come from.

    Args:
        schema: the schema of the log.
        item_fields: the condition fields in which a sampled negative has the value of its own item.
    """
    if schema.impressions and schema.impressions.label is None:
        return f"the rows of {schema.impressions.path}, which have no labels"
    if schema.impressions:
        return f"the rows of {schema.impressions.path}, labelled by its column '{schema.impressions.label}'"
    rule = schema.impressions_from_events
    if rule and rule.negatives:
        own = f"; {', '.join(item_fields)}: of the row's own item" if item_fields else ""
        return (
            f"every event is an impression with label 1, with {rule.negatives} negatives (label 0) that were sampled, not shown: "
            f"{NEGATIVES[rule.how]} that never occur with the user (how: {rule.how}, seed: {rule.seed}{own})"
        )
    if rule:
        return f"every event is an impression, labelled 1 where {rule.field} >= {rule.at_least:g}"
    return "no impressions: the schema has neither 'impressions' nor 'impressions_from_events'"


def check_impressions(checker: RowChecker, schema: Schema) -> CheckedTable:
    """Check the impression log and return it.

    Its columns are user and item (raw), time (microseconds), label (null where it is unknown), row and request (where the schema
    names them), and the condition and context columns.
    """
    log, events = schema.impressions, schema.events
    assert log is not None
    columns = [
        Column("user", log.user, "identity"),
        Column("item", log.item, "identity"),
        Column("time", log.time, "row_time", time_unit=events.time_unit, date_order=events.date_order),
        *([Column("label", log.label, "label")] if log.label else []),
        *([Column("row", log.row, "row")] if log.row else []),
        *([Column("request", log.request)] if log.request else []),
        *feature_columns("condition", condition_without_feedback(schema)),
        *feature_columns("context", log.context),
    ]
    checked = checker.check_table("impressions", log.path, columns, log.csv)
    return checked if log.label else replace(checked, rows=checked.rows.mutate(label=ibis.null("float64")))


def check_row_ids(engine: Engine, rows: ir.Table, log: ImpressionTable) -> None:
    """Raise an `InputError` if a row id of the impression log repeats."""
    counts = rows.group_by("row").agg(n=rows.count())
    repeated = engine.fetch_rows(counts.filter(counts["n"] > 1).order_by("row").limit(1))
    if repeated:
        raise InputError(
            f"{log.path}: column '{log.row}': the row id {repeated[0]['row']} occurs {repeated[0]['n']} times; row ids must "
            "be unique, also across earlier preparations. Correct them, or remove 'impressions.row' from the schema: rows are "
            "then numbered automatically"
        )


def impressions_of_events(
    events: ir.Table, schema: Schema, sampled: SampledImpressions | None = None, part: str | None = None
) -> ir.Table:
    """Return the impressions that the schema's rule makes of events, in the columns of the impression log, with their prefix.

    The table is empty if the schema has no rule.

    Args:
        events: all events of some users.
        schema: the schema of the log.
        sampled: the negatives, if the rule has them.
        part: the part of the log that has the events; None for the whole log.
    """
    rule, fields = schema.impressions_from_events, [f"condition.{name}" for name in condition_without_feedback(schema)]
    if rule is None:
        empty = events.filter(ibis.literal(False))
        return empty.select(POSITION, "user", "item", "time", *fields, label=ibis.literal(0.0))
    # The rank counts from 0, and events of one second share it: so it is the number of events in earlier seconds.
    events = events.mutate(prefix=ibis.rank().over(group_by="user", order_by=events["time"] // SECOND))
    columns = [POSITION, "user", "item", "time", *fields, "prefix"]
    if sampled is not None:
        return sampled.rows(events.select(columns), part)
    value = events[f"condition.{rule.field}"].try_cast("float64")
    label = (value >= rule.at_least).cast("float64")
    return events.filter(value.notnull()).select(*columns, label=label)


def check_label_rule(engine: Engine, events: ir.Table, rule: ImpressionRule) -> None:
    """Raise a `SchemaError` if the field of the label rule holds a value that is not a number."""
    column = events[f"condition.{rule.field}"]
    not_numbers = events.filter(column.notnull() & column.try_cast("float64").isnull()).select(value=column)
    result = engine.fetch_rows(not_numbers.aggregate(n=not_numbers.count(), first=not_numbers["value"].min()))[0]
    if result["n"]:
        raise SchemaError(
            f"key 'impressions_from_events.field': '{rule.field}' must hold numbers, but {result['n']:,} rows hold other values, "
            f"such as {result['first']!r}; name another field, or remove the rule"
        )


def impressions_with_prefix(rows: ir.Table, events: ir.Table) -> ir.Table:
    """Number impressions and their requests, and count the user's events before each of them.

    Args:
        rows: encoded impressions of some users, with the columns user, item, time (microseconds), label, `POSITION`, optionally
            row, request and prefix, and further columns.
        events: the events of the same users, with the columns user and time (microseconds).

    Returns:
        The columns row, user, time (seconds), item, label, prefix, request (where the rows have it), and the condition and
        context columns. `row` is the position in the log where the log has no row ids. `prefix` is the number of events of the
        user in earlier seconds. `request` is the position of the first row of the request.
    """
    if "row" not in rows.columns:
        rows = rows.mutate(row=rows[POSITION])
    request = []
    if "request" in rows.columns:
        first = rows[POSITION].min().over(group_by=["user", "request"])
        rows = rows.mutate(request=ibis.ifelse(rows["request"].isnull(), rows[POSITION], first).cast("int64"))
        request = ["request"]
    rows = rows.mutate(time=rows["time"] // SECOND, label=rows["label"].cast("float32"))
    if "prefix" not in rows.columns:
        rows = rows.join(_prefixes(rows, events), ["user", "time"])
    further = [name for name in rows.columns if name.startswith(("condition.", "context."))]
    return rows.select("row", "user", "time", "item", "label", "prefix", *request, *further)


def _prefixes(rows: ir.Table, events: ir.Table) -> ir.Table:
    """Return, for every user and second of impressions or events, the number of the user's events in earlier seconds (prefix)."""
    targets = rows.select("user", "time", n=ibis.literal(0, "int64"))
    past = events.select("user", time=events["time"] // SECOND, n=ibis.literal(1, "int64"))
    both = ibis.union(targets, past)
    seconds = both.group_by("user", "time").agg(n=both["n"].sum())
    # The running sum without the second itself.
    up_to_now = seconds["n"].sum().over(group_by="user", order_by="time", rows=(None, 0))
    return seconds.select("user", "time", prefix=(up_to_now - seconds["n"]).cast("int64"))
