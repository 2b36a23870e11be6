"""What holds for the schema of every public data set."""

from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq

from openlum.config import load_settings
from openlum.schema import Schema

ROLES = ("id", "title", "user", "item", "time", "label")
"""Keys of a table whose values are columns."""


def checked_schema(path: Path) -> Schema:
    """Load a schema whose every key has a comment above it and whose columns are in its tables."""
    for above, line in pairwise(path.read_text().splitlines()):
        if line.strip() and not line.strip().startswith("#"):
            assert above.strip().startswith("#"), f"no comment above '{line}'"
    schema = load_settings(path, Schema)
    for table in (schema.events, schema.items, schema.users, schema.impressions):
        if table is not None:
            given = table.model_dump()
            fields = given.get("features") or given.get("condition") or given.get("context") or {}
            columns = {given[role] for role in ROLES if given.get(role)}
            columns |= {field["column"] or name for name, field in fields.items()}
            assert columns <= set(pq.read_schema(path.parent / table.path).names), table.path
    return schema
