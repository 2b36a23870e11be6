"""The column of an impression log that groups the items which were shown together."""

from collections.abc import Mapping

import numpy as np

from openlum.schema_wizard.circumstances import value_codes
from openlum.schema_wizard.name_hints import REQUEST, rank_among
from openlum.schema_wizard.roles import Role, find_profile, seconds_since_1970, time_unit
from openlum.schema_wizard.table_profile import TableProfile

MIN_ROWS = 1.5
"""A request has at least this many rows on average."""
PURE = 0.98
"""At least this fraction of the rows agrees with the first row of their request."""
MAX_SECONDS = 3600
"""Rows of a request that is called so lie at most this far apart; those of a column with another name have one time."""


def request_column(impressions: TableProfile, roles: Mapping[str, Role]) -> str | None:
    """Return the column of the request: each of its values belongs to one user and one moment, and to several items.

    Args:
        impressions: the impression log.
        roles: its other columns, with `user`, `item` and `time` among them.
    """
    user, item, time = (find_profile(impressions.columns, roles[key].column) for key in ("user", "item", "time"))
    if user is None or item is None or time is None or time_unit(time) is None:
        return None
    rows, seconds = impressions.sample.table, seconds_since_1970(time)
    if len(seconds) != len(rows):
        return None
    users, items = value_codes(rows[user.name]), value_codes(rows[item.name])
    fitting: list[tuple[int, str]] = []
    for profile in impressions.columns_except(*(role.column for role in roles.values())):
        if profile.kind not in ("integer", "text") or profile.missing or profile.distinct * MIN_ROWS > profile.rows:
            continue
        requests = value_codes(rows[profile.name])
        _, first, group = np.unique(requests, return_index=True, return_inverse=True)
        one_user = float((users[first][group] == users).mean())
        rank = rank_among(profile.name, REQUEST)
        apart = np.abs(seconds[first][group] - seconds)
        one_moment = float((apart <= (MAX_SECONDS if rank is not None else 0)).mean())
        different_items = len(np.unique(np.stack([group, items]), axis=1).T) / len(rows)
        if min(one_user, one_moment) >= PURE and different_items >= 1 - (1 - PURE) * 5 and len(first) > 1:
            fitting.append((len(REQUEST) if rank is None else rank, profile.name))
    return min(fitting)[1] if fitting else None
