"""The registry of rankers: built-in rankers, and rankers of other packages (entry points of the group `openlum.rankers`)."""

from typing import Annotated, Any

from pydantic import AfterValidator

from openlum.errors import InputError
from openlum.registry import Registry

RANKERS: Registry[Any] = Registry(
    "ranker",
    "openlum.rankers",
    {
        "dnn": ("openlum.rank.rankers.dnn", "Dnn"),
        "dcnv2": ("openlum.rank.rankers.dcnv2", "DcnV2"),
        "din": ("openlum.rank.rankers.din", "Din"),
        "dien": ("openlum.rank.rankers.dien", "Dien"),
        "sim": ("openlum.rank.rankers.sim", "Sim"),
        "lightgbm": ("openlum.rank.rankers.lightgbm", "Trees"),
        "sasrec": ("openlum.rank.rankers.generative", "SasRec"),
        "hstu": ("openlum.rank.rankers.generative", "Hstu"),
    },
)
"""All rankers, by the name that `rank.rankers` has in a settings file."""


def is_end_to_end(name: str) -> bool:
    """Return whether a name is the name of a ranker that reads whole histories end to end."""
    return name in RANKERS.names() and bool(RANKERS.load(name).end_to_end)


def _check_name(name: Any) -> str:
    try:
        return RANKERS.check(name)
    except InputError as error:
        raise ValueError(str(error)) from None


RankerName = Annotated[str, AfterValidator(_check_name)]
"""The name of a ranker in a settings file."""
