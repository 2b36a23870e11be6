"""Events of other users in the same days: what a user could have taken instead, where a log has no feedback.

A log of purchases or reviews says what users took and nothing of what they left. An item that others took in those days is what
they could have taken: it was there, and as popular as those items are. To tell the one that was taken from it is
noise-contrastive estimation (Gutmann and Hyvarinen, AISTATS 2010): the log-odds become those of the item for this user against
its share of the events of those days, so that neither its age nor its popularity counts.

Shapes: N events of all users, M of them that may be drawn, P events, K draws for each, Q questions.
"""

import numpy as np
import torch
from torch import Tensor

from openlum.data.dataset import Sequences
from openlum.model import History, Questions

NEAR = 200
"""A draw is from so many of the events before and as many after in time."""
MOST = 1 << 20
"""Of more events than this an even sample is kept."""


class TimeMatchedNegatives:
    """Draws events from those that lie near in time.

    Args:
        sequences: of the dataset.
        events: (M,) indices of the events that may be drawn.
    """

    def __init__(self, sequences: Sequences, events: np.ndarray) -> None:
        self.sequences = sequences
        if len(events) > MOST:
            events = events[np.linspace(0, len(events) - 1, MOST).astype(np.int64)]
        # Events of one time stand in no order of users.
        events = np.random.default_rng(0).permutation(events[sequences.item[events] > 0])
        self.events = events[np.argsort(sequences.time[events], kind="stable")]
        self.time = sequences.time[self.events]

    def questions(
        self, history: History, positions: Tensor, count: int, generator: torch.Generator | None = None
    ) -> tuple[Questions, Tensor]:
        """Questions about the items of events, and after each the same about items of time-matched negatives.

        Events that have no contemporary but the user's own are left out.

        Args:
            history: that holds the events.
            positions: (P,) ascending indices of events in it.
            count: K.
            generator: of the draws; torch's global one by default.

        Returns:
            Q questions, at most P (1 + K), and (Q,) int64: 1 where the item was taken.
        """
        assert history.event is not None
        assert history.before is not None
        own = history.event[positions].numpy()[:, None]  # (P, 1)
        event = np.concatenate([own, self._draw(own, count, generator)], 1)  # (P, 1 + K)
        kept = (event >= 0) & (event[:, 1:] >= 0).any(1, keepdims=True)
        place = positions.repeat_interleave(1 + count)[torch.from_numpy(kept.ravel())]  # (Q,)
        item = torch.from_numpy(self.sequences.item[event[kept]])
        condition = {name: field[place] for name, field in history.condition.items()}
        taken = torch.from_numpy((event == own)[kept]).long()
        return Questions(condition, history.user_of(place), history.before[place], item), taken

    def _draw(self, event: np.ndarray, count: int, generator: torch.Generator | None) -> np.ndarray:
        """Of each event (P, 1), `count` of about its time: (P, K) indices, -1 where one is of the same user."""
        width = min(2 * NEAR + 1, len(self.events))
        if not width:
            return np.full((len(event), count), -1)
        chance = torch.rand(2, len(event), count, generator=generator, dtype=torch.float64).numpy()
        first, end = (np.searchsorted(self.time, self.sequences.time[event], side) for side in ("left", "right"))
        at = first + (chance[0] * (end - first)).astype(np.int64)  # (P, K), somewhere among the events of its time
        begin = (at - NEAR).clip(0, len(self.events) - width)
        drawn = self.events[begin + (chance[1] * width).astype(np.int64)]
        return np.where(self._user(drawn) == self._user(event), -1, drawn)

    def _user(self, event: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.sequences.offsets, event, "right")
