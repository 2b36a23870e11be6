"""The item table and the user table as the models see them: one row an id."""

import ibis
import ibis.expr.types as ir

from openlum.data.engine import ROW
from openlum.data.features import Encoder, encode


def entities(known: ir.Table, table: ir.Table | None, encoders: list[Encoder], name: str) -> ir.Table:
    """One row an id, row 0 for the unknown.

    Args:
        known: the vocabulary of the ids.
        table: the rows that the team has, with the columns id, perhaps title, and features; some ids may lack one.
        encoders: encoders of the features.
        name: what the id column is called, `item` or `user`.

    Returns:
        The columns `name`, key (the raw id), perhaps title, and the encoded features, ordered by id.
    """
    roles = [encoder.role for encoder in encoders]
    unknown = ibis.memtable({"key": ["(unknown)"], name: [0]}, schema={"key": "string", name: "int32"})
    rows = ibis.union(known.select(key=known["value"], **{name: known["id"]}), unknown)
    if table is not None:
        rows = rows.left_join(table.drop(ROW), rows["key"] == table["id"]).drop("id")
    rows = encode(rows.mutate(**{ROW: rows[name]}), encoders)
    titled = "title" in rows.columns
    title = {"title": ibis.coalesce(rows["title"], rows["key"]) if titled else rows["key"]} if name == "item" else {}
    return rows.select(name, "key", **title, **{role: rows[role] for role in roles}).order_by(name)
