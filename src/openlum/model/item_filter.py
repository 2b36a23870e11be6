"""The setting of which items may be found."""

from typing import Any

from pydantic import Field

from openlum.config import Question, Settings


class ItemFilter(Settings):
    """The items that may be found: those that satisfy all keys."""

    where: Question = {}
    """Categorical field of the item table, also a true or false one, to the value that the item must have, or to a list of values
    of which it must have one. An item without a value of the field is left out."""
    allow: list[Any] | None = Field(None, min_length=1)
    """Raw ids of the only items that may be found."""
    deny: list[Any] = []
    """Raw ids of items that may not be found."""
