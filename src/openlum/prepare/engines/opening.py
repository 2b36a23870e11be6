"""Opens the engine that a schema names, and closes it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openlum.prepare.engines.engine import Engine
from openlum.schema import EngineSettings


@contextmanager
def open_engine(settings: EngineSettings, scratch: Path) -> Iterator[Engine]:
    """Yield the engine that the settings name; close it at the end and remove its scratch directory."""
    scratch.mkdir(parents=True, exist_ok=True)
    engine: Engine
    if settings.name == "spark":
        from openlum.prepare.engines.spark import SparkEngine

        engine = SparkEngine(settings, scratch)
    else:
        from openlum.prepare.engines.duckdb import DuckDBEngine

        engine = DuckDBEngine(settings, scratch)
    try:
        yield engine
    finally:
        engine.close()
        shutil.rmtree(scratch, ignore_errors=True)
