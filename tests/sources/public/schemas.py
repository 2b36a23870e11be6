"""Checks that hold for the schema of every public data set."""

from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq

from openlum.config import load_settings
from openlum.schema import Schema

ROLES = ("id", "title", "user", "item", "time", "label")
"""Keys of a table whose values are names of columns."""


def checked_schema(path: Path) -> Schema:
    """Return a schema after checking that each key has a comment above it and that the tables have its columns."""
    for above, line in pairwise(path.read_text().splitlines()):
        if line.strip() and not line.strip().startswith("#"):
            assert above.strip().startswith("#"), f"no comment above '{line}'"
    schema = load_settings(path, Schema)
    for table in (schema.events, schema.items, schema.users, schema.impressions):
        if table is not None:
            settings = table.model_dump()
            fields = settings.get("features") or settings.get("condition") or settings.get("context") or {}
            columns = {settings[role] for role in ROLES if settings.get(role)}
            columns |= {field["column"] or name for name, field in fields.items()}
            assert columns <= set(pq.read_schema(path.parent / table.path).names), table.path
    return schema
