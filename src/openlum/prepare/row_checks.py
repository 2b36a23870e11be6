"""Check the rows of the tables of a log. Unusable rows are rejected, counted, and stored with file, row and reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from openlum.errors import InputError
from openlum.file_format import DEFAULT_CSV, CsvFormat, parse_time
from openlum.prepare.canonical_expression import doubtful_id_notes
from openlum.prepare.conversion import DAY, SECOND, Column, Converted, convert
from openlum.prepare.engines.engine import FILE_NUMBER, ROW_NUMBER, Engine
from openlum.prepare.inputs.csv_rows import FAULT, LINE_NUMBER, LINE_TEXT, MALFORMED
from openlum.prepare.inputs.files import TableFiles, find_table_files
from openlum.prepare.inputs.paths import count_other_files
from openlum.prepare.inputs.raw_table import POSITION, raw_table
from openlum.prepare.time_expression import occurring_spellings
from openlum.schema import Schema

ALREADY_IN_DATASET = "already in the dataset"
"""Reason for a row that repeats a row of an earlier preparation. Such rejections are expected where logs overlap."""
LATE_LABEL = "label of an earlier row that had none"
"""Reason for a new row whose label was moved to the earlier unlabelled row. Such rejections are expected."""
NORMAL_REASONS = (ALREADY_IN_DATASET, LATE_LABEL)
"""Reasons that do not count towards `max_rejected`."""
DUPLICATES = (
    "A duplicate equals an earlier row in every column that the schema names; the first of equal rows is kept. If they are "
    "different actions within a second, name a column in 'condition' that tells them apart, or write times of a finer unit"
)
"""What duplicates are and what to do, for messages."""
TOP_REASONS = 5
YEAR = 366 * DAY


class SchemaError(InputError):
    """A key of the schema does not fit the log; `prepare` adds the schema's path to the message."""


@dataclass(frozen=True)
class CheckedTable:
    """A table of the log whose rows have been checked one by one."""

    name: str
    """`events`, `impressions`, `items_table` or `users_table`."""
    source: TableFiles
    raw: ir.Table
    """From `raw_table`."""
    rows: ir.Table
    """`POSITION`, the converted column of each role, and `reason`, which is null where the row is usable."""
    role_of_reason: dict[str, str]
    """For each reason, the role of the column at fault."""
    distinct_ids: dict[str, ir.Table] = field(default_factory=dict)
    """For `user` and `item`: the distinct raw ids in the usable rows, each with the time of its first row. Filled later."""

    @property
    def usable(self) -> ir.Table:
        """The rows that passed all checks of single rows: `POSITION` and the roles."""
        return self.rows.filter(self.rows["reason"].isnull()).drop("reason")


class RowChecker:
    """Checks every row of the tables of a log, and counts rejected rows and reasons.

    Args:
        engine: the engine that computes tables.
        schema: sets the limits of times and of rejected rows.
        root: the directory that relative paths of the schema start from.
        scratch: directory for Parquet files made from CSV.
        sources: a list to which the files of every opened table are added.
        earlier_counts: counts of the preparations that this one extends.
    """

    def __init__(
        self,
        engine: Engine,
        schema: Schema,
        root: Path,
        scratch: Path,
        sources: list[TableFiles],
        earlier_counts: Mapping[str, int],
    ) -> None:
        self._engine, self._schema, self._root, self._scratch = engine, schema, root, scratch
        self._earliest = parse_time(schema.earliest, time.min) if schema.earliest else 0
        self._latest = parse_time(schema.latest, time.max) if schema.latest else _now()
        self._earlier_counts, self._sources = earlier_counts, sources
        self._first_position: dict[tuple[str, str], int] = {}
        self.counts: dict[str, int] = {}
        """`TABLE_in`, `TABLE` and `TABLE_rejected` of this preparation."""
        self.reasons: dict[str, int] = {}
        """Number of rejected rows for each `TABLE: reason`."""
        self.notes: dict[str, int] = {}
        """Data-quality notes and their counts; they reject no row."""

    def check_table(
        self, name: str, path: str, columns: Sequence[Column], csv_format: CsvFormat = DEFAULT_CSV
    ) -> CheckedTable:
        """Read a table once, check every row and count the faults.

        Args:
            name: the name of the table.
            path: the path of its files, as written in the schema.
            columns: its columns.
            csv_format: the format of its CSV files.

        Raises:
            InputError: a file cannot be read, a column has a wrong type, or too many rows have faults.
        """
        names = [column.name for column in columns]
        reserved = (FILE_NUMBER, ROW_NUMBER, *self._engine.reserved)
        files = find_table_files(self._root, path, names, self._scratch / name, reserved, csv_format)
        columns = [replace(column, decimal_comma=csv_format.decimal == ",") for column in columns]
        self._sources.append(files)
        if other_files := count_other_files(self._root, path):
            self.notes[f"{name}: files in the directory that are neither Parquet nor CSV (ignored)"] = other_files
        earlier_rows = self._earlier_counts.get(f"{name}_in", 0)
        raw = raw_table(self._engine, name, files, columns, earlier_rows)
        conversions = {column: self._convert(raw, column, path) for column in columns}
        invalid = [(column.role, *fault) for column, c in conversions.items() for fault in c.faults]
        cut = {f"cut {column.name}": c.cut for column, c in conversions.items() if c.cut is not None}
        # A view, because Ibis would repeat every conversion wherever its value is used.
        converted = self._engine.view(
            f"{name} converted",
            raw.select(
                *[POSITION, *([FAULT] if files.malformed else [])],
                **{column.role: conversion.value for column, conversion in conversions.items()},
                **{f"invalid {number}": where for number, (_, where, _) in enumerate(invalid)},
                **cut,
            ),
        )
        values = {column.role: converted[column.role] for column in columns}
        # An invalid value is converted to null, so the fault "invalid" must come before the fault "missing".
        faults = [(converted[f"invalid {number}"], text, role) for number, (role, _, text) in enumerate(invalid)]
        faults += [(values[c.role].isnull(), f"no {c.role}", c.role) for c in columns if c.is_key]
        faults += self._time_faults(name, values) if "time" in values else []
        reason = ibis.cases(*[(where.fill_null(False), text) for where, text, _ in faults])
        reason = ibis.coalesce(converted[FAULT], reason) if files.malformed else reason
        checked_rows = self._engine.view(
            name, converted.select(POSITION, **values, reason=reason, **{column: converted[column] for column in cut})
        )
        rows = checked_rows.drop(*cut) if cut else checked_rows
        checked = CheckedTable(name, files, raw, rows, {text: role for _, text, role in faults})
        self._count(checked, checked_rows)
        return checked

    def note_doubtful_ids(self, name: str, ids: ir.Table) -> None:
        """Note ids that may stand for several entities or for a missing value; `ids` has one column with the distinct ids."""
        (role,) = ids.columns
        notes = doubtful_id_notes(ids[role])
        if not notes:
            return
        counts = ids.aggregate(**{f"n{index}": where.sum() for index, where in enumerate(notes.values())})
        for note, number in zip(notes, self._engine.fetch_rows(counts)[0].values(), strict=True):
            if number:
                self.notes[f"{name}: different values of '{role}' {note}"] = int(number)

    def write_rejected(self, checked: CheckedTable, tables: Sequence[ir.Table], path: Path) -> None:
        """Count and write the rejected rows of a table.

        Args:
            checked: from `check_table`.
            tables: tables of further rejected rows, with the columns `POSITION` and reason.
            path: the Parquet file to write; it is written only if there are rejected rows.
        """
        name = checked.name
        rejected = checked.rows.filter(checked.rows["reason"].notnull()).select(POSITION, "reason")
        for table in tables:
            by_reason = table.group_by("reason").agg(n=table.count(), first=table[POSITION].min())
            for row in self._engine.fetch_rows(by_reason.order_by("reason")):
                first = self._first_position.setdefault((name, row["reason"]), row["first"])
                self._first_position[name, row["reason"]] = min(first, row["first"])
                self._add_rejected(name, row["reason"], row["n"])
            rejected = ibis.union(rejected, table)
        self._check_rejected_share(checked)
        if self.counts[f"{name}_rejected"]:
            paths = [file.path for file in checked.source.files]
            files = ibis.memtable({FILE_NUMBER: list(range(len(paths))), "_name": paths})
            rows = rejected.join(checked.raw, POSITION).join(files, FILE_NUMBER).order_by(POSITION)
            lines = {"line_number": rows[LINE_NUMBER], "line": rows[LINE_TEXT]} if checked.source.malformed else {}
            internal = (FILE_NUMBER, ROW_NUMBER, POSITION, FAULT, LINE_NUMBER, LINE_TEXT)
            columns = {column: rows[column] for column in checked.raw.columns if column not in internal}
            location = {"file": rows["_name"], "row_number": rows[ROW_NUMBER], "reason": rows["reason"]}
            self._engine.write(rows.select(**location, **lines, **columns), path)

    def _convert(self, raw: ir.Table, column: Column, path: str) -> Converted:
        try:
            if column.kind in ("time", "row_time") and raw[column.role].type().is_string():
                found = occurring_spellings(self._engine, raw, column.role, column.date_order)
                column = replace(column, spellings=found)
            return convert(raw[column.role], column)
        except TypeError as error:
            raise InputError(f"{self._root / path}: {error}; name another column in the schema") from None

    def _time_faults(self, name: str, values: Mapping[str, Any]) -> list[tuple[Any, str, str]]:
        """Return faults of times that are too early or too late.

        An impression without a label may lie in the future, unless the schema sets `latest`.
        """
        time, faults = values["time"], []
        early = f"before {self._schema.earliest}" if self._schema.earliest else "before 1970"
        faults.append((time < self._earliest, early, "time"))
        if self._schema.latest:
            return [*faults, (time > self._latest, f"after {self._schema.latest}", "time")]
        late = time > self._latest
        if name == "impressions":
            faults.append((time > self._latest + YEAR, "more than a year in the future", "time"))
            late = late & values["label"].notnull() if "label" in values else ibis.literal(False)
        return [*faults, (late, "in the future", "time")]

    def _count(self, checked: CheckedTable, rows: ir.Table) -> None:
        name = checked.name
        self.counts |= {f"{name}_in": checked.source.rows, name: checked.source.rows, f"{name}_rejected": 0}
        cut = {column: rows[column].fill_null(False).sum() for column in rows.columns if column.startswith("cut ")}
        positions = {"lowest": rows[POSITION].min(), "highest": rows[POSITION].max()}
        totals = self._engine.fetch_rows(
            rows.aggregate(rows=rows.count(), faulty=rows["reason"].count(), **positions, **cut)
        )[0]
        expected, first = checked.source.rows, self._earlier_counts.get(f"{name}_in", 0)
        if totals["rows"] != expected:
            raise InputError(
                f"{name}: {totals['rows']:,} rows were read, but the files have {expected:,} rows; a file has changed while it "
                "was read: run the command again"
            )
        if (totals["lowest"], totals["highest"]) != (first, first + expected - 1):
            raise RuntimeError(
                f"{name}: the rows have the positions {totals['lowest']} to {totals['highest']}, but the first position must be "
                f"{first} and the last position {first + expected - 1}"
            )
        for column in cut:
            if totals[column]:
                note = f"{name}: lists of '{column.removeprefix('cut ')}' longer than 'max_values' (cut)"
                self.notes[note] = totals[column]
        if not totals["faulty"]:
            return
        faulty = rows.filter(rows["reason"].notnull())
        by_reason = faulty.group_by("reason").agg(n=faulty.count(), first=faulty[POSITION].min())
        for row in self._engine.fetch_rows(by_reason.order_by("reason")):
            self._first_position[name, row["reason"]] = row["first"]
            self._add_rejected(name, row["reason"], row["n"])
        self._check_rejected_share(checked)

    def _add_rejected(self, name: str, reason: str, number: int) -> None:
        self.reasons[f"{name}: {reason}"] = self.reasons.get(f"{name}: {reason}", 0) + number
        self.counts[f"{name}_rejected"] += number
        self.counts[name] -= number

    def _check_rejected_share(self, checked: CheckedTable) -> None:
        """Raise an `InputError` if too many rows are rejected; it names the top reasons and the first row of each."""
        name, total = checked.name, self.counts[f"{checked.name}_in"]
        normal = sum(self.reasons.get(f"{name}: {reason}", 0) for reason in NORMAL_REASONS)
        faulty, limit = self.counts[f"{name}_rejected"] - normal, self._schema.max_rejected
        if faulty <= limit * total:
            return
        prefix = f"{name}: "
        reasons = {text.removeprefix(prefix): n for text, n in self.reasons.items() if text.startswith(prefix)}
        reasons = {reason: number for reason, number in reasons.items() if reason not in NORMAL_REASONS}
        top = sorted(reasons.items(), key=lambda pair: -pair[1])[:TOP_REASONS]
        listed = "; ".join(f"{reason} ({number:,}{self._example(checked, reason)})" for reason, number in top)
        duplicates = (
            f". {DUPLICATES}" if "duplicate" in [reason for reason, _ in top] and "user" in checked.raw.columns else ""
        )
        rest = f"; and {len(reasons) - TOP_REASONS} more reasons" if len(reasons) > TOP_REASONS else ""
        raise InputError(
            f"{self._root / checked.source.name}: {faulty:,} of {total:,} rows cannot be used, more than 'max_rejected' "
            f"({limit:.3g} of the rows) allows: {listed}{rest}; correct the log, or raise 'max_rejected' in the "
            f"schema{duplicates}"
        )

    def _example(self, checked: CheckedTable, reason: str) -> str:
        """Return the location of the first row with a reason, and the value at fault, for messages."""
        role, position = checked.role_of_reason.get(reason), self._first_position.get((checked.name, reason))
        if position is None:
            return ""
        example = checked.raw.filter(checked.raw[POSITION] == position)
        is_malformed = reason.startswith(MALFORMED)
        number = LINE_NUMBER if is_malformed else ROW_NUMBER
        keys = [key for key in ("user", "item", "time", "id") if key in checked.raw.columns]
        shown = [LINE_TEXT] if is_malformed else [role] if role else keys
        row = self._engine.fetch_rows(example.select(FILE_NUMBER, number, *shown))[0]
        where = f"{checked.source.files[row[FILE_NUMBER]].path}: {'line' if is_malformed else 'row'} {row[number]:,}"
        if is_malformed or role:
            return f", first in {where}" + ("" if reason == f"no {role}" else f": {row[shown[0]]!r}")
        return f", first in {where}: {', '.join(f'{key} {row[key]}' for key in keys)}"


def _now() -> int:
    return int(datetime.now(UTC).timestamp() * SECOND)
