"""The log of a dataset: its usable rows with the ids of user and item, duplicates taken out, in parts by user.

`dataset/log/` keeps it: conditions raw, times in microseconds, every row with its position. All else in a dataset is computed
from it, and a later preparation adds to it.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import ibis
import ibis.expr.types as ir

from openlum.prepare.engines.engine import Engine
from openlum.prepare.impressions import check_rows, check_rule, impressions_of_events
from openlum.prepare.intake import KNOWN_ALREADY, LABEL_LATER, POSITION, Checked
from openlum.prepare.text import text
from openlum.schema import Schema

MISSING_ITEM = "item not in the item table"
KEY = ("user", "item", "time")


@dataclass(frozen=True)
class LogRules:
    """Which rows of a log are refused for the company they keep."""

    first: int
    """Position of the first row of this preparation."""
    distinct: bool
    """Refuse rows that repeat an earlier one in every column."""
    most: int | None = None
    """Refuse the rows of users with more than this many; what earlier preparations took stays."""


@dataclass(frozen=True)
class Log:
    """What `dataset/log/` holds: user and item as ids, time in microseconds, conditions raw, and `POSITION`.

    Attributes:
        events: all events.
        impressions: all impressions, with label, perhaps row, and context; those that the schema's rule makes of events; or none.
        parts: names of the parts, `part=0` and so on.
    """

    engine: Engine
    schema: Schema
    directory: Path
    events: ir.Table
    impressions: ir.Table
    parts: list[str]

    @classmethod
    def read(cls, engine: Engine, schema: Schema, directory: Path) -> "Log":
        """Read a log that `clean` wrote.

        Raises:
            SchemaError: the rule that makes impressions of events needs numbers and finds none.
        """
        events = engine.read("events", directory / "events")
        if schema.impressions:
            shown = engine.read("impressions", directory / "impressions")
        else:
            if schema.impressions_from_events:
                check_rule(engine, events, schema.impressions_from_events)
            shown = engine.view("impressions of events", impressions_of_events(events, schema))
        if schema.impressions and schema.impressions.row:
            check_rows(engine, shown, schema.impressions)
        names = {part.name for part in directory.glob("*/part=*")}
        return cls(engine, schema, directory, events, shown, sorted(names, key=_part_number))

    def part(self, name: str) -> tuple[ir.Table, ir.Table]:
        """The events and the impressions of the users of one part."""
        events, shown = self._of("events", name, self.events), self._of("impressions", name, self.impressions)
        return events, shown if self.schema.impressions else impressions_of_events(events, self.schema)

    def _of(self, table: str, part: str, whole: ir.Table) -> ir.Table:
        directory = self.directory / table / part
        return (
            self.engine.read(f"{table} of a part", directory)
            if directory.is_dir()
            else whole.filter(ibis.literal(False))
        )


def with_identities(engine: Engine, checked: Checked, users: ir.Table, items: ir.Table) -> ir.Table:
    """The usable rows with the ids of user and item instead of their values; rows of items without an id fall out."""
    rows = checked.usable
    for role, known in (("user", users), ("item", items)):
        values = checked.met[role].select(_value=role)
        ids = values.join(known, text(values["_value"]) == known["value"]).select("_value", _id="id")
        ids = engine.keep(f"{role} ids of {checked.name}", ids)
        rows = rows.join(ids, rows[role] == ids["_value"]).drop(role, "_value").rename({role: "_id"})
    return engine.view(f"{checked.name} with ids", rows)


def strangers(engine: Engine, checked: Checked, items: ir.Table) -> ir.Table | None:
    """The usable rows of items without an id, as `clean` returns refused rows."""
    rows, unknown = checked.usable, checked.met["item"].select("item")
    unknown = engine.keep(
        f"{checked.name} strangers", unknown.anti_join(items, text(unknown["item"]) == items["value"])
    )
    if not engine.value(unknown.count()):
        return None
    return engine.keep(
        f"{checked.name} of strangers",
        rows.semi_join(unknown, "item").select(POSITION, reason=ibis.literal(MISSING_ITEM)),
    )


def divide(engine: Engine, name: str, rows: list[ir.Table], number: int, scratch: Path) -> list[Path]:
    """Write the rows of tables in parts by user; returns the directory of each part that has rows."""
    columns = rows[0].columns
    both = ibis.union(*[table.select(columns) for table in rows]) if len(rows) > 1 else rows[0]
    engine.write_parts(both.mutate(part=(both["user"] % number).cast("int32")), scratch / name)
    return sorted((scratch / name).glob("part=*"), key=lambda part: _part_number(part.name))


def check_complete(engine: Engine, name: str, divided: Path, expected: int) -> None:
    """Make sure that no row was lost between the files and the log."""
    found = engine.value(engine.read(f"{name} divided", divided).count()) if any(divided.glob("part=*")) else 0
    if found != expected:
        raise RuntimeError(f"{name}: {found:,} rows reached the log, but {expected:,} were usable")


def clean(engine: Engine, part: Path, rules: LogRules, out: Path) -> ir.Table | None:
    """Move one part into the log, without the rows that the rules refuse, and with the labels that came later than their rows.

    Args:
        engine: where tables are computed.
        part: a directory from `divide`.
        rules: what to refuse.
        out: directory of the log.

    Returns:
        The refused rows, with the columns `POSITION` and reason; None where there are none.
    """
    name = f"{out.name} {part.name}"
    rows = engine.read(name, part)
    out.mkdir(parents=True, exist_ok=True)
    repeated = _repeated(engine, name, rows, rules.first) if rules.distinct else None
    left = rows if repeated is None else rows.anti_join(repeated, POSITION)
    late = _late_labels(engine, name, left, rules.first) if "label" in rows.columns else None
    left = left if late is None else _with_labels(left, late)
    crowds = _crowds(engine, name, left, rules.first, rules.most) if rules.most else None
    left = left if crowds is None else left.anti_join(crowds, POSITION)
    late = None if late is None else late.filter(late["reason"].notnull()).select(POSITION, "reason")
    refused = [found for found in (repeated, late, crowds) if found is not None]
    if not refused:
        shutil.move(part, out / part.name)
        return None
    number = _part_number(part.name)
    engine.write_parts(left.mutate(part=ibis.literal(number, "int32")), out)
    shutil.rmtree(part)
    return ibis.union(*refused) if len(refused) > 1 else refused[0]


def _late_labels(engine: Engine, name: str, rows: ir.Table, first: int) -> ir.Table | None:
    """Rows that are alike in all but position and label, where one lacks the label and another has it: one of them stays.

    The earlier one stays. Where it lacks the label it takes that of the other, so that its row id, under which there may be
    answers already, is that of the labelled row.

    Returns:
        The columns `POSITION`, reason (null where the row stays) and label (that it takes); None where there are no such rows.
    """
    key = ("row",) if "row" in rows.columns else KEY
    waiting = engine.keep(f"{name} waiting", rows.filter(rows["label"].isnull()).select(key).distinct())
    if not engine.value(waiting.count()):
        return None
    alike = [column for column in rows.columns if column not in (POSITION, "label")]
    close = rows.semi_join(waiting, key)
    position, missing = close[POSITION], close["label"].isnull()
    close = close.mutate(
        without=ibis.ifelse(missing, position, ibis.null("int64")).min().over(group_by=alike),
        having=ibis.ifelse(missing, ibis.null("int64"), position).min().over(group_by=alike),
    )
    close = close.mutate(
        label=ibis.ifelse(close[POSITION] == close["having"], close["label"], ibis.null("float64"))
        .max()
        .over(group_by=alike)
    )
    takes, brings = close[POSITION] == close["without"], close[POSITION] == close["having"]
    early = close["without"] < close["having"]
    found = close.filter(close["having"].notnull() & (takes | (brings & early)))
    repeats = ibis.ifelse(found["having"] < first, KNOWN_ALREADY, "duplicate")
    reason = ibis.cases(
        (found[POSITION] == found["having"], LABEL_LATER),
        (found["without"] > found["having"], repeats),
        else_=ibis.null("string"),
    )
    return _kept_if_any(engine, f"{name} late labels", found.select(POSITION, "label", reason=reason))


def _with_labels(rows: ir.Table, late: ir.Table) -> ir.Table:
    """The rows that stay, with the labels that they take."""
    went, came = late.filter(late["reason"].notnull()), late.filter(late["reason"].isnull())
    rows = rows.anti_join(went, POSITION).left_join(came.select(POSITION, taken="label"), POSITION)
    columns = [column for column in rows.columns if column not in ("label", "taken", f"{POSITION}_right")]
    return rows.select(*columns, label=rows["label"].coalesce(rows["taken"]))


def _repeated(engine: Engine, name: str, rows: ir.Table, first: int) -> ir.Table | None:
    """Rows that are like an earlier one in all but their position."""
    # Few rows share user, item and time; only those are compared in the other columns.
    met = rows.group_by(KEY).agg(n=rows.count())
    twice = engine.keep(f"{name} twice", met.filter(met["n"] > 1).select(KEY))
    if not engine.value(twice.count()):
        return None
    close = rows.semi_join(twice, KEY)
    same = [column for column in rows.columns if column != POSITION]
    placed = close.mutate(
        place=ibis.row_number().over(group_by=same, order_by=POSITION),
        origin=close[POSITION].min().over(group_by=same),
    )
    later = placed.filter(placed["place"] > 0)
    reason = ibis.ifelse(later["origin"] < first, KNOWN_ALREADY, "duplicate")
    return _kept_if_any(engine, f"{name} repeated", later.select(POSITION, reason=reason))


def _crowds(engine: Engine, name: str, rows: ir.Table, first: int, most: int) -> ir.Table | None:
    """All rows of this preparation of users with more than `most`, those of earlier ones counted."""
    users = rows.group_by("user").agg(n=rows.count())
    users = users.filter(users["n"] > most)
    crowd = rows.filter(rows[POSITION] >= first).semi_join(users, "user")
    reason = ibis.literal(f"user with more than {most:,} events")
    return _kept_if_any(engine, f"{name} crowds", crowd.select(POSITION, reason=reason))


def _kept_if_any(engine: Engine, name: str, table: ir.Table) -> ir.Table | None:
    kept = engine.keep(name, table)
    return kept if engine.value(kept.count()) else None


def _part_number(name: str) -> int:
    return int(name.removeprefix("part="))
