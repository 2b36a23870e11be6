"""Items and users: assign ids, check their tables, merge them with earlier preparations, and encode them for the models."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ibis
import ibis.expr.types as ir

from openlum.prepare.canonical_expression import canonical_expression
from openlum.prepare.conversion import Column, feature_columns
from openlum.prepare.engines.engine import Engine
from openlum.prepare.features import Encoder, encode_columns
from openlum.prepare.row_checks import POSITION, RowChecker
from openlum.schema import ItemTable, UserTable


@dataclass(frozen=True)
class Entities:
    """All users or all items."""

    role: str
    """`user` or `item`."""
    ids: ir.Table
    """The columns value and id, from `assign_ids`."""
    table: ir.Table | None
    """The item or user table from `read_entities`, if the schema has one; it may lack rows of some entities."""

    def table_rows(self, ids: ir.Table) -> ir.Table | None:
        """Return the rows of `table` whose entity is in the column id of `ids`; None without a table."""
        if self.table is None:
            return None
        selected = self.ids.semi_join(ids, "id")
        return self.table.semi_join(selected, self.table["id"] == selected["value"])


def read_entities(
    engine: Engine, checker: RowChecker, kind: str, table: ItemTable | UserTable, rejected: Path
) -> ir.Table:
    """Return the accepted rows of the item or the user table, one row for each id.

    The first row of an id is accepted; later rows of the same id are rejected.

    Args:
        engine: the engine that computes tables.
        checker: checks and counts the rows.
        kind: `item` or `user`.
        table: the table in the schema.
        rejected: the Parquet file for the rejected rows.

    Returns:
        The columns id, title (where the schema names one), and KIND.FIELD with raw values.
    """
    columns = [Column("id", table.id, "identity"), *feature_columns(kind, table.features)]
    if isinstance(table, ItemTable) and table.title:
        columns.append(Column("title", table.title, "title"))
    name = f"{kind}s_table"
    checked = checker.check_table(name, table.path, columns, table.csv)
    usable = checked.usable
    checker.note_doubtful_ids(name, usable.select("id").distinct())
    usable = usable.mutate(id=canonical_expression(usable["id"]))
    occurrence = ibis.row_number().over(group_by="id", order_by=POSITION)
    rows = engine.materialize(name, usable.mutate(occurrence=occurrence))
    duplicates = rows.filter(rows["occurrence"] > 0).select(POSITION, reason=ibis.literal("duplicate"))
    checker.write_rejected(checked, [duplicates], rejected)
    accepted = rows.filter(rows["occurrence"] == 0).drop("occurrence", POSITION)
    if (number := engine.fetch_value(accepted.count())) != checker.counts[name]:
        raise RuntimeError(f"{name}: {number:,} rows were written, but {checker.counts[name]:,} were accepted")
    return accepted


def assign_ids(engine: Engine, name: str, occurrences: Sequence[ir.Table], earlier: ir.Table | None) -> ir.Table:
    """Return ids from 1 for users or items, in the order of their first event.

    Entities whose first event has the same time are ordered by their raw value; entities without events come last. So an
    id depends neither on later events nor on the end of the training period.

    Args:
        engine: the engine that computes tables.
        name: `users` or `items`.
        occurrences: tables with the columns value and first, the time of the value's first event (null without events); values
            may repeat.
        earlier: columns value and id of an earlier preparation. These values keep their ids; new values get the next ids.

    Returns:
        A table with the columns value and id.
    """
    old = None if earlier is None else earlier.select("value", "id")
    if not occurrences:
        assert old is not None
        return old
    values = ibis.union(*occurrences) if len(occurrences) > 1 else occurrences[0]
    values = values.group_by("value").agg(first=values["first"].min())
    new = values if old is None else values.anti_join(old, "value")
    last = 0 if old is None else engine.fetch_value(old["id"].max()) or 0
    rank = ibis.row_number().over(order_by=[new["first"].isnull(), new["first"], new["value"]])
    numbered = new.select("value", id=(rank + last + 1).cast("int32"))
    return engine.materialize(f"vocabulary {name}", numbered if old is None else ibis.union(old, numbered))


def encoded_entities(entities: Entities, encoders: list[Encoder]) -> ir.Table:
    """Return one row for each id, with row 0 for unknown entities.

    Args:
        entities: the items or the users.
        encoders: the encoders of their features.

    Returns:
        The columns `item` or `user`, key (the raw id), title (for items) and the encoded features, ordered by id.
    """
    role, ids = entities.role, entities.ids
    # One row, of which only the number counts. `ibis.memtable` would import pandas.
    unknown = ids.agg(rows=ids.count()).select(key=ibis.literal("(unknown)"), **{role: ibis.literal(0, "int32")})
    rows = ibis.union(ids.select(key=ids["value"], **{role: ids["id"]}), unknown)
    if entities.table is not None:
        rows = rows.left_join(entities.table, rows["key"] == entities.table["id"]).drop("id")
    rows = encode_columns(rows, encoders, key=role)
    has_title = "title" in rows.columns
    title = {"title": ibis.coalesce(rows["title"], rows["key"]) if has_title else rows["key"]} if role == "item" else {}
    return rows.select(role, "key", **title, **{encoder.role: rows[encoder.role] for encoder in encoders}).order_by(
        role
    )
