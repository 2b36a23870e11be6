"""Logs to make proposals of, and what a proposal says."""

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


def read(proposal: Proposal) -> Schema:
    assert proposal.missing == []
    return parse_settings(yaml.safe_load(proposal.text), Schema, where="proposal")


def write(path: Path, **columns: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return str(path)


def log(path: Path, **columns: Any) -> str:
    """An event log of 600 rows, in which columns may be replaced or added."""
    rng = np.random.default_rng(0)
    common = {
        "user_id": rng.integers(1, 50, ROWS),
        "item_id": rng.integers(1, 80, ROWS),
        "timestamp": 1_700_000_000 + np.sort(rng.integers(0, 10**6, ROWS)),
    }
    return write(path, **(common | columns))


def line(proposal: Proposal, start: str) -> str:
    """The line of the proposal that begins so, whatever its indent."""
    found = [text.strip() for text in proposal.text.splitlines() if text.strip().startswith(start)]
    assert found, f"no line '{start}' in:\n{proposal.text}"
    return found[0]


def off(proposal: Proposal, field: str) -> str:
    """The comment of a field that is commented out, or the line above where it did not fit."""
    lines = [text.strip() for text in proposal.text.splitlines()]
    place = next(place for place, text in enumerate(lines) if text.startswith(f"# {field}:"))
    return lines[place] if "#" in lines[place][1:] else lines[place - 1]


def market_tables(market: Path) -> tuple[str, str, str, str]:
    events, items, users, shown = (str(market / f"{n}.parquet") for n in ("events", "items", "users", "impressions"))
    return events, items, users, shown
