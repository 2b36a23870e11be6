"""Small logs and their schemas, for tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import yaml

START = 1_600_000_000
"""A Sunday in September 2020."""

EVENTS = {
    "path": "events.parquet",
    "user": "user",
    "item": "item",
    "time": "time",
    "condition": {"rating": {"feedback": True}, "scenario": {}},
}
"""The `events` part of a schema that describes the result of `random_events`."""


def random_events(seed: int, n: int = 200, users: int = 8, items: int = 20, seconds: int = 60) -> dict[str, list[Any]]:
    """Return events at few different seconds, so that many are simultaneous; no two events are equal."""
    rng = np.random.default_rng(seed)
    rows = {
        (f"u{rng.integers(users)}", f"i{rng.integers(items)}", START + int(rng.integers(seconds)), rng.integers(1, 6))
        for _ in range(n)
    }
    order = rng.permutation(len(rows))
    user, item, time, rating = zip(*[sorted(rows)[index] for index in order], strict=True)
    scenario = rng.choice(["home", "search", "cart"], len(rows))
    columns = {"user": user, "item": item, "time": time, "rating": map(int, rating), "scenario": scenario.tolist()}
    return {name: list(values) for name, values in columns.items()}


def write_log(directory: Path, tables: dict[str, Any], **schema: Any) -> Path:
    """Write tables, NAME to columns, as NAME.parquet (or NAME.csv), and a schema; return the schema's path.

    Unless `schema` says otherwise, any number of rows may be rejected.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, columns in tables.items():
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        if name.endswith(".csv"):
            csv.write_csv(table, directory / name)
        else:
            pq.write_table(table, directory / f"{name}.parquet")
    path = directory / "schema.yaml"
    path.write_text(
        yaml.safe_dump({"name": "test", "events": EVENTS, "max_rejected": "100%"} | schema, sort_keys=False)
    )
    return path
