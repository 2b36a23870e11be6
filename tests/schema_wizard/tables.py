"""Tables for proposals, and functions that read a proposal."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from openlum.config import parse_settings
from openlum.schema import Schema
from openlum.schema_wizard import Proposal

ROWS = 600


def read_schema(proposal: Proposal) -> Schema:
    """Return the schema of a proposal that lacks no column."""
    assert proposal.missing == []
    return parse_settings(yaml.safe_load(proposal.text), Schema, where="proposal")


def write_table(path: Path, **columns: Any) -> str:
    """Write a Parquet file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return str(path)


def write_events(path: Path, **columns: Any) -> str:
    """Write an event log of 600 rows and return its path. `columns` replaces or adds columns."""
    rng = np.random.default_rng(0)
    common = {
        "user_id": rng.integers(1, 50, ROWS),
        "item_id": rng.integers(1, 80, ROWS),
        "timestamp": 1_700_000_000 + np.sort(rng.integers(0, 10**6, ROWS)),
    }
    return write_table(path, **(common | columns))


def find_line(proposal: Proposal, start: str) -> str:
    """Return the first line of the proposal that begins with a text, without its indent."""
    lines = [text.strip() for text in proposal.text.splitlines() if text.strip().startswith(start)]
    assert lines, f"no line '{start}' in:\n{proposal.text}"
    return lines[0]


def unused_field_comment(proposal: Proposal, field: str) -> str:
    """Return the line of a field that is commented out, or the lines above if the comment did not fit."""
    lines = [text.strip() for text in proposal.text.splitlines()]
    index = next(index for index, text in enumerate(lines) if text.startswith(f"# {field}:"))
    if "#" in lines[index][1:]:
        return lines[index]
    start = index
    while (
        start and lines[start - 1].startswith("# ") and not re.match(r"# [\w .-]+:( \S+)?(\s+#.*)?$", lines[start - 1])
    ):
        start -= 1
    return " ".join(text.removeprefix("# ") for text in lines[start:index])


def market_tables(market: Path) -> tuple[str, str, str, str]:
    """Return the paths of a market's events, items, users and impressions."""
    names = ("events", "items", "users", "impressions")
    events, items, users, impressions = (str(market / f"{name}.parquet") for name in names)
    return events, items, users, impressions
