"""The protocol of retrieval: one event of every user is held out, and its item is ranked among all items.

Shapes: n users, V items.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from openlum.data.dataset import Dataset, DatasetInfo
from openlum.data.packing import Protocol, Spans, eligible_events, kept_from_training
from openlum.data.sequences import Sequences, event_mask
from openlum.errors import InputError
from openlum.evaluation.retrieval_metrics import exclude_items, rank_of_target
from openlum.model.fields import known_ids

Split = Literal["valid", "test"]
"""A split that has a held-out event of each user."""
MAX_SCORES = 1 << 26
"""A batch of users has at most so many scores of items (256 MB), unless a single user has more."""
REPEATING_SHARE = 0.05
"""From this share of validation events on that repeat an item of the history, items of the history stay in the ranking."""


def held_out_description(info: DatasetInfo, split: Split) -> str:
    """Return a description of the held-out events, the histories and the ranked items."""
    last = {"test": "the last", "valid": "the last but one"}[split]
    event = "event" if info.data_schema.holdout is None else "of these"
    users = f"of each user with at least three {eligible_events(info)}, {last} {event}"
    return f"{users}; the events before it are the history, and all items are ranked"


class HeldOut:
    """The held-out event of every user of a shard who has one.

    Args:
        sequences: of the users.
        split: `test` for each user's last eligible event, `valid` for the second-to-last eligible event.
        items: V of the model that is evaluated; later items are unknown to it.
        exclude_seen: whether items of the user's history are excluded from the ranking (the held-out item never is).
    """

    def __init__(self, sequences: Sequences, split: Split, items: int, exclude_seen: bool) -> None:
        self.sequences, self.items, self.exclude_seen = sequences, items, exclude_seen
        cut = sequences.test_at if split == "test" else sequences.valid_at
        user_index = np.flatnonzero(cut < np.diff(sequences.offsets))
        target = sequences.item[sequences.offsets[user_index] + cut[user_index]]
        self.user_index = user_index[target > 0]
        """(n,) index into `Sequences.user`."""
        self.cut = cut[self.user_index]
        """(n,) index of the held-out event in the user's events; the events before it are the history."""
        self.target = target[target > 0].astype(np.int64)
        """(n,) the held-out item."""

    @property
    def time(self) -> np.ndarray:
        """(n,) times of the held-out events, in seconds since 1970."""
        return self.sequences.time[self.sequences.offsets[self.user_index] + self.cut]

    def history(
        self, batch: np.ndarray, where: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the events before the held-out events of a batch of users, end to end.

        Args:
            batch: indices of users.
            where: only events that have one of these ids in each of these condition fields.

        Returns:
            Index of the user in the batch, item (0 if the model does not know it), and number of later events before the
            held-out event, (L,) each.
        """
        cut = self.cut[batch]
        events, offsets = Spans(self.user_index[batch], np.zeros_like(cut), cut).events(self.sequences)
        rows = np.repeat(np.arange(len(batch)), np.diff(offsets))
        items = known_ids(torch.from_numpy(self.sequences.item[events].astype(np.int64)), self.items).numpy()
        chosen = event_mask(self.sequences, where)[events] if where else np.ones(len(events), bool)
        return rows[chosen], items[chosen], (offsets[1:][rows] - 1 - np.arange(len(rows)))[chosen]

    @property
    def user(self) -> np.ndarray:
        """(n,) user ids."""
        return self.sequences.user[self.user_index]

    def __len__(self) -> int:
        """Return n."""
        return len(self.user_index)

    def batches(self, batch_users: int) -> list[np.ndarray]:
        """Return indices of users in batches of at most `batch_users`, and of fewer users where the catalogue is large."""
        batch_users = max(min(batch_users, MAX_SCORES // self.items), 1)
        return np.array_split(np.arange(len(self)), -(-len(self) // batch_users)) if len(self) else []

    def rank(self, batch: np.ndarray, scores: Tensor) -> np.ndarray:
        """Return the rank of the held-out item for a batch of users, 1 is best. The scores (n, V) are changed in place."""
        # An item that came after training is item 0. Its score is set to minus infinity, so it is behind all other items.
        target = known_ids(torch.from_numpy(self.target[batch]), self.items)
        scores[:, 0] = -torch.inf
        if self.exclude_seen:
            rows, items, _ = self.history(batch)
            is_other = items != target.numpy()[rows]  # the held-out item stays, also if the user had it before
            exclude_items(scores, rows[is_other], items[is_other])
        return rank_of_target(scores, target.to(scores.device)).cpu().numpy()


def all_held_out(dataset: Dataset, split: Split, items: int, exclude_seen: bool) -> HeldOut:
    """Return the held-out events of all users at once. The arguments are those of `HeldOut`.

    Raises:
        InputError: no user has a held-out event.
    """
    held_out = HeldOut(dataset.sequences, split, items, exclude_seen)
    if not len(held_out):
        raise no_held_out_event(dataset)
    return held_out


def excludes_seen(dataset: Dataset, items: int, setting: bool | None) -> bool:
    """Return whether items of the history are excluded from the ranking.

    Args:
        dataset: whose events are held out.
        items: V of the model.
        setting: `retrieve.exclude_seen`; None decides by the validation events: they are excluded if users hardly ever return to
            an item.
    """
    if setting is not None:
        return setting
    events = repeats = 0
    for sequences in dataset.groups_of_sequences():
        held_out = HeldOut(sequences, "valid", items, exclude_seen=True)
        rows, seen, _ = held_out.history(np.arange(len(held_out)))
        events += len(held_out)
        repeats += len(np.unique(rows[seen == held_out.target[rows]]))
    return repeats < REPEATING_SHARE * events


def eligible_ids(dataset: Dataset) -> dict[str, np.ndarray]:
    """Return the condition field and its ids that an event must have to be held out; empty if any event can be held out."""
    holdout = dataset.info.data_schema.holdout
    if holdout is None:
        return {}
    return {holdout.field: dataset.vocabularies("condition")[holdout.field].encode(holdout.values)}


def no_held_out_event(dataset: Dataset) -> InputError:
    """Return the error for a dataset in which no user has a held-out event."""
    return InputError(
        f"{dataset.path}: no user has three {eligible_events(dataset.info)}, so no event can be held out for retrieval; "
        "check 'holdout' in the schema, or leave retrieval out ('retrieve: null' in an experiment file)"
    )


def protocol_description(
    info: DatasetInfo, target: np.ndarray, items: int, exclude_seen: bool, trained: Protocol
) -> dict[str, Any]:
    """Return the protocol of a test in words and numbers, for reports.

    Args:
        info: of the dataset.
        target: (n,) the held-out items of all users.
        items: V of the model that is evaluated.
        exclude_seen: as in `HeldOut`.
        trained: the protocol that the model was trained with.
    """
    return {
        "users": len(target),
        "candidates": items - 1,
        "unknown_held_out": int((target >= items).sum()),
        "held_out": held_out_description(info, "test"),
        "kept_from_training": kept_from_training(info, trained),
        "seen_items": "left out" if exclude_seen else "kept",
        "ties": "counted against",
    }
