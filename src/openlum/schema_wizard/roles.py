"""Which column is the user, the item, the time, the label: guessed from names first, then from what they hold."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from openlum.schema_wizard.facts import Facts
from openlum.schema_wizard.names import ITEM, LABEL, ROW, TIME, TITLE, USER, has, rank, reaction, resembles

UNKNOWN = "???"
YEAR_1990, YEAR_2100 = 631_152_000, 4_102_444_800
UNITS = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}
TIME_WORDS = {"time", "timestamp", "date", "datetime", "ts", "at", "when"}
LATER = {"updated", "modified", "expires", "expired", "ended", "end", "deleted", "birth", "registered", "joined"}
DAY = 86_400


@dataclass(frozen=True)
class Role:
    """The column of a role."""

    column: str | None
    """None where none could be chosen."""
    choices: Sequence[str] = ()
    """If so: what may be meant."""


def key_role(facts: Sequence[Facts], which: Literal["user", "item"], shared: Iterable[str] = ()) -> Role:
    """The user or the item of a log.

    Args:
        facts: of the log's columns that have no role yet.
        which: the role.
        shared: columns that the table of users or items has too, with a row for each value.
    """
    known = USER if which == "user" else ITEM
    possible = [one for one in facts if one.kind in ("integer", "text")]
    both = [one for one in possible if one.name in set(shared)]
    joining = [one for one in both if unit(one) is None]
    alike = [one for one in possible if resembles(one.name, known)]
    found = _best(both, known) or _only(joining) or _best(possible, known) or _only(alike)
    choices = sorted(possible, key=lambda one: -one.distinct)
    return Role(found.name) if found else Role(None, [one.name for one in choices if one.distinct > 1])


def id_role(facts: Sequence[Facts], which: Literal["user", "item"], in_log: str | None) -> Role:
    """The id of the table of users or items; `in_log` is its column in the log."""
    possible = [one for one in facts if one.kind in ("integer", "text")]
    known = USER if which == "user" else ITEM
    of_log = next((one for one in possible if one.name == in_log), None)
    found = of_log or _best(possible, known) or _best(possible, ["id"])
    alike = [one for one in possible if one.unique]
    found = found or _only(alike)
    return Role(found.name) if found else Role(None, [one.name for one in alike or possible])


def time_role(facts: Sequence[Facts]) -> Role:
    """The time of a log. Columns that tell the time of day are preferred."""
    possible = [one for one in facts if unit(one) not in (None, "ns")]
    fine = [one for one in possible if not whole_days(one)]
    for group in (fine, possible):
        named = [one for one in group if has(one.name, TIME_WORDS) and not has(one.name, LATER)]
        if found := _best(group, TIME) or _only(named) or _only(group):
            return Role(found.name)
    maybe = possible or [one for one in facts if has(one.name, TIME_WORDS | {"day"})] or facts
    return Role(None, [one.name for one in maybe])


def label_role(facts: Sequence[Facts]) -> Role:
    """The label of impressions: a column of 0 and 1."""
    possible = [one for one in facts if _binary(one)]
    reactions = [one for one in possible if reaction(one.name)]
    found = _best(possible, LABEL) or _only(reactions) or _only(possible)
    return Role(found.name) if found else Role(None, [one.name for one in possible or facts])


def row_role(facts: Sequence[Facts]) -> str | None:
    """The column of row ids: integers of which none is there twice."""
    found = _best([one for one in facts if one.kind == "integer" and one.unique and not one.missing], ROW)
    return found.name if found else None


def title_role(facts: Sequence[Facts]) -> str | None:
    """The column of titles."""
    found = _best([one for one in facts if one.kind == "text"], TITLE)
    return found.name if found else None


def unit(facts: Facts) -> str | None:
    """The unit of a column of times: `s` for moments, which need none; None if they are no times since 1990."""
    if facts.kind == "moment":
        return "s"
    if facts.kind not in ("integer", "number"):
        return None
    low, high = np.quantile(facts.numbers, [0.02, 0.98])
    fits = (
        name for name, per_second in UNITS.items() if low / per_second >= YEAR_1990 and high / per_second < YEAR_2100
    )
    return next(fits, None)


def seconds(facts: Facts) -> np.ndarray:
    """A column of times as seconds since 1970."""
    return facts.numbers / (1 if facts.kind == "moment" else UNITS[unit(facts) or "s"])


def whole_days(facts: Facts) -> bool:
    """Times are dates: midnight all."""
    return bool((seconds(facts) % DAY == 0).all()) and facts.rows > 1


def by_name(facts: Sequence[Facts]) -> Callable[[str | None], Facts | None]:
    """Look facts up by the column's name."""
    names = {one.name: one for one in facts}
    return lambda name: names.get(name) if name is not None else None


def _binary(facts: Facts) -> bool:
    if facts.kind == "boolean":
        return not facts.as_text
    return facts.kind == "integer" and facts.distinct <= 2 and set(np.unique(facts.numbers)) <= {0.0, 1.0}


def _best(facts: Sequence[Facts], known: Sequence[str]) -> Facts | None:
    """The column with the name that stands first among the known ones."""
    ranked = [(place, one) for one in facts if (place := rank(one.name, known)) is not None]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _only(facts: Sequence[Facts]) -> Facts | None:
    return facts[0] if len(facts) == 1 else None
