"""From simulated slates to the rows of a log.

Shapes: m users who have a session in a step, S slots of a slate, R rows.
"""

from typing import Any

import numpy as np
import pyarrow as pa

Rows = dict[str, np.ndarray]
"""Column name to values (R,). Every log has `user` (index in the chunk), `time`, `item`, `probability` and `label`."""


def slate_rows(is_shown: np.ndarray, **columns: np.ndarray) -> Rows:
    """Return one row for each shown slot (m, S), in order; a column (m,) is repeated for the slots of its slate."""
    slate, slot = np.nonzero(is_shown)
    return {name: values[slate, slot] if values.ndim == 2 else values[slate] for name, values in columns.items()}


def concatenate(parts: list[Rows]) -> Rows:
    """Return the rows of all parts, ordered by user and time; the slots of a slate keep their order."""
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((rows["time"], rows["user"]))
    return {name: values[order] for name, values in rows.items()}


def log_tables(
    rows: Rows, first_user: int, condition: dict[str, Any], context: dict[str, Any], feedback: pa.Array | None = None
) -> dict[str, pa.Table]:
    """Return events, impressions and true probabilities of one chunk of users; row and request ids begin at 0.

    A request is all rows of one user and time.

    Args:
        rows: the rows, ordered by user and time.
        first_user: index of the chunk's first user.
        condition: columns (R,) of events and impressions.
        context: further columns (R,) of impressions.
        feedback: the user's feedback (R,). Without it, only rows with label 1 are events.
    """
    is_first = np.ones(len(rows["user"]), bool)
    is_first[1:] = (np.diff(rows["user"]) != 0) | (np.diff(rows["time"]) != 0)
    row = np.arange(len(is_first))
    common: dict[str, Any] = {
        "user_id": rows["user"] + first_user + 1,
        "item_id": rows["item"] + 1,
        "time": pa.array(rows["time"], pa.timestamp("s")),
    } | condition
    is_event = rows["label"] == 1 if feedback is None else np.ones(len(row), bool)
    events = pa.table(common | ({} if feedback is None else {"feedback": feedback})).filter(pa.array(is_event))
    request = {"row": row, "request_id": np.cumsum(is_first) - 1}
    return {
        "events": events,
        "impressions": pa.table(request | common | context | {"label": rows["label"].astype(np.int8)}),
        "truth": pa.table({"row": row, "probability": rows["probability"]}),
    }
