"""Rows that cannot be used are refused, kept beside the data set with file, row and reason, and counted; the rest goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from openlum.errors import InputError
from openlum.prepare.engines.engine import FILE, ROW, Engine
from openlum.prepare.inputs.csv_rows import FAULT, LINE, TEXT
from openlum.prepare.inputs.files import Source, source
from openlum.prepare.inputs.paths import left_out
from openlum.prepare.inputs.raw_table import POSITION, raw_table
from openlum.prepare.text import doubtful
from openlum.prepare.values import DAY, SECOND, Column, Converted, convert
from openlum.schema import Schema, moment

KNOWN_ALREADY = "already in the dataset"
"""The reason for a row that repeats one of an earlier preparation: expected where logs overlap, so no sign of a bad log."""
LABEL_LATER = "label of an earlier row that had none"
"""The reason for a row that does nothing but bring the label of an earlier one, which takes it: no sign of a bad log either."""
EXPECTED = (KNOWN_ALREADY, LABEL_LATER)
TOP_REASONS = 5
YEAR = 366 * DAY


class SchemaError(InputError):
    """A key of the schema does not fit the log; `prepare` adds the schema's path to the message."""


@dataclass(frozen=True)
class Checked:
    """A table of the log, row by row."""

    name: str
    """`events`, `impressions`, `items_table` or `users_table`."""
    source: Source
    raw: ir.Table
    """From `raw_table`."""
    rows: ir.Table
    """`POSITION`, each role converted, and `reason`, null where the row is usable."""
    suspects: dict[str, str]
    """Reason to the role that it is about."""
    met: dict[str, ir.Table] = field(default_factory=dict)
    """`user` and `item` to their different values in the usable rows, each with its count, once they are counted."""

    @property
    def usable(self) -> ir.Table:
        """The rows that have no fault in themselves: `POSITION` and the roles."""
        return self.rows.filter(self.rows["reason"].isnull()).drop("reason")


class Intake:
    """Opens the tables of a log, sorts the refused rows out and keeps count.

    Args:
        engine: where tables are computed.
        schema: its limits of times and of refused rows.
        root: the directory that paths of the schema start from.
        scratch: directory for Parquet made of CSV.
        sources: filled with the files of the tables opened.
        before: counts of the preparations that this one adds to.
    """

    def __init__(
        self,
        engine: Engine,
        schema: Schema,
        root: Path,
        scratch: Path,
        sources: list[Source],
        before: Mapping[str, int],
    ) -> None:
        self._engine, self._schema, self._root, self._scratch = engine, schema, root, scratch
        self._earliest = moment(schema.earliest, time.min) if schema.earliest else 0
        self._latest = moment(schema.latest, time.max) if schema.latest else _now()
        self._before, self._sources = before, sources
        self._first: dict[tuple[str, str], int] = {}
        self.counts: dict[str, int] = {}
        """`TABLE_in`, `TABLE` and `TABLE_rejected` of this preparation."""
        self.reasons: dict[str, int] = {}
        """`TABLE: reason` to refused rows."""
        self.notes: dict[str, int] = {}
        """What is odd but refuses no row, counted."""

    def open(self, name: str, path: str, columns: Sequence[Column]) -> Checked:
        """Look at every row of a table once and count the faults.

        Args:
            name: what to call the table.
            path: its files, as the schema has it.
            columns: its columns.

        Raises:
            InputError: a file cannot be read, a column is of a wrong type, or too many rows have faults.
        """
        names = [column.name for column in columns]
        found = source(self._root, path, names, self._scratch / name, (FILE, ROW, *self._engine.reserved))
        self._sources.append(found)
        if others := left_out(self._root, path):
            self.notes[f"{name}: files in the directory that are neither Parquet nor CSV (left out)"] = others
        raw = raw_table(self._engine, name, found, columns, before=self._before.get(f"{name}_in", 0))
        converted = {column: self._convert(raw, column, path) for column in columns}
        values = {column.role: c.value for column, c in converted.items()}
        # Where a value is no such thing the converted one is null, so this is told before that a key is missing.
        faults = [(where, text, column.role) for column, c in converted.items() for where, text in c.faults]
        faults += [(values[c.role].isnull(), f"no {c.role}", c.role) for c in columns if c.is_key]
        faults += self._time_faults(name, values) if "time" in values else []
        reason = ibis.cases(*[(where.fill_null(False), text) for where, text, _ in faults])
        reason = ibis.coalesce(raw[FAULT], reason) if found.malformed else reason
        rows = self._engine.view(name, raw.select(POSITION, **values, reason=reason))
        checked = Checked(name, found, raw, rows, {text: role for _, text, role in faults})
        cut = {f"cut {column.name}": c.cut for column, c in converted.items() if c.cut is not None}
        self._count(checked, raw.select(POSITION, reason=reason, **cut))
        return checked

    def note_ids(self, name: str, ids: ir.Table) -> None:
        """Note the ids of a table that may stand for several, or for none; `ids` has each different one once, in one column."""
        (role,) = ids.columns
        words = doubtful(ids[role])
        if not words:
            return
        counts = ids.aggregate(**{f"n{index}": where.sum() for index, where in enumerate(words.values())})
        for note, number in zip(words, self._engine.rows(counts)[0].values(), strict=True):
            if number:
                self.notes[f"{name}: different values of '{role}' {note}"] = int(number)

    def finish(self, checked: Checked, removed: Sequence[ir.Table], rejected: Path) -> None:
        """Count and write the refused rows of a table.

        Args:
            checked: from `open`.
            removed: tables of further rows to refuse, with the columns `POSITION` and reason.
            rejected: the Parquet file to write, if there is anything to write.
        """
        name, faulty = checked.name, checked.rows.filter(checked.rows["reason"].notnull()).select(POSITION, "reason")
        for table in removed:
            for row in self._engine.rows(table.group_by("reason").agg(n=table.count()).order_by("reason")):
                self._refuse(name, row["reason"], row["n"])
            faulty = ibis.union(faulty, table)
        self._check_share(checked)
        if self.counts[f"{name}_rejected"]:
            paths = [file.path for file in checked.source.files]
            files = ibis.memtable({FILE: list(range(len(paths))), "_name": paths})
            rows = faulty.join(checked.raw, POSITION).join(files, FILE).order_by(POSITION)
            lines = {"line_number": rows[LINE], "line": rows[TEXT]} if checked.source.malformed else {}
            columns = {c: rows[c] for c in checked.raw.columns if c not in (FILE, ROW, POSITION, FAULT, LINE, TEXT)}
            named = {"file": rows["_name"], "row_number": rows[ROW], "reason": rows["reason"]}
            self._engine.write(rows.select(**named, **lines, **columns), rejected)

    def _convert(self, raw: ir.Table, column: Column, path: str) -> Converted:
        try:
            return convert(raw[column.role], column)
        except TypeError as error:
            raise InputError(f"{self._root / path}: {error}; name another column in the schema") from None

    def _time_faults(self, name: str, values: Mapping[str, Any]) -> list[tuple[Any, str, str]]:
        """Times too early or too late. What has no label yet may be to come, where the schema does not say `latest`."""
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

    def _count(self, checked: Checked, rows: ir.Table) -> None:
        name = checked.name
        self.counts |= {f"{name}_in": checked.source.rows, name: checked.source.rows, f"{name}_rejected": 0}
        cut = {column: rows[column].fill_null(False).sum() for column in rows.columns if column.startswith("cut ")}
        position = {"least": rows[POSITION].min(), "most": rows[POSITION].max()}
        found = self._engine.rows(rows.aggregate(rows=rows.count(), faulty=rows["reason"].count(), **position, **cut))[
            0
        ]
        expected, first = checked.source.rows, self._before.get(f"{name}_in", 0)
        if (found["rows"], found["least"], found["most"]) != (expected, first, first + expected - 1):
            raise RuntimeError(
                f"{name}: {found['rows']:,} rows were read, numbers {found['least']} to {found['most']}, but there are "
                f"{expected:,} in the files, from number {first} on"
            )
        for column in cut:
            if found[column]:
                note = f"{name}: lists of '{column.removeprefix('cut ')}' longer than 'max_values' (cut)"
                self.notes[note] = found[column]
        if not found["faulty"]:
            return
        faulty = rows.filter(rows["reason"].notnull())
        each = faulty.group_by("reason").agg(n=faulty.count(), first=faulty[POSITION].min())
        for row in self._engine.rows(each.order_by("reason")):
            self._first[name, row["reason"]] = row["first"]
            self._refuse(name, row["reason"], row["n"])
        self._check_share(checked)

    def _refuse(self, name: str, reason: str, number: int) -> None:
        self.reasons[f"{name}: {reason}"] = self.reasons.get(f"{name}: {reason}", 0) + number
        self.counts[f"{name}_rejected"] += number
        self.counts[name] -= number

    def _check_share(self, checked: Checked) -> None:
        """Stop where too many rows are refused, with the most frequent reasons and where each was met first."""
        name, total = checked.name, self.counts[f"{checked.name}_in"]
        expected = sum(self.reasons.get(f"{name}: {reason}", 0) for reason in EXPECTED)
        bad, most = self.counts[f"{name}_rejected"] - expected, self._schema.max_rejected
        if bad <= most * total:
            return
        own = {text.removeprefix(f"{name}: "): n for text, n in self.reasons.items() if text.startswith(f"{name}: ")}
        own = {reason: number for reason, number in own.items() if reason not in EXPECTED}
        top = sorted(own.items(), key=lambda pair: -pair[1])[:TOP_REASONS]
        shown = "; ".join(f"{reason} ({number:,}{self._example(checked, reason)})" for reason, number in top)
        rest = f"; and {len(own) - TOP_REASONS} more reasons" if len(own) > TOP_REASONS else ""
        raise InputError(
            f"{self._root / checked.source.name}: {bad:,} of {total:,} rows cannot be used, more than 'max_rejected' "
            f"({most:.3g} of the rows) allows: {shown}{rest}; mend the log, or raise 'max_rejected' in the schema"
        )

    def _example(self, checked: Checked, reason: str) -> str:
        """Where a fault was met first, and what was found."""
        role, position = checked.suspects.get(reason), self._first.get((checked.name, reason))
        if position is None:
            return ""
        number, value = (ROW, role) if role else (LINE, TEXT)  # only a malformed line is about no column
        there = checked.raw.filter(checked.raw[POSITION] == position)
        row = self._engine.rows(there.select(FILE, number, value))[0]
        where = f"{checked.source.files[row[FILE]].path}: {'row' if role else 'line'} {row[number]:,}"
        return f", first in {where}" + ("" if reason == f"no {role}" else f": {row[value]!r}")


def _now() -> int:
    return int(datetime.now(UTC).timestamp() * SECOND)
