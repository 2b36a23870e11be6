"""Time-matched negatives: items that other users took in the same days, for logs without feedback.

A log of purchases or reviews contains the items that users took, but not the items that they did not choose. An item that other
users took in the same days is an item that the user could have taken: it was available, and it is drawn in proportion to its
popularity in these days. Learning to distinguish the positive item from it is noise-contrastive estimation (Gutmann and
Hyvarinen, AISTATS 2010): the log-odds compare the item's probability for this user with its share of the events of these days.
So the log-odds depend neither on the age nor on the popularity of an item.

Shapes: N events of all users, M of them in the pool of negatives, P events, K negatives for each, Q questions.
"""

import numpy as np
import torch
from torch import Tensor

from openlum.data.sequences import Sequences
from openlum.model import History, Questions

EVENTS_PER_SIDE = 200
"""A negative is drawn from this number of events before and after the event in time."""
MAX_POOL_EVENTS = 1 << 20
"""A larger pool is reduced to an evenly spaced sample of this size."""


class TimeMatchedNegatives:
    """A sampler of events that are near in time.

    Args:
        sequences: with the events.
        events: (M,) indices of the events in the pool.
    """

    def __init__(self, sequences: Sequences, events: np.ndarray) -> None:
        self.sequences = sequences
        if len(events) > MAX_POOL_EVENTS:
            events = events[np.linspace(0, len(events) - 1, MAX_POOL_EVENTS).astype(np.int64)]
        # Events of equal time are shuffled, because in user order the negatives would depend on the user.
        events = np.random.default_rng(0).permutation(events[sequences.item[events] > 0])
        self.events = events[np.argsort(sequences.time[events], kind="stable")]
        self.time = sequences.time[self.events]

    def questions(
        self, history: History, positions: Tensor, count: int, generator: torch.Generator | None = None
    ) -> tuple[Questions, Tensor]:
        """Return questions about the items of events, each followed by the same questions about the items of negatives.

        Events without a negative of another user are left out.

        Args:
            history: with the events.
            positions: (P,) ascending indices of events in the history.
            count: K.
            generator: generator of the draws; by default, torch's global generator.

        Returns:
            Q questions, at most P (1 + K), and labels, (Q,) int64: 1 for the item that the user took, 0 for a negative.
        """
        assert history.event_index is not None
        assert history.prefix is not None
        positive = history.event_index[positions].numpy()[:, None]  # (P, 1)
        event = np.concatenate([positive, self._draw(positive, count, generator)], 1)  # (P, 1 + K)
        valid = (event >= 0) & (event[:, 1:] >= 0).any(1, keepdims=True)
        position = positions.repeat_interleave(1 + count)[torch.from_numpy(valid.ravel())]  # (Q,)
        item = torch.from_numpy(self.sequences.item[event[valid]].astype(np.int64))
        condition = {name: field[position] for name, field in history.condition.items()}
        labels = torch.from_numpy((event == positive)[valid]).long()
        return Questions(condition, history.user_index(position), history.prefix[position], item), labels

    def _draw(self, event: np.ndarray, count: int, generator: torch.Generator | None) -> np.ndarray:
        """Return, for events (P, 1), `count` events near in time, (P, K), with -1 for an event of the same user."""
        width = min(2 * EVENTS_PER_SIDE + 1, len(self.events))
        if not width:
            return np.full((len(event), count), -1)
        uniform = torch.rand(2, len(event), count, generator=generator, dtype=torch.float64).numpy()
        first, end = (np.searchsorted(self.time, self.sequences.time[event], side) for side in ("left", "right"))
        center = first + (uniform[0] * (end - first)).astype(np.int64)  # (P, K): a random event of the same time
        begin = (center - EVENTS_PER_SIDE).clip(0, len(self.events) - width)
        draws = self.events[begin + (uniform[1] * width).astype(np.int64)]
        return np.where(self._user(draws) == self._user(event), -1, draws)

    def _user(self, event: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.sequences.offsets, event, "right")
