"""The impressions that rankers learn from: user, item, time, label and prefix (the number of events that the row may use)."""

from dataclasses import replace
from typing import Any

import ibis
import ibis.expr.types as ir

from openlum.errors import InputError
from openlum.prepare.conversion import SECOND, Column, feature_columns
from openlum.prepare.engines.engine import Engine
from openlum.prepare.row_checks import POSITION, CheckedTable, RowChecker, SchemaError
from openlum.schema import ImpressionRule, ImpressionTable, Schema


def condition_without_feedback(schema: Schema) -> dict[str, Any]:
    """Return the condition fields that are known when an impression is ranked."""
    return {name: field for name, field in schema.events.condition.items() if not field.feedback}


def label_rule(schema: Schema) -> str:
    """Describe in words where the impressions and their labels come from."""
    if schema.impressions and schema.impressions.label is None:
        return f"the rows of {schema.impressions.path}, which have no labels"
    if schema.impressions:
        return f"the rows of {schema.impressions.path}, labelled by its column '{schema.impressions.label}'"
    if rule := schema.impressions_from_events:
        return f"every event is an impression, labelled 1 where {rule.field} >= {rule.at_least:g}"
    return "no impressions: the schema has neither 'impressions' nor 'impressions_from_events'"


def check_impressions(checker: RowChecker, schema: Schema) -> CheckedTable:
    """Check the impression log and return it.

    Its columns are user and item (raw), time (microseconds), label (null where it is unknown), row (where the schema names one),
    and the condition and context columns.
    """
    log, events = schema.impressions, schema.events
    assert log is not None
    columns = [
        Column("user", log.user, "identity"),
        Column("item", log.item, "identity"),
        Column("time", log.time, "row_time", time_unit=events.time_unit, date_order=events.date_order),
        *([Column("label", log.label, "label")] if log.label else []),
        *([Column("row", log.row, "row")] if log.row else []),
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


def impressions_of_events(events: ir.Table, schema: Schema) -> ir.Table:
    """Return one impression for each event that has a value in the rule's field, in the columns of the impression log.

    The table is empty if the schema has no rule.
    """
    rule, fields = schema.impressions_from_events, [f"condition.{name}" for name in condition_without_feedback(schema)]
    if rule is None:
        empty = events.filter(ibis.literal(False))
        return empty.select(POSITION, "user", "item", "time", *fields, label=ibis.literal(0.0))
    value = events[f"condition.{rule.field}"].try_cast("float64")
    label = (value >= rule.at_least).cast("float64")
    return events.filter(value.notnull()).select(POSITION, "user", "item", "time", *fields, label=label)


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
    """Number impressions and count the user's events before each of them.

    Args:
        rows: encoded impressions of some users, with the columns user, item, time (microseconds), label, `POSITION`, optionally
            row, and further columns.
        events: the events of the same users, with the columns user and time (microseconds).

    Returns:
        The columns row, user, time (seconds), item, label, prefix and the condition and context columns. `row` is the position
        in the log where the log has no row ids. `prefix` is the number of the user's events in earlier seconds.
    """
    if "row" not in rows.columns:
        rows = rows.mutate(row=rows[POSITION])
    rows = rows.mutate(time=rows["time"] // SECOND)
    # One window over both tables. Within a second, impressions are ordered before events, so an impression does not count
    # the events of its own second.
    targets = rows.select("user", "time", "row", event=ibis.literal(0, "int64"))
    past = events.select("user", time=events["time"] // SECOND, row=ibis.null("int64"), event=ibis.literal(1, "int64"))
    both = ibis.union(targets, past)
    before = both["event"].sum().over(group_by="user", order_by=[both["time"], both["event"]], rows=(None, 0))
    counted = both.mutate(prefix=before.cast("int64"))
    prefixes = counted.filter(counted["event"] == 0).select("row", "prefix")
    further = [name for name in rows.columns if name.startswith(("condition.", "context."))]
    joined = rows.mutate(label=rows["label"].cast("float32")).join(prefixes, "row")
    return joined.select("row", "user", "time", "item", "label", "prefix", *further)
