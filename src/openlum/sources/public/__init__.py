"""Public data sets, one module per publisher: `write(name, out, source, partial)` writes the log, its tables and the schema.

Each module has `PUBLISHED_DATASETS`, which maps the name of a data set to its `PublishedDataset`, and a function `write`. The
module reads the publisher's original files with `source.py` and `tables.py` in bounded memory. Its docstring defines the events,
the conditions, the impressions and the labels of the data set.
"""

import difflib
import importlib
from pathlib import Path

from openlum.errors import InputError
from openlum.sources.public.source import PublishedDataset

CATEGORY = "CATEGORY"
"""Placeholder at the end of a name for any category."""

DATASETS = {
    "ml-1m": "openlum.sources.public.movielens",
    "ml-20m": "openlum.sources.public.movielens",
    "ml-25m": "openlum.sources.public.movielens",
    "amazon-2014-CATEGORY": "openlum.sources.public.amazon",
    "amazon-2018-CATEGORY": "openlum.sources.public.amazon",
    "amazon-2023-CATEGORY": "openlum.sources.public.amazon",
    "kuairand-pure": "openlum.sources.public.kuairand",
    "kuairand-1k": "openlum.sources.public.kuairand",
    "kuairand-27k": "openlum.sources.public.kuairand",
    "taobao-behavior": "openlum.sources.public.taobao_behavior",
    "taobao-ads": "openlum.sources.public.taobao_ads",
    "retailrocket": "openlum.sources.public.retailrocket",
    "yoochoose": "openlum.sources.public.yoochoose",
    "mind-small": "openlum.sources.public.mind",
    "mind-large": "openlum.sources.public.mind",
}
"""Name of a data set on the command line to the module that writes it."""


def write(
    name: str, out: Path, source: Path | None = None, partial: bool = False, negatives: int | None = None
) -> Path:
    """Write the public data set `name` to the directory `out` and return its schema file.

    Args:
        name: a key of `DATASETS`; a category replaces the placeholder `CATEGORY`.
        out: the directory to write; it is written atomically.
        source: a directory with the publisher's files; by default they are downloaded.
        partial: whether to accept a part of the data set: fewer rows or fewer files than were published.
        negatives: number of negatives to sample for each review of Amazon. Other data sets accept None only.

    Raises:
        InputError: there is no such data set, its files are missing, broken or incomplete, or it takes no negatives.
    """
    module = importlib.import_module(module_of(name))
    if negatives is not None and not takes_negatives(name):
        raise InputError(f"'{name}': negatives are sampled for the data sets of Amazon only; remove --negatives")
    options = {} if negatives is None else {"negatives": negatives}
    schema: Path = module.write(name, out, source, partial, **options)
    return schema


def takes_negatives(name: str) -> bool:
    """Return whether negatives can be sampled for a data set: for Amazon's, which have reviews but no impressions."""
    return name.startswith("amazon-")


def published_datasets() -> dict[str, PublishedDataset]:
    """Return name, web page, archive and size of each data set, by its name in `DATASETS`."""
    return {name: importlib.import_module(module).PUBLISHED_DATASETS[name] for name, module in DATASETS.items()}


def module_of(name: str) -> str:
    """Return the name of the module that writes a public data set.

    Raises:
        InputError: there is no such data set.
    """
    for dataset, module in DATASETS.items():
        prefix, placeholder, _ = dataset.partition(CATEGORY)
        if name == dataset or (placeholder and name.startswith(prefix) and name != prefix):
            return module
    near_misses = difflib.get_close_matches(name, DATASETS, n=1)
    hint = f"did you mean '{near_misses[0]}'?" if near_misses else f"choose from {', '.join(DATASETS)}"
    raise InputError(f"unknown public data set '{name}'; {hint}")
