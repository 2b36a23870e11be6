"""Histories encoded in batches, for questions that are asked as of moments.

A moment is a user and a prefix: the number of the user's events that its questions may see.

Shapes: P moments, p moments of a batch, B windows of histories in a batch.
"""

from collections.abc import Iterator

import numpy as np
import torch

from openlum.data.packing import batches, question_windows
from openlum.data.sequences import Sequences
from openlum.model import History, LargeUserModel
from openlum.model.batch import Moments
from openlum.model.state import HistoryState


@torch.inference_mode()
def encoded_moments(
    model: LargeUserModel,
    sequences: Sequences,
    user: np.ndarray,
    prefix: np.ndarray,
    questions: int,
    batch_events: int,
) -> Iterator[tuple[np.ndarray, HistoryState, Moments]]:
    """Yield the states of the histories before moments, in batches. Moments with the same window share its state.

    Args:
        model: that answers.
        sequences: of the users.
        user: (P,) user ids.
        prefix: (P,) numbers of the users' events before the moments.
        questions: number of questions that are asked as of each moment.
        batch_events: events and questions in a batch.

    Yields:
        Indices of moments, (p,), the state of their B windows, and the moments in these windows, on the CPU.
    """
    windows, order, sizes = question_windows(
        sequences, user, prefix, model.config.settings.max_events, max(2 * batch_events // questions, 1)
    )
    first_window = first = 0
    # A question costs about as much as a token, which is half an event.
    for batch in batches(windows, batch_events, extra=sizes * questions // 2):
        batch_sizes = sizes[first_window : first_window + len(batch)]  # (B,) moments of each window
        index = order[first : first + batch_sizes.sum()]
        first_window, first = first_window + len(batch), first + int(batch_sizes.sum())
        state = model.encode_history(History.gather(sequences, batch).to(model.device))
        window = torch.from_numpy(np.repeat(np.arange(len(batch)), batch_sizes))
        in_window = torch.from_numpy(prefix[index] - np.repeat(batch.start, batch_sizes))
        yield index, state, Moments(window, in_window)
