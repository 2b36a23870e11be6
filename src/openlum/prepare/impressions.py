"""The rows of step 3: what was shown to whom and when, its label, and how much of the user's history it may use."""

from dataclasses import replace
from typing import Any

import ibis
import ibis.expr.types as ir

from openlum.errors import InputError
from openlum.prepare.engines.engine import Engine
from openlum.prepare.intake import POSITION, Checked, Intake, SchemaError
from openlum.prepare.values import SECOND, TICKS, Column, feature_columns
from openlum.schema import ImpressionRule, ImpressionTable, Schema


def known_condition(schema: Schema) -> dict[str, Any]:
    """The condition fields that are known when an impression is ranked."""
    return {name: field for name, field in schema.events.condition.items() if not field.feedback}


def label_rule(schema: Schema) -> str:
    """In words: where the impressions and their labels come from."""
    if schema.impressions and schema.impressions.label is None:
        return f"the rows of {schema.impressions.path}, which have no labels"
    if schema.impressions:
        return f"the rows of {schema.impressions.path}, labelled by its column '{schema.impressions.label}'"
    if rule := schema.impressions_from_events:
        return f"every event is an impression, labelled 1 where {rule.field} >= {rule.at_least:g}"
    return "no impressions: the schema has neither 'impressions' nor 'impressions_from_events'"


def open_impressions(intake: Intake, schema: Schema) -> Checked:
    """The impression log: user, item (raw), time (microseconds), label (null where it is not known), perhaps row, condition and
    context columns."""
    log = schema.impressions
    assert log is not None
    columns = [
        Column("user", log.user, "identity"),
        Column("item", log.item, "identity"),
        Column("time", log.time, "moment", TICKS[schema.events.time_unit]),
        *([Column("label", log.label, "label")] if log.label else []),
        *([Column("row", log.row, "row")] if log.row else []),
        *feature_columns("condition", known_condition(schema)),
        *feature_columns("context", log.context),
    ]
    checked = intake.open("impressions", log.path, columns)
    return checked if log.label else replace(checked, rows=checked.rows.mutate(label=ibis.null("float64")))


def check_rows(engine: Engine, rows: ir.Table, log: ImpressionTable) -> None:
    """Refuse an impression log in which a row id repeats."""
    repeated = rows.group_by("row").agg(n=rows.count())
    twice = engine.rows(repeated.filter(repeated["n"] > 1).order_by("row").limit(1))
    if twice:
        raise InputError(
            f"{log.path}: column '{log.row}': the row id {twice[0]['row']} is there {twice[0]['n']} times; row ids must "
            "differ, also from those of earlier preparations. Mend them, or leave 'impressions.row' out to have rows numbered"
        )


def impressions_of_events(events: ir.Table, schema: Schema) -> ir.Table:
    """Every event with a value in the rule's field as an impression, in the columns of the log of impressions; none where the
    schema has no rule."""
    rule, fields = schema.impressions_from_events, [f"condition.{name}" for name in known_condition(schema)]
    if rule is None:
        none = events.filter(ibis.literal(False))
        return none.select(POSITION, "user", "item", "time", *fields, label=ibis.literal(0.0))
    value = events[f"condition.{rule.field}"].try_cast("float64")
    label = (value >= rule.at_least).cast("float64")
    return events.filter(value.notnull()).select(POSITION, "user", "item", "time", *fields, label=label)


def check_rule(engine: Engine, events: ir.Table, rule: ImpressionRule) -> None:
    """Refuse a rule on a field that is no number."""
    column = events[f"condition.{rule.field}"]
    odd = events.filter(column.notnull() & column.try_cast("float64").isnull()).select(found=column)
    found = engine.rows(odd.aggregate(n=odd.count(), first=odd["found"].min()))[0]
    if found["n"]:
        raise SchemaError(
            f"key 'impressions_from_events.field': '{rule.field}' needs numbers, but is {found['first']!r} in one of "
            f"{found['n']:,} rows; name another field, or leave the rule out"
        )


def impressions(rows: ir.Table, events: ir.Table) -> ir.Table:
    """Number impressions and count the events before each.

    Args:
        rows: encoded impressions of some users with user, item, time (microseconds), label, `POSITION`, perhaps row, and further
            columns.
        events: the same users' events, with user and time.

    Returns:
        The columns row, user, time (seconds), item, label, prefix and the further ones. `row` is the position
        in the log where the log has no row ids. `prefix` is the number of the user's events in the seconds before the row's.
    """
    if "row" not in rows.columns:
        rows = rows.mutate(row=rows[POSITION])
    rows = rows.mutate(time=rows["time"] // SECOND)
    # One run over both tables: in each second the impressions stand before the events, so none counts its own second.
    asked = rows.select("user", "time", "row", event=ibis.literal(0, "int64"))
    past = events.select("user", time=events["time"] // SECOND, row=ibis.null("int64"), event=ibis.literal(1, "int64"))
    both = ibis.union(asked, past)
    before = both["event"].sum().over(group_by="user", order_by=[both["time"], both["event"]], rows=(None, 0))
    counted = both.mutate(prefix=before.cast("int64"))
    prefixes = counted.filter(counted["event"] == 0).select("row", "prefix")
    further = [name for name in rows.columns if name.startswith(("condition.", "context."))]
    joined = rows.mutate(label=rows["label"].cast("float32")).join(prefixes, "row")
    return joined.select("row", "user", "time", "item", "label", "prefix", *further)
