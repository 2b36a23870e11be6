"""The rows of step 3: what was shown to whom and when, its label, and how much of the user's history it may use."""

from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from openlum.data.engine import ROW, Engine
from openlum.data.validate import Intake, SchemaError
from openlum.data.values import SECOND, TICKS, Column, feature_columns
from openlum.errors import InputError
from openlum.schema import ImpressionRule, ImpressionTable, Schema


def known_condition(schema: Schema) -> dict[str, Any]:
    """The condition fields that are known when an impression is ranked."""
    return {name: field for name, field in schema.events.condition.items() if not field.feedback}


def label_rule(schema: Schema) -> str:
    """In words: where the impressions and their labels come from."""
    if schema.impressions:
        return f"the rows of {schema.impressions.path}, labelled by its column '{schema.impressions.label}'"
    if rule := schema.impressions_from_events:
        return f"every event is an impression, labelled 1 where {rule.field} >= {rule.at_least:g}"
    return "no impressions: the schema has neither 'impressions' nor 'impressions_from_events'"


def read_impressions(intake: Intake, engine: Engine, schema: Schema, root: Path) -> ir.Table:
    """The impression log: user, item (raw), time (microseconds), label, perhaps row, condition and context columns."""
    log = schema.impressions
    assert log is not None
    columns = [
        Column("user", log.user),
        Column("item", log.item),
        Column("time", log.time, "time", TICKS[schema.events.time_unit]),
        Column("label", log.label, "label"),
        *([Column("row", log.row, "row")] if log.row else []),
        *feature_columns("condition", known_condition(schema)),
        *feature_columns("context", log.context),
    ]
    table = intake.read("impressions", log.path, columns)
    if log.row:
        _check_rows(engine, table, root / log.path, log)
    return table


def impressions_of_events(engine: Engine, events: ir.Table, schema: Schema, path: Path) -> ir.Table:
    """Every event as an impression, in the columns of `read_impressions`; none where the schema has no rule.

    Events without a value in the rule's field have no label, and make no impression.
    """
    fields = [f"condition.{name}" for name in known_condition(schema)]
    rule = schema.impressions_from_events
    if rule is None:
        return events.filter(ibis.literal(False)).select(ROW, "user", "item", "time", *fields, label=ibis.literal(0.0))
    value = _rule_value(engine, events, rule, path)
    label = (value >= rule.at_least).cast("float64")
    return events.filter(value.notnull()).select(ROW, "user", "item", "time", *fields, label=label)


def impressions(rows: ir.Table, events: ir.Table) -> ir.Table:
    """Number impressions and count the events before each.

    Args:
        rows: encoded impressions with user, item, time (microseconds), label, `row_number` and further columns.
        events: encoded events with user and time.

    Returns:
        The columns row, user, time (seconds), item, label, prefix and the further ones. `prefix` is the number of the
        user's events in the seconds before the row's.
    """
    if "row" not in rows.columns:
        order = [rows["time"], rows["user"], rows["item"], rows[ROW]]
        rows = rows.mutate(row=ibis.row_number().over(order_by=order))
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


def _rule_value(engine: Engine, events: ir.Table, rule: ImpressionRule, path: Path) -> Any:
    column = events[f"condition.{rule.field}"]
    if not (column.type().is_string() or column.type().is_numeric()):
        raise SchemaError(f"key 'impressions_from_events.field': '{rule.field}' is a list; name a field of one number")
    value = column.try_cast("float64")
    odd = engine.rows(events.filter(column.notnull() & value.isnull()).select(ROW, found=column).order_by(ROW).limit(1))
    if odd:
        raise InputError(
            f"{path}: row {odd[0][ROW]}: '{rule.field}' is {odd[0]['found']!r}, but 'impressions_from_events' "
            "needs numbers in it; mend the file or name another field"
        )
    return value


def _check_rows(engine: Engine, table: ir.Table, path: Path, log: ImpressionTable) -> None:
    repeated = table.group_by("row").agg(n=table.count(), first=table[ROW].min())
    twice = engine.rows(repeated.filter(repeated["n"] > 1).order_by("first").limit(1))
    if twice:
        raise InputError(
            f"{path}: column '{log.row}': the row id {twice[0]['row']} is there {twice[0]['n']} times, first in row "
            f"{twice[0]['first']}; row ids must differ. Mend them, or leave 'impressions.row' out to have rows numbered"
        )
