"""Public data sets, one module a publisher: `write(name, out, source, partial)` writes the log, its tables and the schema.

A module has `PUBLISHERS`, name of a data set to `Publisher`, and `write`. It reads the publisher's original files with
`source.py` and `tables.py` in bounded memory. Its docstring says what counts as an event, a condition, an impression and a
label.
"""

import difflib
import importlib
from pathlib import Path

from openlum.errors import InputError
from openlum.sources.public.source import Publisher

ANY = "CATEGORY"
"""The end of a name that stands for any word."""

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
"""Name on the command line to the module that writes the data set."""


def write(
    name: str, out: Path, source: Path | None = None, partial: bool = False, negatives: int | None = None
) -> Path:
    """Write the public data set `name` to the directory `out`; returns its schema file.

    Args:
        name: a key of `DATASETS`, with a category in the place of `CATEGORY`.
        out: the directory to write; it appears whole or not at all.
        source: a directory with the publisher's files; by default they are downloaded.
        partial: a part of the data set is accepted: fewer rows than were published, or fewer files.
        negatives: sampled to each review of Amazon; other data sets have impressions of their own, or none.

    Raises:
        InputError: there is no such data set, or its files are missing, broken or not whole; or it takes no negatives.
    """
    module = importlib.import_module(module_of(name))
    if negatives is not None and not takes_negatives(name):
        raise InputError(f"'{name}': negatives are sampled for the data sets of Amazon only; leave --negatives out")
    more = {} if negatives is None else {"negatives": negatives}
    schema: Path = module.write(name, out, source, partial, **more)
    return schema


def takes_negatives(name: str) -> bool:
    """Whether negatives can be sampled to a data set's rows: those of Amazon are nothing but reviews."""
    return name.startswith("amazon-")


def publishers() -> dict[str, Publisher]:
    """The publisher of every data set, by the names in `DATASETS`."""
    return {name: importlib.import_module(module).PUBLISHERS[name] for name, module in DATASETS.items()}


def module_of(name: str) -> str:
    """The module that writes a public data set.

    Raises:
        InputError: there is no such data set.
    """
    for known, module in DATASETS.items():
        start, any_word, _ = known.partition(ANY)
        if name == known or (any_word and name.startswith(start) and name != start):
            return module
    near = difflib.get_close_matches(name, DATASETS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(DATASETS)}"
    raise InputError(f"no public data set '{name}'; {hint}")
