"""User vectors as of moments of a dataset, and what the matching head predicts from them about impressions.

Shapes: I impressions, n impressions of a batch, P moments, p moments of a batch, M user vectors, E width of a vector, V items, J
feedback predictions, F fixed questions, S = J + 2 F.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from openlum.data.sequences import Impressions, Sequences
from openlum.model import LargeUserModel, Questions
from openlum.model.batch import to_tensors
from openlum.query.answers import log_odds
from openlum.query.encoding import encoded_moments


@torch.inference_mode()
def user_vectors_at(
    model: LargeUserModel, sequences: Sequences, user: np.ndarray, prefix: np.ndarray, batch_events: int
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield user vectors as of moments, in batches.

    Args:
        model: that answers.
        sequences: of the users.
        user: (P,) user ids.
        prefix: (P,) numbers of the users' events before the moments.
        batch_events: events and moments in a batch.

    Yields:
        Indices of moments, (p,), and their user vectors, (p, M, E), on the device of the model.
    """
    vectors = len(model.network.user_vector_names)
    for index, state, moments in encoded_moments(model, sequences, user, prefix, vectors, batch_events):
        yield index, model.network.user_vectors(state, moments.to(model.device))


@torch.inference_mode()
def matched_scores(
    model: LargeUserModel, sequences: Sequences, impressions: Impressions, items: Tensor, batch_events: int
) -> np.ndarray:
    """Return what the matching head predicts about the impressions' items, (I, S) float32, as `match_impressions` does.

    Args:
        model: that predicts.
        sequences: of the users.
        impressions: of these users. Impressions of one user with the same prefix share their user vectors.
        items: (V, E) embeddings of the dataset's items.
        batch_events: events and moments in a batch.
    """
    values = sum(spec.size - 1 for spec in model.config.feedback_targets)
    predicted = np.empty((len(impressions), values + 2 * len(model.network.fixed_question_names)), np.float32)
    if not len(impressions):
        return predicted
    keys = np.stack([impressions.user.astype(np.int64), impressions.prefix])
    moments, moment_of_row, rows_of_moment = np.unique(keys, axis=1, return_inverse=True, return_counts=True)
    rows_by_moment = np.argsort(moment_of_row, kind="stable")
    first_row = np.cumsum(rows_of_moment) - rows_of_moment  # (P,) in rows_by_moment
    for index, vectors in user_vectors_at(model, sequences, moments[0], moments[1], batch_events):
        counts = rows_of_moment[index]
        place = np.repeat(first_row[index] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        moment = np.repeat(np.arange(len(index)), counts)
        for start in range(0, len(place), batch_events):  # a moment may have any number of rows
            rows = rows_by_moment[place[start : start + batch_events]]
            row_vectors = vectors[torch.from_numpy(moment[start : start + batch_events]).to(model.device)]
            predicted[rows] = match_impressions(model, row_vectors, impressions.take(rows), items)
    return predicted


@torch.inference_mode()
def match_impressions(model: LargeUserModel, vectors: Tensor, impressions: Impressions, items: Tensor) -> np.ndarray:
    """Return what the matching head predicts about impressions, (n, S) float32: log-odds of the feedback, then similarities.

    Args:
        model: that predicts.
        vectors: user vectors of each impression, (n, M, E), or (1, M, E) for all of them.
        impressions: n of them.
        items: (V, E) embeddings of the dataset's items.
    """
    item = torch.from_numpy(impressions.item.astype(np.int64))
    none = torch.zeros_like(item)  # the matching head knows no history
    questions = Questions(to_tensors(impressions.condition), none, none, item).to(model.device)
    matched = model.network.match(vectors, questions, items[item].to(model.device))
    return torch.cat([log_odds(matched.logits), matched.similarities], 1).cpu().numpy()
