"""The state of histories that the model has encoded.

Shapes: T tokens of B users end to end, L = T / 2 events, D width, H heads, d = D / H.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class UserState:
    """The keys and values of histories in every layer: everything that questions need of a history, computed once."""

    keys: list[Tensor]
    """One tensor per layer: (T, H, d)."""
    values: list[Tensor]
    """One tensor per layer: (T, H, d)."""
    offsets: Tensor
    """(B + 1,) int64 on the CPU: index of each user's first token, then T."""
    last_event: Tensor | None = None
    """(L, D): the vector that is added to the token of a question if this event is the last event in its prefix. Only the
    Large User Model uses it."""
