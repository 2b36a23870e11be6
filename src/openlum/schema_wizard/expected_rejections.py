"""The rows that `lum prepare` will reject, as far as a sample shows them: how many, why, an example, and what to do."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openlum.schema_wizard.column_profile import ColumnProfile
from openlum.schema_wizard.fields import ProposedField
from openlum.schema_wizard.roles import Role, find_profile, seconds_since_1970
from openlum.schema_wizard.table_profile import TableProfile

DEFAULT = 0.01
"""Default of `max_rejected`."""
SPARE = 1.5
"""The proposed limit is this many times the share of the sample."""


@dataclass(frozen=True)
class Rejection:
    """Rows that will be rejected for one reason."""

    share: float
    """Fraction of the sampled rows."""
    words: str
    """How many rows, why, an example and what to do."""


def proposed_max_rejected(rejections: Sequence[Rejection]) -> str:
    """Return the value of `max_rejected`, with room for more than the sample shows."""
    share = sum(rejection.share for rejection in rejections)
    return "1%" if share < DEFAULT else f"{min(math.ceil(100 * SPARE * share), 100)}%"


def expected_rejections(
    events: TableProfile, roles: Mapping[str, Role], fields: Sequence[ProposedField]
) -> list[Rejection]:
    """Return the expected rejections of an event log, the most frequent first."""
    keys = {key: profile for key, role in roles.items() if (profile := find_profile(events.columns, role.column))}
    used = [proposed.profile for proposed in fields if not proposed.reason_commented_out]
    rejections = [_missing(events, profile, keys) for profile in keys.values() if profile.missing]
    rejections += [
        Rejection(
            profile.invalid,
            f"{_count(events, profile.invalid)} have no valid {profile.name}, such as {profile.invalid_example!r}; write null "
            "instead, or leave the value empty",
        )
        for profile in [*keys.values(), *used]
        if profile.invalid and len(profile.numbers)
    ]
    if "time" in keys and len(keys["time"].numbers):
        seconds = seconds_since_1970(keys["time"])
        late = float((seconds > datetime.now(UTC).timestamp()).sum() / len(events.sample.table))
        example = datetime.fromtimestamp(float(np.clip(seconds.max(), 0, 2e11)), UTC).isoformat(" ", "seconds")
        rejections.append(
            Rejection(
                late,
                f"{_count(events, late)} have a time in the future, such as {example}; check the unit of the time, or set "
                "'latest'",
            )
        )
    if len(keys) == len(roles):
        rejections.append(_duplicates(events, keys, used))
    return sorted((r for r in rejections if r.share > 0.001), key=lambda rejection: -rejection.share)


def _missing(events: TableProfile, profile: ColumnProfile, keys: Mapping[str, ColumnProfile]) -> Rejection:
    values = events.sample.table[profile.name]
    is_missing = pc.is_null(values)
    if pa.types.is_string(values.type):
        is_missing = pc.or_(is_missing, pc.equal(values, "").fill_null(True))
    row = events.sample.table.filter(is_missing).slice(0, 1)
    example = _describe(row, [key.name for key in keys.values() if key.name != profile.name])
    return Rejection(
        profile.missing,
        f"{_count(events, profile.missing)} have no {profile.name}, such as the row with {example}; remove them, or name another "
        "column",
    )


def _duplicates(events: TableProfile, keys: Mapping[str, ColumnProfile], used: Sequence[ColumnProfile]) -> Rejection:
    """Return the rows that repeat an earlier one in every column that the schema names."""
    columns = [profile.name for profile in [*keys.values(), *used] if profile.kind != "list"]
    numbers = [str(index) for index in range(len(columns))]  # Arrow takes a name such as ".0" for a path
    rows = events.sample.table.select(columns).rename_columns(numbers)
    counts = rows.group_by(numbers).aggregate([([], "count_all")])
    most = counts.take([int(np.argmax(counts["count_all"].to_numpy()))]).rename_columns([*columns, "count_all"])
    share = 1 - len(counts) / len(rows)
    example = _describe(most, [profile.name for profile in keys.values()])
    return Rejection(
        share,
        f"{_count(events, share)} repeat another row in every column that this schema names, such as {example}, which occurs "
        f"{most['count_all'][0].as_py():,} times{_why_repeated(events, keys['time'], share)}. The first of equal rows is kept, "
        "the others are rejected as 'duplicate'. If they are different actions, name a column in 'condition' that tells them "
        "apart (a position, an amount, a session), or write times of a finer unit; if they are copies, nothing is lost",
    )


def _why_repeated(events: TableProfile, time: ColumnProfile, share: float) -> str:
    """Return in words how coarse the time is, if rows repeat."""
    seconds = seconds_since_1970(time) if share and len(time.numbers) else np.array([0.5])
    if (seconds % 86_400 == 0).all():
        return "; the time has whole days, so equal actions of one day look the same"
    if (seconds % 60 == 0).all():
        return "; the time has whole minutes, so equal actions within a minute look the same"
    if (seconds % 1 == 0).all():
        return "; the time has whole seconds, so equal actions within a second look the same"
    return ""


def _count(events: TableProfile, share: float) -> str:
    rows = len(events.sample.table)
    return f"{round(share * rows):,} of {rows:,} sampled rows ({share:.1%})"


def _describe(row: pa.Table, columns: Sequence[str]) -> str:
    """Return some values of a table of one row in words."""
    values: dict[str, Any] = dict(zip(row.column_names, (column[0].as_py() for column in row.columns), strict=True))
    return ", ".join(f"{name} {str(values[name])[:40]}" for name in columns)
