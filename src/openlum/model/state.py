"""The state of histories that the network has encoded. Questions need nothing else of a history.

Shapes: T tokens of B users end to end, L = T / 2 events, D width.
"""

from dataclasses import dataclass

from torch import Tensor

from openlum.model.blocks.block import BlockState


@dataclass
class EncoderState:
    """What the user encoder keeps of histories."""

    blocks: list[BlockState]
    """The state of each block."""
    offsets: Tensor
    """(B + 1,) int64 on the CPU: index of each user's first token, then T."""


PointerState = dict[str, Tensor]
"""What the pointer keeps of events: `item`, (L,) int64 ids, `key`, (L, K), and `value`, (L, W)."""


@dataclass
class HistoryState:
    """What the network keeps of histories."""

    encoder: EncoderState
    """The state of the user encoder."""
    last_event: Tensor
    """(L, D): the vector that is added to the token of a question if this event is the last event in its prefix."""
    pointer: PointerState
    """What the pointer keeps of the events."""

    @property
    def offsets(self) -> Tensor:
        """(B + 1,) int64 on the CPU: index of each user's first event, then L."""
        return self.encoder.offsets // 2
