"""The item table and the user table: checked, joined to those of earlier preparations, and as the models see them."""

from pathlib import Path

import ibis
import ibis.expr.types as ir

from openlum.data.engine import Engine
from openlum.data.features import Encoder, encode
from openlum.data.intake import POSITION, Intake
from openlum.data.values import Column, feature_columns
from openlum.schema import ItemTable, UserTable


def read_entities(engine: Engine, intake: Intake, kind: str, table: ItemTable | UserTable, rejected: Path) -> ir.Table:
    """The usable rows of the item or the user table, one an id: id, perhaps title, and KIND.FIELD as it came.

    The first row of an id counts; the others are refused.
    """
    columns = [Column("id", table.id), *feature_columns(kind, table.features)]
    if isinstance(table, ItemTable) and table.title:
        columns.append(Column("title", table.title))
    name = f"{kind}s_table"
    checked = intake.open(name, table.path, columns)
    place = ibis.row_number().over(group_by="id", order_by=POSITION)
    rows = engine.keep(name, checked.usable.mutate(place=place))
    repeated = rows.filter(rows["place"] > 0).select(POSITION, reason=ibis.literal("duplicate"))
    intake.finish(checked, [repeated], rejected)
    usable = rows.filter(rows["place"] == 0).drop("place", POSITION)
    if (kept := engine.value(usable.count())) != intake.counts[name]:
        raise RuntimeError(f"{name}: {kept:,} rows were kept, but {intake.counts[name]:,} were usable")
    return usable


def entities(known: ir.Table, table: ir.Table | None, encoders: list[Encoder], name: str) -> ir.Table:
    """One row an id, row 0 for the unknown.

    Args:
        known: the vocabulary of the ids.
        table: from `read_entities`; some ids may lack a row.
        encoders: encoders of the features.
        name: what the id column is called, `item` or `user`.

    Returns:
        The columns `name`, key (the raw id), for items title, and the encoded features, ordered by id.
    """
    roles = [encoder.role for encoder in encoders]
    unknown = ibis.memtable({"key": ["(unknown)"], name: [0]}, schema={"key": "string", name: "int32"})
    rows = ibis.union(known.select(key=known["value"], **{name: known["id"]}), unknown)
    if table is not None:
        rows = rows.left_join(table, rows["key"] == table["id"]).drop("id")
    rows = encode(rows, encoders, key=name)
    titled = "title" in rows.columns
    title = {"title": ibis.coalesce(rows["title"], rows["key"]) if titled else rows["key"]} if name == "item" else {}
    return rows.select(name, "key", **title, **{role: rows[role] for role in roles}).order_by(name)
