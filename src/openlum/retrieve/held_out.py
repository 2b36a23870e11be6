"""The one protocol of retrieval: one event of every user is held out and ranked among all items.

Shapes: n users, V items.
"""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from openlum.data.dataset import Dataset, DatasetInfo
from openlum.data.packing import Protocol, Spans, eligible_events, kept_from_training
from openlum.errors import InputError
from openlum.evaluation.ranked_lists import exclude, rank_of_target
from openlum.model.fields import known_ids


def held_out_words(info: DatasetInfo, split: Literal["valid", "test"]) -> str:
    """What is held out of whose history, and what it is ranked among."""
    last = {"test": "the last", "valid": "the last but one"}[split]
    which = "event" if info.data_schema.holdout is None else "of these"
    who = f"of each user with at least three {eligible_events(info)}, {last} {which}"
    return f"{who}; the events before it are the history, and all items are ranked"


class HeldOut:
    """The held-out event of every user who has one.

    Args:
        dataset: from `lum prepare`.
        split: `test`, each user's last event that may be held out, or `valid`, the one before it.
        items: V of the model that is judged; later items are unknown to it.
        exclude_seen: whether items of the user's history are left out of the ranking (the held-out item never is).

    Raises:
        InputError: no user has a held-out event.
    """

    def __init__(self, dataset: Dataset, split: Literal["valid", "test"], items: int, exclude_seen: bool) -> None:
        self.info, self.sequences, self.split = dataset.info, dataset.sequences, split
        self.items, self.exclude_seen = items, exclude_seen
        sequences = self.sequences
        cut = sequences.test_at if split == "test" else sequences.valid_at
        users = np.flatnonzero(cut < np.diff(sequences.offsets))
        target = sequences.item[sequences.offsets[users] + cut[users]]
        self.users = users[target > 0]
        """(n,) places in the sequences."""
        self.cut = cut[self.users]
        """(n,) index of the held-out event; what lies before it is the history."""
        self.target = target[target > 0]
        """(n,) the item to be found."""
        if not len(self.users):
            raise InputError(
                f"{dataset.path}: no user has three {eligible_events(dataset.info)}, so none can be held out for retrieval; "
                "check 'holdout' in the schema, or leave retrieval out ('retrieve: null' in an experiment file)"
            )

    def turns(self, batch_users: int) -> list[np.ndarray]:
        """Indices of users, about `batch_users` at a time."""
        return np.array_split(np.arange(len(self.users)), -(-len(self.users) // batch_users))

    def rank(self, turn: np.ndarray, scores: Tensor) -> np.ndarray:
        """Rank of the held-out item of the users of a turn, 1 is best, from scores (n, V), which are changed."""
        # An item that came after training is item 0, which scores minus infinity: it is behind all others.
        target = known_ids(torch.from_numpy(self.target[turn]), self.items)
        scores[:, 0] = -torch.inf
        if self.exclude_seen:
            cut = self.cut[turn]
            seen, offsets = Spans(self.users[turn], np.zeros_like(cut), cut).events(self.sequences)
            rows = np.repeat(np.arange(len(turn)), np.diff(offsets))
            items = known_ids(torch.from_numpy(self.sequences.item[seen]), self.items).numpy()
            fresh = items != target.numpy()[rows]  # an item bought again is still to be found
            exclude(scores, rows[fresh], items[fresh])
        return rank_of_target(scores, target.to(scores.device)).cpu().numpy()

    def protocol(self, trained: Protocol) -> dict[str, Any]:
        """In words and numbers, for reports; `trained` is what was kept from the training of the model that is judged."""
        return {
            "users": len(self.users),
            "candidates": self.items - 1,
            "unknown_held_out": int((self.target >= self.items).sum()),
            "held_out": held_out_words(self.info, self.split),
            "kept_from_training": kept_from_training(self.info, trained),
            "seen_items": "left out" if self.exclude_seen else "kept",
            "ties": "counted against",
        }
