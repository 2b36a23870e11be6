"""The ids of items and users; and their tables: checked, joined to those of earlier preparations, and as the models see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ibis
import ibis.expr.types as ir

from openlum.prepare.engines.engine import Engine
from openlum.prepare.features import Encoder, encode
from openlum.prepare.intake import POSITION, Intake
from openlum.prepare.text import text
from openlum.prepare.values import Column, feature_columns
from openlum.schema import ItemTable, UserTable


@dataclass(frozen=True)
class Entities:
    """All users or all items."""

    role: str
    """`user` or `item`."""
    known: ir.Table
    """From `number_identities`: value and id."""
    rows: ir.Table | None
    """Their table, from `read_entities`, if there is one; some may lack a row."""

    def rows_of(self, ids: ir.Table) -> ir.Table | None:
        """The rows of those in the column id of `ids`."""
        if self.rows is None:
            return None
        those = self.known.semi_join(ids, "id")
        return self.rows.semi_join(those, self.rows["id"] == those["value"])


def read_entities(engine: Engine, intake: Intake, kind: str, table: ItemTable | UserTable, rejected: Path) -> ir.Table:
    """The usable rows of the item or the user table, one an id: id, perhaps title, and KIND.FIELD as it came.

    The first row of an id counts; the others are refused.
    """
    columns = [Column("id", table.id, "identity"), *feature_columns(kind, table.features)]
    if isinstance(table, ItemTable) and table.title:
        columns.append(Column("title", table.title, "title"))
    name = f"{kind}s_table"
    checked = intake.open(name, table.path, columns)
    usable = checked.usable
    intake.note_ids(name, usable.select("id").distinct())
    usable = usable.mutate(id=text(usable["id"]))
    place = ibis.row_number().over(group_by="id", order_by=POSITION)
    rows = engine.keep(name, usable.mutate(place=place))
    repeated = rows.filter(rows["place"] > 0).select(POSITION, reason=ibis.literal("duplicate"))
    intake.finish(checked, [repeated], rejected)
    usable = rows.filter(rows["place"] == 0).drop("place", POSITION)
    if (kept := engine.value(usable.count())) != intake.counts[name]:
        raise RuntimeError(f"{name}: {kept:,} rows were kept, but {intake.counts[name]:,} were usable")
    return usable


def number_identities(engine: Engine, name: str, seen: Sequence[ir.Table], former: ir.Table | None) -> ir.Table:
    """Ids from 1 for users or items: who acted first comes first, equals in the order of the text, those without events last.

    So no id depends on what happens after its first event: neither on later events nor on where the training period ends.

    Args:
        engine: where tables are computed.
        name: `users` or `items`.
        seen: tables with the columns value and first, the time of the value's first event (null without any); values may repeat.
        former: columns value and id of an earlier preparation: these values keep their ids, new ones come after them.

    Returns:
        A table with the columns value and id.
    """
    old = None if former is None else former.select("value", "id")
    if not seen:
        assert old is not None
        return old
    values = ibis.union(*seen) if len(seen) > 1 else seen[0]
    values = values.group_by("value").agg(first=values["first"].min())
    new = values if old is None else values.anti_join(old, "value")
    last = 0 if old is None else engine.value(old["id"].max()) or 0
    place = ibis.row_number().over(order_by=[new["first"].isnull(), new["first"], new["value"]])
    numbered = new.select("value", id=(place + last + 1).cast("int32"))
    return engine.keep(f"vocabulary {name}", numbered if old is None else ibis.union(old, numbered))


def encoded(entities: Entities, encoders: list[Encoder]) -> ir.Table:
    """One row an id, row 0 for the unknown.

    Args:
        entities: the items or the users.
        encoders: encoders of their features.

    Returns:
        The columns `item` or `user`, key (the raw id), for items title, and the encoded features, ordered by id.
    """
    role, known = entities.role, entities.known
    unknown = ibis.memtable({"key": ["(unknown)"], role: [0]}, schema={"key": "string", role: "int32"})
    rows = ibis.union(known.select(key=known["value"], **{role: known["id"]}), unknown)
    if entities.rows is not None:
        rows = rows.left_join(entities.rows, rows["key"] == entities.rows["id"]).drop("id")
    rows = encode(rows, encoders, key=role)
    titled = "title" in rows.columns
    title = {"title": ibis.coalesce(rows["title"], rows["key"]) if titled else rows["key"]} if role == "item" else {}
    return rows.select(role, "key", **title, **{one.role: rows[one.role] for one in encoders}).order_by(role)
