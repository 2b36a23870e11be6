"""Questions about impressions, for logs without feedback: does the user take the item that is shown?

A log of clicks or purchases has only the items that users took. Its impression log has also the items that they saw and did not
take. So its labels are the feedback that the log lacks, and the ranker is asked for the same labels later.

Shapes: N events of the users, I impressions, P events, Q questions.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from openlum.data.dataset import Dataset
from openlum.data.sequences import Impressions, Sequences
from openlum.model import History, Questions
from openlum.model.batch import to_tensors
from openlum.model.settings import TAKEN, feedback_targets

MOST = 0.5
"""Impressions are not learned if at least this share of the events of the validation period is on new items."""


class ShownItems:
    """Impressions by the event that comes next: the user's first event at or after the second of the impression.

    An impression is used only together with this event. So an impression after the last training event of its user is never
    trained on, and a question sees only what happened before its impression.

    Args:
        sequences: of the users.
        impressions: of these users, with labels. Those of unknown items, and those that no event follows, are left out.
    """

    def __init__(self, sequences: Sequences, impressions: Impressions) -> None:
        user_index = sequences.user_index(impressions.user)  # (I,)
        event = sequences.offsets[user_index] + impressions.prefix
        is_used = (user_index >= 0) & (impressions.prefix >= 0) & (impressions.item > 0)
        is_used &= event < sequences.offsets[user_index + 1]
        rows = np.flatnonzero(is_used)[np.argsort(event[is_used], kind="stable")]
        self.impressions = impressions.take(rows)
        self.begin = np.searchsorted(event[rows], np.arange(len(sequences.item) + 1))
        """(N + 1,) first impression that each event is the next event of."""

    def questions(
        self, history: History, positions: Tensor, count: int, generator: torch.Generator | None = None
    ) -> tuple[Questions, Tensor]:
        """Return questions about a random sample of the impressions that come before events.

        Args:
            history: with the events.
            positions: (P,) ascending indices of events in the history.
            count: largest number of questions for an event, on average.
            generator: generator of the draws; by default, torch's global generator.

        Returns:
            Q questions, about P `count` at most, and the labels of their impressions, (Q,) int64.
        """
        assert history.event_index is not None
        event = history.event_index[positions].numpy()
        rows_per_event = self.begin[event + 1] - self.begin[event]  # (P,)
        first = np.cumsum(rows_per_event) - rows_per_event
        row = np.repeat(self.begin[event] - first, rows_per_event) + np.arange(rows_per_event.sum())
        share = count * len(event) / max(len(row), 1)
        is_drawn = (torch.rand(len(row), generator=generator) < share).numpy()
        position = positions.repeat_interleave(torch.from_numpy(rows_per_event))[torch.from_numpy(is_drawn)]  # (Q,)
        impressions = self.impressions.take(row[is_drawn])
        user_index = history.user_index(position)
        prefix, item = position - history.offsets[user_index], torch.from_numpy(impressions.item.astype(np.int64))
        labels = torch.from_numpy(impressions.label).long()
        return Questions(to_tensors(impressions.condition), user_index, prefix, item), labels


def moved(impressions: Impressions, sequences: Sequences, begin: np.ndarray) -> Impressions:
    """Return the impressions of the users of copied spans, with prefixes that count the events of the copy.

    Args:
        impressions: of any users.
        sequences: the copy, from `copy_spans`.
        begin: (U,) index of the first copied event in the events of each user.
    """
    index = sequences.user_index(impressions.user)
    impressions, index = impressions.take(index >= 0), index[index >= 0]
    return replace(impressions, prefix=impressions.prefix - begin[index])


def has_shown_items(dataset: Dataset) -> bool:
    """Return whether a model learns from the impressions of a dataset.

    The log has no feedback fields, and its impressions have both labels. And most items stay: where most items are new, as in
    news, the labels of impressions teach how popular single items were, which says nothing about later items.
    """
    if TAKEN not in feedback_targets(dataset.specs("condition")) or dataset.info.data_schema.impressions is None:
        return False
    return len(dataset.labels("train")) > 1 and share_of_new_items(dataset) < MOST


def share_of_new_items(dataset: Dataset) -> float:
    """Return the share of the events of the validation period whose items have no earlier events of the training period."""
    items, info = len(dataset.vocabulary("items")), dataset.info
    is_trained, later = np.zeros(items, bool), np.zeros(items, np.int64)
    for sequences in dataset.groups_of_sequences():
        is_trained[sequences.item[sequences.time < info.valid_time]] = True
        is_later = (sequences.time >= info.valid_time) & (sequences.time < info.test_time)
        later += np.bincount(sequences.item[is_later], minlength=items)
        del sequences  # leaves the memory before the next group is read
    return float(later[~is_trained].sum() / max(later.sum(), 1))
