"""Public data sets, one module each: `write(out, source)` writes the log, its tables and the schema."""

import importlib
from pathlib import Path

from openlum.errors import InputError

DATASETS = {"ml-1m": "openlum.data.public.ml_1m"}
"""Name on the command line to the module that writes the data set."""


def write(name: str, out: Path, source: Path | None = None) -> Path:
    """Write the public data set `name` to the directory `out`; returns its schema file.

    Args:
        name: a key of `DATASETS`.
        out: the directory to write.
        source: a directory with the publisher's files; by default they are downloaded.
    """
    if name not in DATASETS:
        raise InputError(f"no public data set '{name}'; there are: {', '.join(DATASETS)}")
    schema: Path = importlib.import_module(DATASETS[name]).write(out, source)
    return schema
