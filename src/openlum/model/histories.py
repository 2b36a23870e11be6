"""The histories of one user or many users, in the forms that callers pass."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
import torch
from torch import Tensor

from openlum.arguments.frames import is_frame, rows, to_arrow
from openlum.arguments.values import is_missing, shown
from openlum.data.canonical import canonical_text
from openlum.errors import InputError

T = TypeVar("T")
USER = "user"
"""The column of the user in a frame of events."""


@dataclass(frozen=True)
class Users:
    """The histories of users, and the form in which the caller gets results."""

    histories: list[Any]
    """One history per user."""
    ids: list[Any] | None = None
    """The users' ids, if the caller gave them; results are then a mapping from id to result."""
    single: bool = False
    """Whether the caller gave one history, and gets one result."""

    @classmethod
    def of(cls, histories: Any) -> "Users":
        """Return the users of a caller's argument.

        Args:
            histories: one history (a list of events), a list of histories, a mapping from user to history, or a frame of events
                with a column `user`.

        Raises:
            InputError: the argument has none of these forms.
        """
        if is_frame(histories):
            histories = frame_histories(histories)
        if isinstance(histories, Mapping):
            return cls(list(histories.values()), list(histories))
        is_list = isinstance(histories, Sequence) and not isinstance(histories, str | bytes)
        if is_list and len(histories) and _is_history(histories[0]):
            return cls(list(histories))
        return cls([histories], single=True)

    def per_user(self, name: str, value: Any, is_common: Callable[[Any], bool]) -> list[Any]:
        """Return the value of each user.

        Args:
            name: of the argument, for messages.
            value: one for all users, or a list with one per user.
            is_common: returns whether a value is one for all users.

        Raises:
            InputError: the list has another length than the histories.
        """
        if self.single or is_common(value):
            return [value] * len(self.histories)
        if len(value) != len(self.histories):
            raise InputError(
                f"{name}: expected one for all users, or one for each of the {len(self.histories)} histories, found {len(value)}"
            )
        return list(value)

    def results(self, values: list[T]) -> Any:
        """Return the users' results in the caller's form: one result, a list, or a mapping from id to result."""
        if self.single:
            return values[0]
        return values if self.ids is None else dict(zip(self.ids, values, strict=True))

    def stacked(self, values: list[Tensor]) -> Any:
        """Return the same; a list of tensors of one shape is one tensor."""
        if self.single or self.ids is not None or len({value.shape for value in values}) != 1:
            return self.results(values)
        return torch.stack(values)

    @contextmanager
    def named_in_errors(self, index: int) -> Iterator[None]:
        """Add the user to the message of an `InputError`."""
        try:
            yield
        except InputError as error:
            if self.single:
                raise
            user = f"history {index}" if self.ids is None else f"user {shown(self.ids[index])}"
            raise InputError(f"{user}: {error}") from None


def frame_histories(frame: Any) -> dict[str, list[dict[str, Any]]]:
    """Return the histories in a frame of events: user to events, ordered by time; users in the order of their first event.

    Args:
        frame: events with the columns `user`, `item`, and optionally `time` and condition fields. Missing values are left out.

    Raises:
        InputError: the frame has no column `user` or `item`, or a row has no user.
    """
    table = to_arrow("histories", frame)
    for column in (USER, "item"):
        if column not in table.column_names:
            raise InputError(
                f"histories: no column '{column}'; the frame has the columns {', '.join(table.column_names)}; "
                "a list of one user's events is frame.to_dict('records')"
            )
    if "time" in table.column_names:
        times = table.select(["time"]).append_column("row", pa.array(range(len(table))))
        order = times.sort_by([("time", "ascending"), ("row", "ascending")])
        table = table.take(order["row"])
    histories: dict[str, list[dict[str, Any]]] = {}
    for index, row in enumerate(rows(table)):
        user = canonical_text(row.pop(USER))
        if user is None:
            raise InputError(f"histories: row {index} has no user")
        histories.setdefault(user, []).append({name: value for name, value in row.items() if not is_missing(value)})
    return histories


def _is_history(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
