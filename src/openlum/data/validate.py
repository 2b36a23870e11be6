"""Rows that cannot be used are refused, kept beside the data set with the reason, and counted; the rest goes on."""

from collections.abc import Sequence
from datetime import UTC, datetime, time
from pathlib import Path

import ibis
import ibis.expr.types as ir

from openlum.data.engine import ROW, Engine
from openlum.data.values import SECOND, Column, typed
from openlum.errors import InputError


class SchemaError(InputError):
    """A key of the schema does not fit the log; `prepare` adds the schema's path to the message."""


class Intake:
    """Reads the tables of a log, sorts the refused rows out and keeps count.

    Args:
        engine: where tables are computed.
        root: the directory that paths of the schema start from.
        rejected: the directory for refused rows, one Parquet file a table.
        latest: the last moment accepted, in microseconds since 1970.
    """

    def __init__(self, engine: Engine, root: Path, rejected: Path, latest: int) -> None:
        self._engine, self._root, self._rejected, self._latest = engine, root, rejected, latest
        rejected.mkdir()
        self.counts: dict[str, int] = {}
        """`TABLE_in`, `TABLE`, `TABLE_rejected` for each table read."""
        self.reasons: dict[str, int] = {}
        """`TABLE: reason` to refused rows."""

    def read(self, name: str, path: str, columns: Sequence[Column], unique: Sequence[str] = ()) -> ir.Table:
        """The usable rows of a table: a column for each role, and `row_number`.

        Args:
            name: what to call the table.
            path: its file, as the schema has it.
            columns: its columns. Those that are no feature must have a value.
            unique: roles that make a row a duplicate of an earlier one, which is refused.
        """
        file = self._root / path
        raw = self._engine.read(f"{name}_raw", file, {column.role: column.name for column in columns})
        table = typed(self._engine, file, raw, columns)
        table = self._engine.keep(f"{name}_typed", table.mutate(reason=self._reason(table, unique)))
        self._sort_out(name, raw, table)
        return table.filter(table.reason.isnull()).drop("reason")

    def _reason(self, table: ir.Table, unique: Sequence[str]) -> ir.Value:
        keys = [role for role in table.columns if "." not in role and role not in (ROW, "title")]
        reasons = [(table[role].isnull(), f"no {role}") for role in keys]
        if "time" in keys:
            reasons += [(table["time"] < 0, "before 1970"), (table["time"] > self._latest, "in the future")]
        if unique:
            # Rows alike in all that is unique share any other reason too, so none is lost to a refused twin.
            later = ibis.row_number().over(group_by=[table[role] for role in unique], order_by=table[ROW]) > 0
            reasons.append((later, "duplicate"))
        return ibis.cases(*reasons)

    def _sort_out(self, name: str, raw: ir.Table, table: ir.Table) -> None:
        refused = table.filter(table.reason.notnull()).select(ROW, "reason")
        found = self._engine.rows(refused.group_by("reason").agg(n=refused.count()).order_by("reason"))
        rejected = sum(row["n"] for row in found)
        if rejected:
            rows = refused.join(raw, ROW).order_by(ROW)
            self._engine.write(rows, self._rejected / f"{name}.parquet")
        self.reasons |= {f"{name}: {row['reason']}": row["n"] for row in found}
        total = self._engine.value(raw.count())
        self.counts |= {f"{name}_in": total, name: total - rejected, f"{name}_rejected": rejected}
        self._engine.drop(f"{name}_raw")


def latest_time(latest: str | None) -> int:
    """The last moment accepted, in microseconds since 1970: the end of the day or the moment given (UTC), or now."""
    if latest is None:
        return int(datetime.now(UTC).timestamp() * SECOND)
    try:
        moment = datetime.fromisoformat(latest)
    except ValueError:
        raise SchemaError(f"key 'latest': '{latest}' is no date; expected 2025-12-31 or 2025-12-31T23:59:59") from None
    if len(latest) == len("2025-12-31"):
        moment = datetime.combine(moment.date(), time.max)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * SECOND)
