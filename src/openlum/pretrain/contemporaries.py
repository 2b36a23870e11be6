"""Events of other users in the same days: what a user could have taken instead, where a log has no feedback.

A log of purchases or reviews says what users took and nothing of what they left. An item that others took in those days is what
they could have taken: it was there, and as popular as those items are, so neither its age nor its popularity tells it from the
one that was taken.

Shapes: N events of all users, M of them that may be drawn, P events, K draws for each.
"""

import numpy as np
import torch
from torch import Tensor

from openlum.data.dataset import Sequences
from openlum.model import History, ModelConfig, Questions
from openlum.model.batch import erase, to_tensors

NEAR = 200
"""Draws are from so many of the events before and as many after in time."""
MOST = 1 << 20
"""Of more events than this an even sample is kept, which draws the same items as often."""


class Contemporaries:
    """Draws events from those that lie near in time.

    Args:
        sequences: of the dataset.
        events: (M,) indices of the events that may be drawn.
    """

    def __init__(self, sequences: Sequences, events: np.ndarray) -> None:
        self.sequences = sequences
        events = events[sequences.item[events] > 0]
        if len(events) > MOST:
            events = events[np.linspace(0, len(events) - 1, MOST).astype(np.int64)]
        self.events = events[np.argsort(sequences.time[events], kind="stable")]
        self.time = sequences.time[self.events]

    def questions(
        self,
        history: History,
        positions: Tensor,
        count: int,
        config: ModelConfig,
        generator: torch.Generator | None = None,
    ) -> tuple[Questions, Tensor]:
        """Questions about the items of events, and after each the same about items of contemporaries.

        A contemporary's question has its own event's condition (its scenario, its query), for the condition would otherwise tell
        them apart, and the time of the event that it stands beside.

        Args:
            history: that holds the events.
            positions: (P,) ascending indices of events in it.
            count: K.
            config: of the model that is asked.
            generator: of the draws; torch's global one by default.

        Returns:
            Q questions, at most P (1 + K), and (Q,) int64: 1 where the item was taken.
        """
        assert history.event is not None
        assert history.before is not None
        own, sequences = history.event[positions].numpy(), self.sequences  # (P,)
        event = np.concatenate([own[:, None], self._draw(own, count, generator)], 1)  # (P, 1 + K)
        kept = event >= 0
        place = positions.repeat_interleave(1 + count)[torch.from_numpy(kept.ravel())]
        taken = torch.from_numpy((event == own[:, None])[kept])
        event = event[kept]  # (Q,)
        condition = to_tensors({name: values[event] for name, values in sequences.condition.items()})
        condition |= {name: history.condition[name][place] for name in config.time_fields}
        unknown = {spec.name: torch.ones(len(event), dtype=torch.bool) for spec in config.condition if spec.feedback}
        user = torch.searchsorted(history.offsets, place, right=True) - 1
        item = torch.from_numpy(sequences.item[event])
        condition = erase(condition, config.condition, unknown)
        return Questions(condition, user, history.before[place], item), taken.long()

    def _draw(self, event: np.ndarray, count: int, generator: torch.Generator | None) -> np.ndarray:
        """Of each event (P,), `count` others of about its time: (P, K) indices, -1 where one is of the same user or item."""
        if not len(self.events):
            return np.full((len(event), count), -1)
        at = np.searchsorted(self.time, self.sequences.time[event])
        away = torch.randint(-NEAR, NEAR + 1, (len(event), count), generator=generator).numpy()
        drawn = self.events[(at[:, None] + away).clip(0, len(self.events) - 1)]  # (P, K)
        item, user = self.sequences.item, np.searchsorted(self.sequences.offsets, drawn, "right")
        same = user == np.searchsorted(self.sequences.offsets, event, "right")[:, None]
        return np.where(same | (item[drawn] == item[event][:, None]), -1, drawn)
