"""The log of a dataset: its accepted rows with the ids of user and item, without duplicates, in parts by user.

`dataset/log/` stores it: raw conditions, times in microseconds, and the position of every row. Everything else in a dataset is
computed from this log, and a later preparation appends to it.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import ibis
import ibis.expr.types as ir

from openlum.prepare.canonical_expression import canonical_expression
from openlum.prepare.engines.engine import Engine
from openlum.prepare.impressions import (
    check_label_rule,
    check_row_ids,
    condition_without_feedback,
    impressions_of_events,
)
from openlum.prepare.row_checks import ALREADY_IN_DATASET, LATE_LABEL, POSITION, CheckedTable
from openlum.prepare.sampled_impressions import SampledImpressions
from openlum.schema import Schema

MISSING_ITEM = "item not in the item table"
KEY = ("user", "item", "time")


@dataclass(frozen=True)
class RejectionRules:
    """Rules that reject a row because of other rows in the log."""

    first_position: int
    """Position of the first row of this preparation."""
    reject_duplicates: bool
    """Reject rows that equal an earlier row in every column."""
    max_user_events: int | None = None
    """Reject the new rows of users with more events than this; rows of earlier preparations stay."""


@dataclass(frozen=True)
class Log:
    """The content of `dataset/log/`: user and item as ids, time in microseconds, raw conditions, and `POSITION`.

    Attributes:
        events: all events.
        impressions: all impressions, with label, context and optionally row and request. They come from the impression log, or
            from events by the schema's rule; without both, the table is empty.
        parts: names of the parts, `part=0` and so on.
        sampled: the candidates of every event, if the schema's rule samples negatives.
    """

    engine: Engine
    schema: Schema
    directory: Path
    events: ir.Table
    impressions: ir.Table
    parts: list[str]
    sampled: SampledImpressions | None

    @classmethod
    def read(cls, engine: Engine, schema: Schema, directory: Path, parts: int, scratch: Path) -> "Log":
        """Read a log that `clean_part` wrote.

        Args:
            engine: the engine that computes tables.
            schema: the schema of the log.
            directory: the directory of the log.
            parts: number of parts into which users are divided.
            scratch: a directory for intermediate files.

        Raises:
            SchemaError: the schema makes impressions of events, and the rule's field holds values that are not numbers, or the
                log has too few items for its number of negatives.
            InputError: a row id of the impression log repeats, or the memory is too small to sample negatives.
        """
        events, sampled, rule = engine.read("events", directory / "events"), None, schema.impressions_from_events
        if schema.impressions:
            impressions = engine.read("impressions", directory / "impressions")
        else:
            if rule and rule.negatives:
                fields = [f"condition.{name}" for name in condition_without_feedback(schema)]
                sampled = SampledImpressions.draw(engine, events, rule, fields, parts, scratch / "candidates")
            elif rule:
                check_label_rule(engine, events, rule)
            impressions = engine.view("impressions of events", impressions_of_events(events, schema, sampled))
        if schema.impressions and schema.impressions.row:
            check_row_ids(engine, impressions, schema.impressions)
        names = {part.name for part in directory.glob("*/part=*")}
        return cls(engine, schema, directory, events, impressions, sorted(names, key=_part_number), sampled)

    @property
    def item_fields(self) -> list[str]:
        """The condition fields in which a sampled negative has the value of its own item."""
        return [role.removeprefix("condition.") for role in self.sampled.item_fields] if self.sampled else []

    def part(self, name: str) -> tuple[ir.Table, ir.Table]:
        """Return the events and the impressions of the users of one part."""
        events = self._part_rows("events", name, self.events)
        if not self.schema.impressions:
            return events, impressions_of_events(events, self.schema, self.sampled, name)
        return events, self._part_rows("impressions", name, self.impressions)

    def _part_rows(self, table: str, part: str, all_rows: ir.Table) -> ir.Table:
        directory = self.directory / table / part
        if directory.is_dir():
            return self.engine.read(f"{table} of a part", directory)
        return all_rows.filter(ibis.literal(False))


def with_user_and_item_ids(engine: Engine, checked: CheckedTable, users: ir.Table, items: ir.Table) -> ir.Table:
    """Return the usable rows with user and item ids in place of the raw values; rows of items without an id are dropped."""
    rows = checked.usable
    for role, entity_ids in (("user", users), ("item", items)):
        values = checked.distinct_ids[role].select(_value=role)
        ids = values.join(entity_ids, canonical_expression(values["_value"]) == entity_ids["value"])
        ids = engine.materialize(f"{role} ids of {checked.name}", ids.select("_value", _id="id"))
        rows = rows.join(ids, rows[role] == ids["_value"]).drop(role, "_value").rename({role: "_id"})
    return engine.view(f"{checked.name} with ids", rows)


def rows_of_unknown_items(engine: Engine, checked: CheckedTable, items: ir.Table) -> ir.Table | None:
    """Return the usable rows whose item has no id, as rejected rows; None if every item has an id.

    Args:
        engine: the engine that computes tables.
        checked: the checked table.
        items: the columns value and id of all items.

    Returns:
        The columns `POSITION` and reason.
    """
    rows, unknown = checked.usable, checked.distinct_ids["item"].select("item")
    unknown = engine.materialize(
        f"{checked.name} unknown items",
        unknown.anti_join(items, canonical_expression(unknown["item"]) == items["value"]),
    )
    if not engine.fetch_value(unknown.count()):
        return None
    return engine.materialize(
        f"{checked.name} of unknown items",
        rows.semi_join(unknown, "item").select(POSITION, reason=ibis.literal(MISSING_ITEM)),
    )


def write_user_parts(engine: Engine, name: str, tables: list[ir.Table], parts: int, scratch: Path) -> list[Path]:
    """Write the rows of tables into `parts` parts by user, and return the directory of each part that has rows."""
    columns = tables[0].columns
    rows = ibis.union(*[table.select(columns) for table in tables]) if len(tables) > 1 else tables[0]
    engine.write_parts(rows.mutate(part=(rows["user"] % parts).cast("int32")), scratch / name, range(parts))
    return sorted((scratch / name).glob("part=*"), key=lambda part: _part_number(part.name))


def check_row_count(engine: Engine, name: str, parts: Path, expected: int) -> None:
    """Raise a `RuntimeError` if rows were lost between the files and the parts of the log."""
    number = engine.fetch_value(engine.read(f"{name} in parts", parts).count()) if any(parts.glob("part=*")) else 0
    if number != expected:
        raise RuntimeError(f"{name}: {number:,} rows reached the log, but {expected:,} were usable")


def clean_part(engine: Engine, part: Path, rules: RejectionRules, out: Path) -> ir.Table | None:
    """Move one part into the log, without the rows that the rules reject, and with labels that arrived after their rows.

    Args:
        engine: the engine that computes tables.
        part: a directory from `write_user_parts`.
        rules: the rules that reject rows.
        out: directory of the log.

    Returns:
        The rejected rows, with the columns `POSITION` and reason; None if no row is rejected.
    """
    name = f"{out.name} {part.name}"
    rows = engine.read(name, part)
    out.mkdir(parents=True, exist_ok=True)
    duplicates = _duplicates(engine, name, rows, rules.first_position) if rules.reject_duplicates else None
    accepted = rows if duplicates is None else rows.anti_join(duplicates, POSITION)
    late = _late_labels(engine, name, accepted, rules.first_position) if "label" in rows.columns else None
    accepted = accepted if late is None else _with_late_labels(accepted, late)
    excess = (
        _rows_beyond_user_limit(engine, name, accepted, rules.first_position, rules.max_user_events)
        if rules.max_user_events
        else None
    )
    accepted = accepted if excess is None else accepted.anti_join(excess, POSITION)
    label_sources = None if late is None else late.filter(late["reason"].notnull()).select(POSITION, "reason")
    rejected = [table for table in (duplicates, label_sources, excess) if table is not None]
    if not rejected:
        shutil.move(part, out / part.name)
        return None
    number = _part_number(part.name)
    engine.write_parts(accepted.mutate(part=ibis.literal(number, "int32")), out, [number])
    shutil.rmtree(part)
    return ibis.union(*rejected) if len(rejected) > 1 else rejected[0]


def _late_labels(engine: Engine, name: str, rows: ir.Table, first_position: int) -> ir.Table | None:
    """Find rows that differ only in position and label, if one of them has no label. Keep the earlier row and give it the label.

    The earlier row keeps its row id, because knowledge may already refer to it.

    Returns:
        The columns `POSITION`, reason (null where the row stays) and label (the label that the row takes); None if there are no
        such rows.
    """
    key = ("row",) if "row" in rows.columns else KEY
    unlabelled = engine.materialize(f"{name} unlabelled", rows.filter(rows["label"].isnull()).select(key).distinct())
    if not engine.fetch_value(unlabelled.count()):
        return None
    same = [column for column in rows.columns if column not in (POSITION, "label")]
    similar = rows.semi_join(unlabelled, key)
    position, missing = similar[POSITION], similar["label"].isnull()
    similar = similar.mutate(
        without=ibis.ifelse(missing, position, ibis.null("int64")).min().over(group_by=same),
        having=ibis.ifelse(missing, ibis.null("int64"), position).min().over(group_by=same),
    )
    similar = similar.mutate(
        label=ibis.ifelse(similar[POSITION] == similar["having"], similar["label"], ibis.null("float64"))
        .max()
        .over(group_by=same)
    )
    takes, brings = similar[POSITION] == similar["without"], similar[POSITION] == similar["having"]
    unlabelled_first = similar["without"] < similar["having"]
    pairs = similar.filter(similar["having"].notnull() & (takes | (brings & unlabelled_first)))
    duplicate_reason = ibis.ifelse(pairs["having"] < first_position, ALREADY_IN_DATASET, "duplicate")
    reason = ibis.cases(
        (pairs[POSITION] == pairs["having"], LATE_LABEL),
        (pairs["without"] > pairs["having"], duplicate_reason),
        else_=ibis.null("string"),
    )
    return _materialize_if_any(engine, f"{name} late labels", pairs.select(POSITION, "label", reason=reason))


def _with_late_labels(rows: ir.Table, late: ir.Table) -> ir.Table:
    """Return the rows that stay, with the labels that they take; `late` is from `_late_labels`."""
    rejected, labelled = late.filter(late["reason"].notnull()), late.filter(late["reason"].isnull())
    labels = labelled.select(POSITION, late_label="label")
    rows = rows.anti_join(rejected, POSITION).left_join(labels, POSITION)
    columns = [column for column in rows.columns if column not in ("label", "late_label", f"{POSITION}_right")]
    return rows.select(*columns, label=rows["label"].coalesce(rows["late_label"]))


def _duplicates(engine: Engine, name: str, rows: ir.Table, first_position: int) -> ir.Table | None:
    """Return the rows that equal an earlier row in every column except the position; None if there are no such rows."""
    # Few rows share user, item and time, so only these rows are compared in the other columns.
    counts = rows.group_by(KEY).agg(n=rows.count())
    repeated = engine.materialize(f"{name} repeated keys", counts.filter(counts["n"] > 1).select(KEY))
    if not engine.fetch_value(repeated.count()):
        return None
    similar = rows.semi_join(repeated, KEY)
    same = [column for column in rows.columns if column != POSITION]
    numbered = similar.mutate(
        occurrence=ibis.row_number().over(group_by=same, order_by=POSITION),
        origin=similar[POSITION].min().over(group_by=same),
    )
    later = numbered.filter(numbered["occurrence"] > 0)
    reason = ibis.ifelse(later["origin"] < first_position, ALREADY_IN_DATASET, "duplicate")
    return _materialize_if_any(engine, f"{name} duplicates", later.select(POSITION, reason=reason))


def _rows_beyond_user_limit(
    engine: Engine, name: str, rows: ir.Table, first_position: int, max_user_events: int
) -> ir.Table | None:
    """Return all rows of this preparation that belong to users with too many events, earlier preparations included."""
    users = rows.group_by("user").agg(n=rows.count())
    users = users.filter(users["n"] > max_user_events)
    excess = rows.filter(rows[POSITION] >= first_position).semi_join(users, "user")
    reason = ibis.literal(f"user with more than {max_user_events:,} events")
    return _materialize_if_any(engine, f"{name} beyond the user limit", excess.select(POSITION, reason=reason))


def _materialize_if_any(engine: Engine, name: str, table: ir.Table) -> ir.Table | None:
    materialized = engine.materialize(name, table)
    return materialized if engine.fetch_value(materialized.count()) else None


def _part_number(name: str) -> int:
    return int(name.removeprefix("part="))
